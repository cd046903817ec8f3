/// What went wrong with a command, a subscription or a connection, and what to do about it.
public struct RedisError: Error, Sendable, Hashable {
    public enum Code: Sendable, Hashable {
        /// Not connected: the command was not sent. Try again once the client is available.
        case unavailable
        /// The connection ended while the answer was awaited: whether the command was done is unknown.
        case connectionLost
        /// The server was silent for too long while the answer was awaited: whether the command was done is unknown.
        case timedOut
        /// The bound of what may be in flight is reached: the command was not sent. Send less, or later.
        case queueFull
        /// The server sent what is no RESP, or an answer to nothing that was asked. The connection was closed.
        case protocolViolation
        /// The server answered with an error; see ``RedisError/serverCode``.
        case server
        /// The address is not a `redis://` or `rediss://` URL.
        case invalidURL
        /// TLS could not be set up, or the server's certificate was not accepted.
        case tls
        /// The channel was unsubscribed before the server confirmed the subscription.
        case cancelled
    }

    public let code: Code

    /// For ``Code/server`` the server's whole line without the leading `-`; else a sentence of the client's own.
    public let message: String

    public init(code: Code, message: String) {
        self.code = code
        self.message = message
    }

    /// For ``Code/server`` the first word of the error, such as `NOSCRIPT`, `READONLY`, `LOADING` or `WRONGTYPE`; else nil.
    public var serverCode: String? {
        guard code == .server else { return nil }
        return String(message.prefix { $0 != " " })
    }
}

extension RedisError: CustomStringConvertible {
    public var description: String { "redis \(code): \(message)" }
}

extension RedisError {
    static let unavailable = RedisError(code: .unavailable, message: "not connected to Redis; nothing was sent, try again once it is available")
    static let shutDown = RedisError(code: .unavailable, message: "the client was shut down; nothing was sent")
    static let queueFull = RedisError(code: .queueFull, message: "too much is in flight to Redis; nothing was sent, try again later")
    static let connectionLost = RedisError(code: .connectionLost, message: "the connection to Redis ended; what was in flight may or may not have been done")
    static let timedOut = RedisError(code: .timedOut, message: "Redis was silent for too long; what was in flight may or may not have been done")
    static let cancelled = RedisError(code: .cancelled, message: "unsubscribed before the subscription was confirmed")

    static func violation(_ what: String) -> RedisError {
        RedisError(code: .protocolViolation, message: "\(what); the connection was closed, check that the address is a Redis server")
    }

    /// Whether trying again soon is pointless: somebody has to change a password, a permission or a certificate first.
    var needsAnOperator: Bool {
        switch code {
        case .server:
            switch serverCode {
            case "LOADING", "MASTERDOWN", "READONLY", "BUSY", "TRYAGAIN": false
            default: true
            }
        case .tls, .protocolViolation, .invalidURL: true
        case .unavailable, .connectionLost, .timedOut, .queueFull, .cancelled: false
        }
    }
}
