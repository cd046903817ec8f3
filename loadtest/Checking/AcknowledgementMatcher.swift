/// Pairs what the API acknowledged (201) with what one stream showed, whichever came first.
struct AcknowledgementMatcher {
    /// Unpaired entries kept. Past it nothing more is kept and no claim is made about what did not pair.
    private static let limit = 16_384

    private var shown: [UInt64: NotificationID] = [:]
    private var acknowledged: [UInt64: NotificationID] = [:]
    private(set) var overflowed = false
    /// Pairs whose ids differ: the acknowledged notification was not the one shown under its number.
    private(set) var mismatched: UInt64 = 0

    /// A stream showed this notification under this number.
    mutating func show(_ id: NotificationID, seq: UInt64) {
        if let other = acknowledged.removeValue(forKey: seq) {
            if other != id { mismatched += 1 }
        } else if shown.count < Self.limit {
            shown[seq] = id
        } else {
            overflowed = true
        }
    }

    /// The API answered 201 for this notification.
    mutating func acknowledge(_ id: NotificationID, seq: UInt64) {
        if let other = shown.removeValue(forKey: seq) {
            if other != id { mismatched += 1 }
        } else if acknowledged.count < Self.limit {
            acknowledged[seq] = id
        } else {
            overflowed = true
        }
    }

    /// Acknowledged notifications that the stream did not show although it showed something else under their number.
    /// Numbers that are missing are counted by ``SequenceChecker`` and not again here.
    func lost(_ sequence: SequenceChecker) -> UInt64 {
        mismatched + (overflowed ? 0 : UInt64(acknowledged.keys.lazy.filter(sequence.showed).count))
    }
}
