public import NotificationCore

/// Tasks of one kind, which are worked off by themselves: what is slow in one queue delays no other.
public struct TaskQueue: RawRepresentable, Hashable, Sendable {
    public let rawValue: String

    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    /// Deliveries by that channel.
    public init(_ channel: DeliveryChannel) {
        self.rawValue = channel.rawValue
    }

    public static let email = TaskQueue(.email)
    public static let sms = TaskQueue(.sms)
    public static let telegram = TaskQueue(.telegram)
    public static let webhook = TaskQueue(.webhook)

    /// E-mails that are gathered: all of one user's that are ready go in one. Its tasks' key is the user.
    public static let digest = TaskQueue(rawValue: "digest")

    /// None of tasks: pokes name it when there are jobs.
    public static let jobs = TaskQueue(rawValue: "jobs")

    /// All that there are.
    public static let all: [TaskQueue] = [.email, .sms, .telegram, .webhook, .digest]
}

/// A task that this node has taken.
public struct QueuedTask: Sendable {
    /// The same over all attempts.
    public var id: NotificationID
    public var queue: TaskQueue
    /// Keys take turns: the customer, or the address, that it is for; empty: none.
    public var key: String
    public var priority: Priority
    /// With the one that it was taken for.
    public var attempts: Int
    public var user: UserID?
    public var notification: NotificationID?
    public var endpoint: String
    public var payload: String?
    public var createdAt: Timestamp
    /// Of the request that asked for it, under a part of this attempt's own; nil: it is not traced.
    public var trace: TraceContext?

    public init(
        id: NotificationID, queue: TaskQueue, key: String = "", priority: Priority = .medium, attempts: Int = 0, user: UserID? = nil,
        notification: NotificationID? = nil, endpoint: String = "", payload: String? = nil, createdAt: Timestamp,
        trace: TraceContext? = nil
    ) {
        self.id = id
        self.queue = queue
        self.key = key
        self.priority = priority
        self.attempts = attempts
        self.user = user
        self.notification = notification
        self.endpoint = endpoint
        self.payload = payload
        self.createdAt = createdAt
        self.trace = trace
    }
}

/// What becomes of a task after an attempt.
public struct TaskResult: Sendable, Equatable {
    public enum Outcome: Sendable, Equatable {
        /// Its delivery, if it is about one, is in this state for good.
        case over(DeliveryState)
        case again(after: Double)
        /// All attempts failed: it is kept, and can be begun anew.
        case dead
        /// Nothing was attempted.
        case back(after: Double)
    }

    public var task: NotificationID
    public var outcome: Outcome
    /// Why it was suppressed, or what it failed with. At most 1,000 characters are kept.
    public var reason: String?
    /// What the provider calls it. At most 200 characters are kept: it is in an index, whose entries have a bound.
    public var reference: String?

    public init(task: NotificationID, outcome: Outcome, reason: String? = nil, reference: String? = nil) {
        self.task = task
        self.outcome = outcome
        self.reason = reason.map { String(String.UnicodeScalarView($0.unicodeScalars.filter { $0 != "\0" }.prefix(1000))) }
        self.reference = reference.map { String(String.UnicodeScalarView($0.unicodeScalars.filter { $0 != "\0" }.prefix(200))) }
    }
}

/// A task that no attempt carried out.
public struct DeadLetter: Sendable {
    public var task: QueuedTask
    public var error: String?
    /// Since when it is dead.
    public var at: Timestamp
}
