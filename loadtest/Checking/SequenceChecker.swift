/// Checks that the numbers of one stream come without a hole, once, and in order.
struct SequenceChecker {
    enum Outcome: Equatable {
        case next
        /// These numbers did not come before this one. They are lost unless they still come.
        case gap(UInt64)
        /// A number that was missing came late: out of order, and no longer lost.
        case late
        case duplicate
        /// The epoch differs from the one the stream joined in, without a `resync`.
        case wrongEpoch
        /// An event before any `ready`.
        case beforeReady
    }

    /// The newest position seen: where a resume begins. Nil before the first `ready`.
    private(set) var position: StreamPosition?
    /// Numbers up to this were not for this stream to show: it joined, or was told to reload, there.
    private(set) var floor: UInt64 = 0
    private(set) var duplicated: UInt64 = 0
    private(set) var reordered: UInt64 = 0
    private(set) var wrongEpoch: UInt64 = 0
    private(set) var beforeReady: UInt64 = 0
    /// Ranges that have not come, ascending. A gap is one entry however wide it is.
    private var missing: [ClosedRange<UInt64>] = []

    /// Numbers that were passed over and have not come since.
    var missingCount: UInt64 { missing.reduce(0) { $0 + ($1.upperBound - $1.lowerBound + 1) } }

    /// A `ready`. Only the first one sets the position: a resumed stream has to go on where it stopped, so that whatever
    /// a later `ready` skips shows as a gap.
    mutating func join(_ position: StreamPosition) {
        guard self.position == nil else { return }
        self.position = position
        floor = position.seq
    }

    /// A `resync`: the client reloads its list, the stream goes on from here.
    mutating func resync(_ position: StreamPosition) {
        self.position = position
        floor = position.seq
    }

    /// An event with an `id:` other than `ready` and `resync`.
    mutating func observe(_ id: StreamPosition) -> Outcome {
        guard let last = position else {
            beforeReady += 1
            position = id
            floor = id.seq
            return .beforeReady
        }
        guard id.epoch == last.epoch else {
            wrongEpoch += 1
            position = id
            floor = id.seq
            return .wrongEpoch
        }
        if id.seq > last.seq {
            position = id
            guard id.seq > last.seq + 1 else { return .next }
            missing.append((last.seq + 1)...(id.seq - 1))
            return .gap(id.seq - last.seq - 1)
        }
        if take(id.seq) {
            reordered += 1
            return .late
        }
        duplicated += 1
        return .duplicate
    }

    /// Whether this number was to be shown and came.
    func showed(_ seq: UInt64) -> Bool {
        guard let position, seq > floor, seq <= position.seq else { return false }
        return !missing.contains { $0.contains(seq) }
    }

    /// How many numbers are lost when the sequence is known to reach `head`.
    func lost(upTo head: UInt64) -> UInt64 {
        guard let position else { return 0 }
        return missingCount + (head > position.seq ? head - position.seq : 0)
    }

    private mutating func take(_ seq: UInt64) -> Bool {
        guard let index = missing.firstIndex(where: { $0.contains(seq) }) else { return false }
        let range = missing.remove(at: index)
        if seq < range.upperBound { missing.insert((seq + 1)...range.upperBound, at: index) }
        if seq > range.lowerBound { missing.insert(range.lowerBound...(seq - 1), at: index) }
        return true
    }
}
