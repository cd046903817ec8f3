public import NotificationCore

/// Where some events are told to.
public struct Webhook: Sendable, Equatable {
    public enum Status: String, Sendable, CaseIterable {
        case active = "ACTIVE"
        /// Its last delivery failed in all attempts: what is for it waits until it is enabled.
        case failed = "FAILED"
        /// Nothing is for it.
        case disabled = "DISABLED"
    }

    /// Of one customer, and of those who belong to none.
    public static let limit = 50
    /// How long the secret before a rotation stays good, in hours.
    public static let overlapHours = 24

    public var id: NotificationID
    public var url: String
    public var events: [String]
    public var customer: String?
    public var description: String?
    public var status = Status.active
    public var failureCount = 0
    public var lastError: String?
    public var createdAt: Timestamp

    public init(id: NotificationID, url: String, events: [String], customer: String? = nil, description: String? = nil, createdAt: Timestamp) {
        self.id = id
        self.url = url
        self.events = events
        self.customer = customer
        self.description = description
        self.createdAt = createdAt
    }
}

/// One call of a webhook.
public struct WebhookAttemptRecord: Sendable {
    public var id: NotificationID
    /// The call's `webhook-id`.
    public var delivery: NotificationID
    public var type: String
    /// Of its delivery, from 1; 0: a test.
    public var number: Int
    public var at: Timestamp
    public var status: Int?
    public var milliseconds: Int
    /// Nil: it was accepted.
    public var error: String?
    public var answer: String

    /// What an endpoint said may be anything; Postgres has no text with U+0000.
    public init(
        delivery: NotificationID, type: String, number: Int, status: Int?, milliseconds: Int, error: String?, answer: [UInt8], at: Timestamp = .now()
    ) {
        self.id = .make()
        self.delivery = delivery
        self.type = type
        self.number = number
        self.at = at
        self.status = status
        self.milliseconds = milliseconds
        self.error = error.map { String(String.UnicodeScalarView($0.unicodeScalars.filter { $0 != "\0" }.prefix(1000))) }
        self.answer = String(decoding: answer.filter { $0 != 0 }, as: UTF8.self)
    }

    init(id: NotificationID, delivery: NotificationID, type: String, number: Int, at: Timestamp, status: Int?, milliseconds: Int, error: String?, answer: String) {
        self.id = id
        self.delivery = delivery
        self.type = type
        self.number = number
        self.at = at
        self.status = status
        self.milliseconds = milliseconds
        self.error = error
        self.answer = answer
    }
}

/// An event that is nobody's notification.
public struct WebhookEvent: Sendable {
    public var id: NotificationID
    public var type: String
    public var event: String?
    public var customer: String?
    public var at: Timestamp
    /// A JSON object.
    public var data: String

    public init(id: NotificationID, type: String, event: String?, customer: String?, at: Timestamp, data: String) {
        self.id = id
        self.type = type
        self.event = event
        self.customer = customer
        self.at = at
        self.data = data
    }

    /// Under which it is sent: `type.event`, or `type`.
    public static func name(type: String, event: String?) -> String { event.map { type + "." + $0 } ?? type }
}
