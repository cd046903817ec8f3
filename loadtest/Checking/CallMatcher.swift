/// Pairs calls that were accepted without naming what they created (trigger, direct events) with what one stream showed,
/// whichever came first. Calls carry their number as `rec_id`.
struct CallMatcher {
    /// Unpaired entries kept. Past it nothing more is kept and no claim is made.
    private static let limit = 65_536

    private var accepted: Set<CallNumber> = []
    private var shown: [CallNumber: UInt64] = [:]
    /// Calls without a clear answer: they may be shown once.
    private var doubtful: Set<CallNumber> = []
    private(set) var overflowed = false

    /// A stream showed an event of this call.
    mutating func show(_ call: CallNumber) {
        guard accepted.remove(call) == nil else { return }
        guard shown.count < Self.limit else { return overflowed = true }
        shown[call, default: 0] += 1
    }

    /// The call was accepted, and this stream has to show it.
    mutating func accept(_ call: CallNumber) {
        if let count = shown[call] {
            shown[call] = count == 1 ? nil : count - 1
        } else if accepted.count < Self.limit {
            accepted.insert(call)
        } else {
            overflowed = true
        }
    }

    /// The call failed or was not answered: it may have been carried out all the same.
    mutating func doubt(_ call: CallNumber) {
        if doubtful.count < Self.limit { doubtful.insert(call) } else { overflowed = true }
    }

    /// The stream was cut: what is sent at most once is not due to it any more.
    mutating func forget() { accepted.removeAll() }

    var isWaiting: Bool { !accepted.isEmpty }
    var lost: UInt64 { overflowed ? 0 : UInt64(accepted.count) }
    var duplicated: UInt64 {
        overflowed ? 0 : shown.reduce(0) { $0 + $1.value - (doubtful.contains($1.key) ? 1 : 0) }
    }
}
