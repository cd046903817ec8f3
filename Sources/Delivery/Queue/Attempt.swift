public import NotificationStore

/// What an attempt at a task came to, as whoever made it says.
public enum AttemptResult: Sendable, Equatable {
    /// Nothing is left to do. The state is that of its delivery, where it is about one.
    case over(DeliveryState, reason: String? = nil, reference: String? = nil)
    /// It is tried again; not before `after` where that is known.
    case later(String, after: Duration? = nil)
    /// Nothing was attempted, through no fault of the task: it does not count as an attempt.
    case notAttempted(after: Duration)
}

/// Decides what becomes of a task: done, tried again at some time, or dead. Exponential backoff with jitter: the wait is anything from a quarter of a bound to the
/// whole of it, and the bound doubles with each attempt, so that those who failed together do not come back together, and none at once.
public struct RetryPolicy: Sendable, Equatable {
    /// The first included.
    public var attempts: Int
    /// The bound of the first wait.
    public var base: Duration
    /// The bound of all waits of our own choice.
    public var cap: Duration
    /// The most that a provider may ask for.
    public var longest: Duration = .seconds(86_400)

    public init(attempts: Int = 12, base: Duration = .seconds(10), cap: Duration = .seconds(3600)) {
        self.attempts = attempts
        self.base = base
        self.cap = cap
    }

    /// - Parameters:
    ///   - attempts: how many were begun, the one that this is the result of included.
    ///   - jitter: 0 to 1, at random.
    public func decide(_ result: AttemptResult, attempts: Int, jitter: Double) -> (outcome: TaskResult.Outcome, reason: String?, reference: String?) {
        switch result {
        case .over(let state, let reason, let reference): return (.over(state), reason, reference)
        case .notAttempted(let after): return (.back(after: Self.seconds(after)), nil, nil)
        case .later(let error, let after):
            if attempts >= self.attempts { return (.dead, error, nil) }
            let wait = self.bound(attempts: attempts) * (0.25 + 0.75 * jitter)
            return (.again(after: max(wait, min(Self.seconds(after ?? .zero), Self.seconds(self.longest)))), error, nil)
        }
    }

    /// In seconds.
    func bound(attempts: Int) -> Double {
        var bound = Self.seconds(self.base)
        let cap = Self.seconds(self.cap)
        for _ in 1..<max(1, attempts) where bound < cap { bound *= 2 }
        return min(bound, cap)
    }

    static func seconds(_ duration: Duration) -> Double {
        Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18
    }
}
