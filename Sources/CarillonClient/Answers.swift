public import Foundation

/// What became of ``CarillonClient/createNotification(_:for:idempotencyKey:)``: all of it is committed.
public struct NotificationReceipt: Sendable, Hashable, Decodable {
    public struct Entry: Sendable, Hashable, Decodable {
        public let id: UUID
        public let userID: String
        /// Its number in the user's sequence; nil: without `in_app`, or not yet due.
        public let seq: Int64?

        private enum CodingKeys: String, CodingKey {
            case id, seq
            case userID = "user_id"
        }
    }

    /// A user for whom no channel remained.
    public struct Skipped: Sendable, Hashable, Decodable {
        public struct Reason: RawRepresentable, Sendable, Hashable, Decodable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let preference = Self(rawValue: "preference")
            public static let noContact = Self(rawValue: "no_contact")
            public static let notConfigured = Self(rawValue: "not_configured")
            public static let rateLimited = Self(rawValue: "rate_limited")
        }

        public let userID: String
        public let reason: Reason

        private enum CodingKeys: String, CodingKey {
            case reason
            case userID = "user_id"
        }
    }

    public let notifications: [Entry]
    public let skipped: [Skipped]
    /// An earlier request with the same `Idempotency-Key` made them, perhaps this call's own first attempt.
    public internal(set) var isReplayed = false

    private enum CodingKeys: String, CodingKey {
        case notifications, skipped
    }
}

/// A job that is durable: it is carried out, whichever node dies.
public struct TriggeredJob: Sendable, Hashable, Decodable {
    public let id: UUID
    /// An earlier request with the same `Idempotency-Key` made it, perhaps this call's own first attempt.
    public internal(set) var isReplayed = false

    private enum CodingKeys: String, CodingKey {
        case id = "job_id"
    }
}

/// How far a job is.
public struct JobStatus: Sendable, Hashable, Decodable {
    public struct State: RawRepresentable, Sendable, Hashable, Decodable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
    }

    public let state: State
    /// Users.
    public let total: Int
    public let done: Int
    public let skipped: Int
    public let failed: Int
}

/// A direct event is on its way to those who are connected now.
public struct DirectReceipt: Sendable, Hashable, Decodable {
    public let message: String
    /// How many edge nodes it was handed to.
    public let edges: Int
}

/// A user's badge.
public struct NotificationCount: Sendable, Hashable, Decodable {
    public let unread: Int
    public let unseen: Int
    /// Unread by type; those with none are absent.
    public let byType: [String: Int]
    /// A stream opened with it continues with no seam.
    public let lastEventID: String

    private enum CodingKeys: String, CodingKey {
        case unread, unseen
        case byType = "by_type"
        case lastEventID = "last_event_id"
    }
}

/// Where a user is reached.
public struct Contact: Sendable, Hashable, Codable {
    public var email: String?
    /// E.164: `+33123456789`.
    public var phone: String?
    /// BCP 47: `fr-FR`.
    public var locale: String?
    /// Of the tz database: `Europe/Paris`.
    public var timezone: String?
    public var telegramChatID: String?

    public init(email: String? = nil, phone: String? = nil, locale: String? = nil, timezone: String? = nil, telegramChatID: String? = nil) {
        self.email = email
        self.phone = phone
        self.locale = locale
        self.timezone = timezone
        self.telegramChatID = telegramChatID
    }

    private enum CodingKeys: String, CodingKey {
        case email, phone, locale, timezone
        case telegramChatID = "telegram_chat_id"
    }
}
