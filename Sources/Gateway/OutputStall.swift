import NIOCore

/// Since when a client has not taken any of the bytes that wait for it. No I/O: it is told how many there are.
struct OutputStall {
    private var since: NIODeadline?
    private var pending = 0

    mutating func cleared() { self.since = nil }

    /// Whether it has taken nothing for `bound`.
    ///
    /// - Parameter pending: bytes that wait now, at least one.
    mutating func isOver(pending: Int, now: NIODeadline, bound: TimeAmount) -> Bool {
        defer { self.pending = pending }
        guard let since = self.since, pending >= self.pending else {
            self.since = now
            return false
        }
        return now - since >= bound
    }
}
