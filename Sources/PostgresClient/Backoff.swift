/// Waits between attempts: doubling from the least to the most, each one between half and the whole of it, so that many clients of a server that
/// comes back do not all come at once.
struct Backoff {
    private let least: Duration
    private let most: Duration
    private var next: Duration

    init(least: Duration, most: Duration) {
        self.least = least
        self.most = most
        next = least
    }

    mutating func reset() {
        next = least
    }

    /// - Parameter chance: from 0 up to 1.
    mutating func wait(chance: Double) -> Duration {
        defer { next = min(next * 2, most) }
        return next * (0.5 + 0.5 * chance)
    }
}
