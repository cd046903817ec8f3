import Authentication
import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore
import Synchronization

/// What becomes of whoever asks for a stream, over whichever transport.
enum Opening: Sendable {
    /// It has its places, in its user's limit and in this process: the stream's end gives both back.
    case granted(StreamRequest, Lease)
    case refused(Problem)
    /// The automatic reconnect of a stream that was evicted a moment ago.
    case evictedBefore
    /// This node cannot serve it now, but there is nothing wrong with it.
    case away(StreamFrame.CloseReason, retry: Int)
}

extension Edge {
    /// Finds out who asks and takes a place for the stream.
    func admit(
        _ transport: Transport, on eventLoop: any EventLoop, _ authenticate: @escaping @Sendable () async throws(Problem) -> StreamRequest
    ) -> EventLoopFuture<Opening> {
        if self.isDraining { return eventLoop.makeSucceededFuture(self.away(.draining, retry: EdgeConfiguration.drainRetryMilliseconds())) }
        guard self.connectionBegins() else {
            return eventLoop.makeSucceededFuture(self.away(.disconnected, retry: EdgeConfiguration.retryMilliseconds()))
        }
        let promise = eventLoop.makePromise(of: Opening.self)
        promise.completeWithTask {
            do {
                let stream = try await authenticate()
                let lease = Lease(user: stream.user, connection: NotificationID.make(), openedAt: Timestamp.now(), transport: transport)
                switch try await self.leases.acquire(lease, fingerprint: stream.fingerprint).get() {
                case .granted: return .granted(stream, lease)
                case .refused:
                    self.connectionEnded()
                    self.metrics.refused.add(1, ordering: .relaxed)
                    return .refused(
                        Problem(
                            .tooManyRequests, "rate_limited", "This user has as many streams open as it may have.", headers: ["retry-after": "60"]))
                case .evictedBefore:
                    self.connectionEnded()
                    return .evictedBefore
                }
            } catch {
                self.connectionEnded()
                if let problem = error as? Problem, problem.status != .serviceUnavailable { return .refused(problem) }
                // Something is out of reach.
                return self.away(.disconnected, retry: EdgeConfiguration.retryMilliseconds())
            }
        }
        return promise.futureResult
    }

    private func away(_ reason: StreamFrame.CloseReason, retry: Int) -> Opening {
        self.metrics.refused.add(1, ordering: .relaxed)
        return .away(reason, retry: retry)
    }

    /// A granted stream whose client is gone before it began.
    func giveBack(_ lease: Lease) {
        self.leases.release([lease])
        self.connectionEnded()
    }

    /// A whole answer on a connection that was taken over, which ends with it.
    func answer(_ request: GatewayRequest, _ channel: any Channel, _ response: GatewayResponse) {
        var bytes = ByteBuffer()
        bytes.writeString("HTTP/1.1 \(response.status.code) \(response.status.reasonPhrase)\r\n")
        var headers = response.headers
        headers.add(contentsOf: self.origins.responseHeaders(for: request.head.headers))
        headers.replaceOrAdd(name: "x-request-id", value: request.requestID)
        headers.replaceOrAdd(name: "connection", value: "close")
        if response.status != .noContent { headers.replaceOrAdd(name: "content-length", value: String(response.body.readableBytes)) }
        bytes.write(headers)
        bytes.writeImmutableBuffer(response.body)
        channel.writeAndFlush(bytes, promise: nil)
        EdgeLoop.closeGently(channel, on: channel.eventLoop)
    }

    /// The cookie that a ticket is turned into; nil where none was used, and where a link was followed: no EventSource does that, but a page of a
    /// stranger could have a visitor become another user so (login CSRF). `Sec-Fetch-Mode`: Fetch Metadata, 2.2.
    func sessionCookie(_ request: GatewayRequest, _ stream: StreamRequest) -> String? {
        guard let session = stream.session, request.header("sec-fetch-mode")?.lowercased() != "navigate" else { return nil }
        let life = max(0, stream.token.expiresAt - Timestamp.now().seconds)
        // Behind a proxy that ends TLS the request itself is plain.
        let secure = request.header("x-forwarded-proto") == "https" ? "; Secure" : ""
        return "\(self.cookieName)=\(session); Path=/; Max-Age=\(life); HttpOnly; SameSite=Lax\(secure)"
    }
}

extension ByteBuffer {
    /// Names in the usual spelling, which some clients still want.
    mutating func write(_ headers: HTTPHeaders) {
        for (name, value) in headers {
            let spelled = name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined(separator: "-")
            self.writeString("\(spelled): \(value)\r\n")
        }
        self.writeString("\r\n")
    }
}
