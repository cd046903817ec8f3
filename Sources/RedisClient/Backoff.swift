internal import NIOCore

/// How long to wait before the next attempt to connect: doubling from `initial` to `maximum`, each time a random share of it from half to
/// all, so that the nodes of a cluster do not come back in step.
struct Backoff: Sendable {
    let initial: TimeAmount
    let maximum: TimeAmount
    private(set) var attempts = 0

    init(initial: TimeAmount, maximum: TimeAmount) {
        precondition(initial > .zero && initial <= maximum, "a backoff grows from more than zero to its maximum")
        self.initial = initial
        self.maximum = maximum
    }

    /// - Parameter slowly: at the maximum at once, for what only an operator can mend.
    mutating func next(slowly: Bool = false, using generator: inout some RandomNumberGenerator) -> TimeAmount {
        // 2^20 times any sensible start is past any sensible maximum; the bound keeps the shift from overflowing.
        let grown = initial.nanoseconds.multipliedReportingOverflow(by: 1 << Int64(min(attempts, 20)))
        let full = slowly || grown.overflow ? maximum.nanoseconds : min(grown.partialValue, maximum.nanoseconds)
        attempts += 1
        return .nanoseconds(Int64.random(in: full / 2...full, using: &generator))
    }

    mutating func reset() {
        attempts = 0
    }
}
