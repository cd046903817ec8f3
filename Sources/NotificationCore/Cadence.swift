/// Moments that everything in this process that looks around from time to time shares, so that an idle process sleeps in between. Each process has an
/// offset of its own by chance: the nodes of a cluster do not ask their servers all at once.
public enum Cadence {
    private static let start = ContinuousClock.now - .milliseconds(Int.random(in: 0..<60_000))

    /// Sleeps until the next whole multiple of `period`: what does so in a loop happens once a period at most, and follows at once when it took almost that long.
    ///
    /// - Parameter period: above zero.
    /// - Throws: `CancellationError` as soon as the task is cancelled.
    public static func sleep(_ period: Duration) async throws {
        let now = ContinuousClock.now
        try await Task.sleep(for: self.pause(after: now - self.start, period: period), clock: .continuous)
    }

    /// How long it is from `elapsed` until a multiple.
    static func pause(after elapsed: Duration, period: Duration) -> Duration {
        precondition(period > .zero, "a cadence needs a period above zero")
        let (time, step) = (Self.nanoseconds(elapsed), max(1, Self.nanoseconds(period)))
        return .nanoseconds(step - time % step)
    }

    private static func nanoseconds(_ duration: Duration) -> Int64 {
        duration.components.seconds * 1_000_000_000 + duration.components.attoseconds / 1_000_000_000
    }
}
