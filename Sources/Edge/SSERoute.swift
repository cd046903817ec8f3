import Authentication
public import Gateway
import Logging
public import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore
import Synchronization

/// `GET /notifications/sse`: the stream (WHATWG HTML, 9.2 Server-sent events). The answer is delimited by close.
public struct SSERoute: StreamRoute {
    let edge: Edge
    let authenticator: StreamAuthenticator

    public func open(_ request: GatewayRequest, on channel: any Channel) {
        let start = NIOLoopBound(channel, eventLoop: channel.eventLoop)
        if self.edge.isDraining {
            self.sendAway(request, channel, .draining, retry: EdgeConfiguration.drainRetryMilliseconds())
            return
        }
        guard self.edge.connectionBegins() else {
            self.sendAway(request, channel, .disconnected, retry: EdgeConfiguration.retryMilliseconds())
            return
        }
        let loop = self.edge.loop(of: channel.eventLoop)
        let promise = channel.eventLoop.makePromise(of: (StreamRequest, Lease, LeaseAnswer).self)
        promise.completeWithTask {
            let stream = try await self.authenticator.authenticate(request)
            let lease = Lease(user: stream.user, connection: NotificationID.make(), openedAt: Timestamp.now())
            let answer = try await self.edge.leases.acquire(lease, fingerprint: stream.fingerprint).get()
            return (stream, lease, answer)
        }
        promise.futureResult.whenComplete { result in
            let channel = start.value
            switch result {
            case .success((let stream, let lease, .granted)):
                loop.open(stream, lease: lease, channel: channel, head: self.head(request, stream))
            case .success((_, _, .refused)):
                self.edge.connectionEnded()
                self.edge.metrics.refused.add(1, ordering: .relaxed)
                self.answer(
                    request, channel,
                    Problem(
                        .tooManyRequests, "rate_limited", "This user has as many streams open as it may have.", headers: ["retry-after": "60"]
                    ).response(instance: request.requestID))
            case .success((_, _, .evictedBefore)):
                self.edge.connectionEnded()
                self.answer(request, channel, GatewayResponse(status: .noContent))
            case .failure(let problem as Problem) where problem.status != .serviceUnavailable:
                self.edge.connectionEnded()
                self.answer(request, channel, problem.response(instance: request.requestID))
            case .failure:
                // Something is out of reach: never an error, after which EventSource would give up for good.
                self.edge.connectionEnded()
                self.sendAway(request, channel, .disconnected, retry: EdgeConfiguration.retryMilliseconds())
            }
        }
    }

    /// 200, `retry:`, close.
    private func sendAway(_ request: GatewayRequest, _ channel: any Channel, _ reason: StreamFrame.CloseReason, retry: Int) {
        self.edge.metrics.refused.add(1, ordering: .relaxed)
        var bytes = self.head(request, nil)
        var frame: [UInt8] = []
        StreamFrame.appendClose(reason, retryMilliseconds: retry, to: &frame)
        bytes.writeBytes(frame)
        channel.writeAndFlush(bytes, promise: nil)
        EdgeLoop.closeGently(channel, on: channel.eventLoop)
    }

    private func answer(_ request: GatewayRequest, _ channel: any Channel, _ response: GatewayResponse) {
        var bytes = ByteBuffer()
        bytes.writeString("HTTP/1.1 \(response.status.code) \(response.status.reasonPhrase)\r\n")
        var headers = response.headers
        headers.add(contentsOf: self.edge.origins.responseHeaders(for: request.head.headers))
        headers.replaceOrAdd(name: "x-request-id", value: request.requestID)
        headers.replaceOrAdd(name: "connection", value: "close")
        if response.status != .noContent { headers.replaceOrAdd(name: "content-length", value: String(response.body.readableBytes)) }
        bytes.write(headers)
        bytes.writeImmutableBuffer(response.body)
        channel.writeAndFlush(bytes, promise: nil)
        EdgeLoop.closeGently(channel, on: channel.eventLoop)
    }

    private func head(_ request: GatewayRequest, _ stream: StreamRequest?) -> ByteBuffer {
        var headers: HTTPHeaders = [
            "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache, no-transform", "x-accel-buffering": "no",
            "connection": "close", "x-request-id": request.requestID,
        ]
        headers.add(contentsOf: self.edge.origins.responseHeaders(for: request.head.headers))
        if let stream, let session = stream.session {
            let life = max(0, stream.token.expiresAt - Timestamp.now().seconds)
            // Behind a proxy that ends TLS the request itself is plain.
            let secure = request.header("x-forwarded-proto") == "https" ? "; Secure" : ""
            headers.add(
                name: "set-cookie",
                value: "\(self.edge.cookieName)=\(session); Path=/; Max-Age=\(life); HttpOnly; SameSite=Lax\(secure)")
        }
        var bytes = ByteBuffer()
        bytes.writeString("HTTP/1.1 200 OK\r\n")
        bytes.write(headers)
        return bytes
    }
}

extension ByteBuffer {
    /// Names in the usual spelling, which some clients still want.
    fileprivate mutating func write(_ headers: HTTPHeaders) {
        for (name, value) in headers {
            let spelled = name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined(separator: "-")
            self.writeString("\(spelled): \(value)\r\n")
        }
        self.writeString("\r\n")
    }
}
