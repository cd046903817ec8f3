public import Logging
public import NotificationCore
public import NotificationStore
public import PostgresClient

/// Sends what is queued for one channel. What it says is made now, with the notification, the contact and the catalogue as they are now.
public struct DeliveryHandler: TaskHandler {
    /// Why something that was queued is not sent after all.
    enum Hindrance: String {
        /// Deleted, expired and removed, taken back, or replaced by a later one.
        case gone
        case expired
        case read
        /// Turned off meanwhile.
        case preference
        case noContact = "no_contact"
    }

    private let channel: DeliveryChannel
    private let sender: any ChannelSender
    private let source: DeliveryMaterials
    private let catalogue: @Sendable () -> Catalogue
    private let unsubscribe: @Sendable (UnsubscribeScope) -> String?
    private let logger: Logger

    /// - Parameter unsubscribe: the link by which somebody is rid of such messages; nil: there is none.
    public init(
        _ channel: DeliveryChannel, sender: any ChannelSender, pool: PostgresPool, catalogue: @escaping @Sendable () -> Catalogue, logger: Logger,
        unsubscribe: @escaping @Sendable (UnsubscribeScope) -> String? = { _ in nil }
    ) {
        self.channel = channel
        self.sender = sender
        self.source = DeliveryMaterials(pool: pool, logger: logger)
        self.catalogue = catalogue
        self.unsubscribe = unsubscribe
        self.logger = logger
    }

    public func materials(for tasks: [QueuedTask]) async throws(StoreError) -> [DeliveryMaterial?] {
        try await self.source.read(tasks)
    }

    public func attempt(_ task: QueuedTask, _ material: DeliveryMaterial?) async -> AttemptResult {
        switch self.message(task, material) {
        case .message(let message): Self.result(await self.sender.send(message))
        case .none(let result): result
        }
    }

    /// What there is to send, or why there is nothing.
    enum Made: Sendable {
        case message(OutgoingMessage)
        case none(AttemptResult)
    }

    func message(_ task: QueuedTask, _ material: DeliveryMaterial?, now: Timestamp = .now()) -> Made {
        guard let material else { return .none(Self.suppressed(.gone)) }
        if material.isExpired { return .none(Self.suppressed(.expired)) }
        // Where the user is reached now: an address that was given up meanwhile is not written to.
        guard let address = material.recipient.contact?.endpoint(self.channel) else { return .none(Self.suppressed(.noContact)) }
        guard let user = task.user, let notification = task.notification else { return .none(.over(.failed, reason: "the task names no notification")) }
        let text: OutgoingText
        do {
            text = try OutgoingText(
                self.channel, stored: material.body, payload: task.payload, locale: material.recipient.contact?.locale, catalogue: self.catalogue())
        } catch {
            self.logger.error("message not made", metadata: ["notification": "\(notification)", "error": "\(error)"])
            return .none(.over(.failed, reason: "the message could not be made: \((error as? ValidationError)?.errors.first?.detail ?? "it is not understood")"))
        }
        if text.unlessRead, material.isRead { return .none(Self.suppressed(.read)) }
        // What the user says now counts: unsubscribed meanwhile, or tried again in the middle of the night.
        let recipient = material.recipient
        let decision = ChannelDecision(
            self.channel, type: text.type, event: text.event, own: recipient.own, customer: recipient.customer, required: text.isRequired ? [self.channel] : [],
            byDefault: true)
        guard decision.enabled else { return .none(Self.suppressed(.preference)) }
        if self.channel == .email || self.channel == .sms, !text.isRequired, material.priority != .urgent, let end = recipient.quietEnd(at: now) {
            return .none(.notAttempted(after: .microseconds(max(0, end.microseconds - now.microseconds))))
        }
        var message = OutgoingMessage(
            deliveryID: task.id.description, channel: self.channel, userID: user, notificationID: notification, customerID: material.customer,
            address: address, subject: text.subject, text: text.text, html: text.html,
            urgent: material.priority == .urgent)
        if self.channel == .email, !text.isRequired {
            let scope = UnsubscribeScope(user: user, channel: self.channel, types: [text.type], customers: material.customer.map { [$0] } ?? [])
            message.unsubscribe = scope
            message.unsubscribeURL = self.unsubscribe(scope)
        }
        return .message(message)
    }

    private static func suppressed(_ hindrance: Hindrance) -> AttemptResult { .over(.suppressed, reason: hindrance.rawValue) }

    static func result(_ result: SendResult) -> AttemptResult {
        switch result {
        case .sent(let reference): .over(.sent, reference: reference)
        case .delivered(let reference): .over(.delivered, reference: reference)
        case .refused(let reason): .over(.failed, reason: reason)
        case .later(let error, let after): .later(error, after: after)
        case .notSent: .notAttempted(after: .seconds(1))
        }
    }
}
