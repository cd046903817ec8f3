public import NotificationCore

/// What one request writes: a notification for each user who has a channel left.
public struct NotifyPlan: Sendable {
    public struct Entry: Sendable {
        public var id: NotificationID
        public var user: UserID

        public init(id: NotificationID, user: UserID) {
            self.id = id
            self.user = user
        }
    }

    public struct Skipped: Sendable {
        public var user: UserID
        public var reason: Suppression

        public init(user: UserID, reason: Suppression) {
            self.user = user
            self.reason = reason
        }
    }

    /// In the order of the request, as `entries`.
    public var commands: [InboxCommand] = []
    public var entries: [Entry] = []
    public var skipped: [Skipped] = []

    public init(commands: [InboxCommand] = [], entries: [Entry] = [], skipped: [Skipped] = []) {
        self.commands = commands
        self.entries = entries
        self.skipped = skipped
    }
}

/// Decides who gets a notification, and by which channels.
public struct NotifyPlanner: Sendable {
    public init() {}

    /// Calls `completion` once all is known, perhaps before it returns; on a thread that must not be blocked.
    public func plan(
        _ request: NotifyRequest, users: [UserID], now: Timestamp, completion: @escaping @Sendable (Result<NotifyPlan, StoreError>) -> Void
    ) {
        var plan = NotifyPlan()
        plan.commands.reserveCapacity(users.count)
        plan.entries.reserveCapacity(users.count)
        let body = String(decoding: request.encodeBody(createdAt: now), as: UTF8.self)
        let template = NewNotification(id: NotificationID.make(now: now), request: request, body: body, createdAt: now)
        for user in users {
            var new = template
            new.id = NotificationID.make(now: now)
            plan.commands.append(InboxCommand(user: user, action: .create(new)))
            plan.entries.append(NotifyPlan.Entry(id: new.id, user: user))
        }
        completion(.success(plan))
    }
}
