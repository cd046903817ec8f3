public import NIOCore
public import NIOHTTP1

/// A request as the plain routes see it: head, canonical path, query, and the whole body.
public struct GatewayRequest: Sendable {
    public var head: HTTPRequestHead
    /// Without any of the prefixes `/v1`, `/api/v1`, `/api`, percent-encoding as it came: `/notifications/sse`.
    public var path: String
    public var query: Query
    public var body: ByteBuffer
    /// Of the client's `X-Request-Id` where it is a plain word, else a new one. Goes into every answer and log line.
    public var requestID: String
    /// The client's address, from `X-Forwarded-For` where a loopback proxy says so.
    public var remoteAddress: String
    /// What becomes known of it on its way.
    public let trace: RequestTrace

    public init(
        head: HTTPRequestHead, path: String, query: Query, body: ByteBuffer, requestID: String, remoteAddress: String, trace: RequestTrace = RequestTrace()
    ) {
        self.head = head
        self.path = path
        self.query = query
        self.body = body
        self.requestID = requestID
        self.remoteAddress = remoteAddress
        self.trace = trace
    }

    /// The first value of that header.
    public func header(_ name: String) -> String? { self.head.headers.first(name: name) }

    /// A cookie's value (RFC 6265).
    public func cookie(_ name: String) -> String? { self.head.headers.cookie(name) }
}

extension HTTPHeaders {
    func cookie(_ name: String) -> String? {
        for line in self["cookie"] {
            for pair in line.split(separator: ";") {
                let trimmed = pair.drop { $0 == " " }
                guard let equals = trimmed.firstIndex(of: "="), trimmed[..<equals] == name else { continue }
                return String(trimmed[trimmed.index(after: equals)...].filter { $0 != "\"" })
            }
        }
        return nil
    }
}

/// The parameters of a query string (application/x-www-form-urlencoded), decoded. Of doubles the first counts.
public struct Query: Sendable {
    public let parameters: [(name: String, value: String)]

    public init(_ text: some StringProtocol) {
        self.parameters = text.split(separator: "&").map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (Self.decode(parts[0], plus: true), parts.count > 1 ? Self.decode(parts[1], plus: true) : "")
        }
    }

    public subscript(name: String) -> String? { self.parameters.first { $0.name == name }?.value }

    /// Percent-decoding; what is not UTF-8 becomes U+FFFD, a stray `%` stays.
    public static func decode(_ text: some StringProtocol, plus: Bool) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        var iterator = Array(text.utf8)[...]
        while let byte = iterator.popFirst() {
            if byte == UInt8(ascii: "+"), plus {
                bytes.append(UInt8(ascii: " "))
            } else if byte == UInt8(ascii: "%"), iterator.count >= 2,
                let value = UInt8(String(decoding: iterator.prefix(2), as: UTF8.self), radix: 16),
                iterator.first != UInt8(ascii: "+"), iterator.first != UInt8(ascii: "-")
            {
                iterator.removeFirst(2)
                bytes.append(value)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// An answer with a whole body.
public struct GatewayResponse: Sendable {
    public var status: HTTPResponseStatus
    public var headers: HTTPHeaders
    public var body: ByteBuffer

    public init(status: HTTPResponseStatus, headers: HTTPHeaders = HTTPHeaders(), body: ByteBuffer = ByteBuffer()) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    public static func json(_ status: HTTPResponseStatus = .ok, _ bytes: [UInt8]) -> GatewayResponse {
        GatewayResponse(status: status, headers: ["content-type": "application/json"], body: ByteBuffer(bytes: bytes))
    }
}

/// A route that answers without Hummingbird: the hot ones.
public protocol PlainRoute: Sendable {
    /// Whether its requests may be too many for a row each in the audit log: they are added up by subject and second. False unless said otherwise.
    var isOneOfMany: Bool { get }

    /// Called on the connection's event loop. The future may be of any loop.
    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse>
}

extension PlainRoute {
    public var isOneOfMany: Bool { false }
}

/// A route whose requests are too large to be held: it takes the body as it comes.
public protocol BodyRoute: Sendable {
    /// Called in a task of its own once the head is there; `request` has no body. While parts wait to be taken nothing is read from the
    /// socket. What `body` throws (a ``Problem``, or that the connection broke) goes on to the caller. It may return before the body's end:
    /// then its answer is the connection's last.
    func respond(to request: GatewayRequest, body: BodyParts) async throws -> GatewayResponse
}

/// A route that takes the connection over.
public protocol StreamRoute: Sendable {
    /// Whether its client is an EventSource, which gives up for good after any error. True unless said otherwise.
    var isEventStream: Bool { get }

    /// Called on the channel's event loop when the request is read whole and all HTTP handlers are removed: what is written to the
    /// channel from now on are raw bytes (`ByteBuffer`), the response's head included. The route closes the channel in the end.
    func open(_ request: GatewayRequest, on channel: any Channel)
}

extension StreamRoute {
    public var isEventStream: Bool { true }
}
