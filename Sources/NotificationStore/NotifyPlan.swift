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
    /// Nobody was asked what is known of its only user.
    public var isGuess = false

    public init(commands: [InboxCommand] = [], entries: [Entry] = [], skipped: [Skipped] = []) {
        self.commands = commands
        self.entries = entries
        self.skipped = skipped
    }
}

/// Decides who gets a notification, and by which channels.
public struct NotifyPlanner: Sendable {
    /// The channels that have a sender.
    private let configured: Set<DeliveryChannel>
    private let recipients: RecipientReader?

    /// - Parameter recipients: nil: nothing is known of anybody, and what the catalogue says holds.
    public init(recipients: RecipientReader? = nil, configured: Set<DeliveryChannel> = [.inApp]) {
        self.recipients = recipients
        self.configured = configured
    }

    /// Calls `completion` once all is known, perhaps before it returns; on a thread that must not be blocked.
    ///
    /// It fails as ``RecipientReader`` does: then nothing is planned for anybody.
    public func plan(
        _ request: NotifyRequest, users: [UserID], now: Timestamp, completion: @escaping @Sendable (Result<NotifyPlan, StoreError>) -> Void
    ) {
        let planning = Planning(request: request, now: now, configured: self.configured, count: users.count)
        guard let recipients else {
            completion(.success(planning.adding(users, [:]).finished))
            return
        }
        recipients.fold(users[...], customer: request.customer, into: planning, { $0.adding($1, $2) }) { completion($0.map(\.finished)) }
    }
}

extension NotifyPlanner {
    /// The plan for a user of whom nothing is known. Nil where it could not be told afterwards from the list whether it was written: it has no place
    /// there, or not yet.
    func guess(_ request: NotifyRequest, user: UserID, now: Timestamp) -> NotifyPlan? {
        guard request.deliverAt == nil else { return nil }
        var plan = Planning(request: request, now: now, configured: self.configured, count: 1).adding([user], [:]).finished
        guard plan.commands.count == 1, case .create(var new) = plan.commands[0].action, new.inApp else { return nil }
        new.isGuess = true
        plan.commands[0].action = .create(new)
        plan.isGuess = true
        return plan
    }
}

/// A plan in the making.
private struct Planning: Sendable {
    let request: NotifyRequest
    private let now: Timestamp
    private let configured: Set<DeliveryChannel>
    private let usual: RecipientRouting
    /// What texts outside of the application are made of, later.
    private let payload: String?
    private var plan = NotifyPlan()
    /// Of users who get nothing. They come after all others, so that commands and entries match.
    private var skips: [InboxCommand] = []
    /// By translation; nil is the standard text.
    private var templates: [LocaleTag?: NewNotification] = [:]

    init(request: NotifyRequest, now: Timestamp, configured: Set<DeliveryChannel>, count: Int) {
        self.request = request
        self.now = now
        self.configured = configured
        self.usual = RecipientRouting(.unknown, of: request, now: now, configured: configured)
        self.payload = request.templatePayload
        self.plan.commands.reserveCapacity(count)
        self.plan.entries.reserveCapacity(count)
    }

    var finished: NotifyPlan {
        var plan = self.plan
        plan.commands += self.skips
        return plan
    }

    consuming func adding(_ users: [UserID], _ found: RecipientReader.Found) -> Planning {
        for user in users {
            if let recipient = found[user] {
                let routing = RecipientRouting(recipient, of: self.request, now: self.now, configured: self.configured)
                self.add(user, routing, locale: recipient.contact?.locale)
            } else {
                self.add(user, self.usual, locale: nil)
            }
        }
        return self
    }

    private mutating func add(_ user: UserID, _ routing: RecipientRouting, locale: String?) {
        let id = NotificationID.make(now: self.now)
        let deliveries = self.deliveries(routing)
        if let reason = routing.skipped {
            self.plan.skipped.append(NotifyPlan.Skipped(user: user, reason: reason))
            let skipped = SkippedNotification(id: id, request: self.request, deliveries: deliveries, body: self.template(locale).body)
            self.skips.append(InboxCommand(user: user, action: .skip(skipped)))
            return
        }
        var new = self.template(locale)
        new.id = id
        new.inApp = routing.inApp
        new.deliveries = deliveries
        self.plan.commands.append(InboxCommand(user: user, action: .create(new)))
        self.plan.entries.append(NotifyPlan.Entry(id: id, user: user))
    }

    /// The text is encoded once for each translation.
    private mutating func template(_ locale: String?) -> NewNotification {
        let translation = self.request.translation(for: locale)
        if let known = self.templates[translation] { return known }
        let request = self.request.localized(locale)
        let body = String(decoding: request.encodeBody(createdAt: self.now), as: UTF8.self)
        let template = NewNotification(id: NotificationID(high: 0, low: 0), request: request, body: body, createdAt: self.now)
        self.templates[translation] = template
        return template
    }

    private func deliveries(_ routing: RecipientRouting) -> [NewDelivery] {
        if routing.sendings.isEmpty, routing.suppressed.isEmpty { return [] }
        return routing.sendings.map {
            NewDelivery(
                channel: $0.channel, endpoint: $0.endpoint, state: .queued, notBefore: $0.notBefore, isGathered: $0.isGathered, payload: self.payload)
        }
            + routing.suppressed.map { NewDelivery(channel: $0.channel, state: .suppressed, reason: $0.reason) }
    }
}
