/// When messages are due, fixed before the first one is sent and unmoved by how the server does.
///
/// Message `i` of all is due at `origin + i / rate`; a schedule takes every `stride`-th from `offset` on, so that several
/// event loops share one evenly spaced stream of messages.
struct OpenLoopSchedule {
    let origin: UInt64
    /// Messages per second of all shares together.
    let rate: Double
    /// Messages of all shares together.
    let count: UInt64
    let stride: UInt64
    private var index: UInt64

    init(origin: UInt64, rate: Double, seconds: Double, offset: Int = 0, stride: Int = 1) {
        precondition(rate >= 0 && seconds >= 0 && stride > 0 && (0..<stride).contains(offset))
        self.origin = origin
        self.rate = rate
        count = UInt64((rate * seconds).rounded(.down))
        self.stride = UInt64(stride)
        index = UInt64(offset)
    }

    /// When the next message is due in nanoseconds, or nil after the last one. Computed from the index, so that rounding
    /// does not add up.
    var nextDue: UInt64? {
        index < count ? origin + UInt64(Double(index) * 1e9 / rate) : nil
    }

    /// Takes the next message if it is due.
    mutating func takeDue(at now: UInt64) -> UInt64? {
        guard let due = nextDue, due <= now else { return nil }
        index += stride
        return due
    }
}
