public import NIOHTTP1
public import NotificationCore
public import NotificationStore
import NIOCore

/// An error as it is answered: `application/problem+json` (RFC 9457).
public struct Problem: Error, Sendable {
    public var status: HTTPResponseStatus
    /// For programs, such as `notifications_m.not_found`.
    public var code: String
    public var detail: String
    public var errors: [FieldError]
    public var headers: HTTPHeaders

    public init(_ status: HTTPResponseStatus, _ code: String, _ detail: String, errors: [FieldError] = [], headers: HTTPHeaders = HTTPHeaders()) {
        self.status = status
        self.code = "notifications_m." + code
        self.detail = detail
        self.errors = errors
        self.headers = headers
    }

    public static func invalidBody(_ detail: String) -> Problem { Problem(.badRequest, "invalid_body", detail) }
    public static let invalidID = Problem(.badRequest, "invalid_id", "The id is not a UUID.")
    public static let invalidUser = Problem(
        .unauthorized, "invalid_user_id", "A valid token of a user is needed.", headers: ["www-authenticate": "Bearer"])
    public static let unauthorized = Problem(.unauthorized, "unauthorized", "A valid API key is needed.", headers: ["www-authenticate": "Bearer"])
    public static func forbidden(_ detail: String) -> Problem { Problem(.forbidden, "forbidden", detail) }
    public static let notFound = Problem(.notFound, "not_found", "There is no such thing here.")
    public static func conflict(_ detail: String) -> Problem { Problem(.conflict, "conflict", detail) }
    public static func tooLarge(limit: Int) -> Problem { Problem(.payloadTooLarge, "too_large", "The body may have at most \(limit) bytes.") }
    public static func wrongRole(_ role: String) -> Problem {
        Problem(.misdirectedRequest, "wrong_role", "This node does not have the role \(role): ask another one, or the load balancer.")
    }
    public static func invalidField(_ pointer: String, _ detail: String) -> Problem {
        Problem(.unprocessableEntity, "invalid_body", detail, errors: [FieldError(pointer: pointer, detail: detail)])
    }
    /// - Parameter seconds: until it is worth trying again.
    public static func rateLimited(seconds: Int) -> Problem {
        Problem(.tooManyRequests, "rate_limited", "These were more requests than the limit allows; try again in \(seconds) s.", headers: ["retry-after": String(seconds)])
    }
    public static func unavailable(_ detail: String = "The database is out of reach. Nothing was written; try again.") -> Problem {
        Problem(.serviceUnavailable, "unavailable", detail, headers: ["retry-after": "1"])
    }

    public init(_ error: ValidationError) {
        self.init(.unprocessableEntity, "", error.errors.first.map { "\($0.pointer): \($0.detail)" } ?? "The request is not valid.", errors: error.errors)
        self.code = error.code.rawValue
    }

    /// - Parameter failure: the code, without its prefix, for an error of the service itself.
    public init(_ error: StoreError, failure: String) {
        switch error.code {
        case .unavailable: self = .unavailable()
        case .inDoubt: self = .unavailable("The connection to the database broke. Whether this was written is not known; try again with the same Idempotency-Key.")
        case .overloaded: self = .unavailable("Too many writes are waiting. Nothing was written; try again.")
        case .refused: self.init(.unprocessableEntity, "invalid_body", "The database refused these values. Nothing was written.")
        case .failed: self.init(.internalServerError, failure, "Something went wrong here. It is in the log under the request's id.")
        }
    }

    public func body(instance: String) -> [UInt8] {
        var members: [(name: String, value: JSONValue)] = [
            ("type", .string("about:blank")), ("title", .string(self.status.reasonPhrase)), ("status", .number(String(self.status.code))),
            ("detail", .string(self.detail)), ("instance", .string(instance)), ("code", .string(self.code)),
        ]
        if !self.errors.isEmpty {
            members.append(
                ("errors", .array(self.errors.map { .object([("pointer", .string($0.pointer)), ("detail", .string($0.detail))]) })))
        }
        return JSONValue.object(members).encoded
    }

    public func response(instance: String) -> GatewayResponse {
        var headers = self.headers
        headers.replaceOrAdd(name: "content-type", value: "application/problem+json")
        return GatewayResponse(status: self.status, headers: headers, body: ByteBuffer(bytes: self.body(instance: instance)))
    }
}
