import Foundation

/// Why a call did not succeed: the service's own answer (RFC 9457), or what kept it from answering.
public struct CarillonError: Error, Sendable, CustomStringConvertible {
    /// The service's `code` (`notifications_m.not_found`), or one of the client's own. New ones may come: none of a `switch` is the last.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// The connection failed, or broke.
        public static let connection = Self(rawValue: "connection")
        /// There was no answer within ``CarillonClient/Configuration/timeout``.
        public static let timeout = Self(rawValue: "timeout")
        /// The calling task was cancelled.
        public static let cancelled = Self(rawValue: "cancelled")
        /// The answer is not one of this service.
        public static let invalidAnswer = Self(rawValue: "invalid_answer")
        /// What was asked for cannot be sent.
        public static let invalidRequest = Self(rawValue: "invalid_request")
        /// The sequence of users threw.
        public static let usersFailed = Self(rawValue: "users_failed")

        public static let invalidBody = Self(rawValue: "notifications_m.invalid_body")
        public static let invalidType = Self(rawValue: "notifications_m.invalid_group")
        public static let invalidEvent = Self(rawValue: "notifications_m.invalid_event")
        public static let invalidChannel = Self(rawValue: "notifications_m.invalid_channel")
        public static let invalidID = Self(rawValue: "notifications_m.invalid_id")
        public static let unauthorized = Self(rawValue: "notifications_m.unauthorized")
        public static let forbidden = Self(rawValue: "notifications_m.forbidden")
        public static let notFound = Self(rawValue: "notifications_m.not_found")
        public static let conflict = Self(rawValue: "notifications_m.conflict")
        public static let tooLarge = Self(rawValue: "notifications_m.too_large")
        public static let rateLimited = Self(rawValue: "notifications_m.rate_limited")
        public static let unavailable = Self(rawValue: "notifications_m.unavailable")
    }

    /// What is wrong with one field.
    public struct FieldError: Sendable, Hashable, Decodable {
        /// A JSON pointer (RFC 6901) into the body, or a parameter's name.
        public let pointer: String
        public let detail: String
    }

    public var code: Code
    public var message: String
    /// The answer's status; nil when there was none.
    public var status: Int?
    public var errors: [FieldError]
    /// Finds the request in the service's logs.
    public var requestID: String?
    /// How long the service wants to be left alone.
    public var retryAfter: Duration?
    /// Whether the request may have been carried out all the same. Where it carried an `Idempotency-Key`, repeat it with the same.
    public var mayHaveHappened: Bool
    /// How often the request was sent.
    public var attempts: Int

    init(_ code: Code, _ message: String, mayHaveHappened: Bool = false) {
        self.code = code
        self.message = message
        self.errors = []
        self.mayHaveHappened = mayHaveHappened
        self.attempts = 0
    }

    public var description: String {
        var text = "\(self.code.rawValue): \(self.message)"
        if let status { text += " (status \(status))" }
        if let requestID { text += " [request \(requestID)]" }
        return text
    }
}

/// The body of an error (RFC 9457).
struct ProblemBody: Decodable {
    var title: String?
    var detail: String?
    var code: String?
    var errors: [CarillonError.FieldError]?
}
