import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore

/// `GET /notifications/ws`: the stream over a WebSocket (RFC 6455).
struct WebSocketRoute: StreamRoute {
    let edge: Edge
    let authenticator: StreamAuthenticator

    var isEventStream: Bool { false }

    func open(_ request: GatewayRequest, on channel: any Channel) {
        let opening: WebSocketOpening
        do throws(Problem) {
            opening = try WebSocketOpening(request.head)
        } catch {
            self.edge.answer(request, channel, error.response(instance: request.requestID))
            return
        }
        let start = NIOLoopBound(channel, eventLoop: channel.eventLoop)
        let loop = self.edge.loop(of: channel.eventLoop)
        self.edge.admit(.webSocket, on: channel.eventLoop) { () async throws(Problem) in
            var stream = try await self.authenticator.authenticate(request, cookieNeedsOrigin: true)
            // It is no reconnect of an EventSource.
            stream.fingerprint = nil
            return stream
        }.whenSuccess { result in
            let channel = start.value
            switch result {
            case .granted(let stream, let lease):
                let head = opening.head(request.requestID, cookie: self.edge.sessionCookie(request, stream))
                loop.open(WebSocketConnection(stream, lease: lease, loop: loop, channel: channel, head: head), on: channel)
            case .refused(let problem):
                self.edge.answer(request, channel, problem.response(instance: request.requestID))
            case .evictedBefore:
                preconditionFailure("a stream without a fingerprint was not evicted before")
            case .away(let reason, let retry):
                // A page's script sees no status of a handshake that failed: it is told in its own way.
                channel.write(opening.head(request.requestID, cookie: nil), promise: nil)
                var frame: [UInt8] = []
                StreamFrame.appendClose(reason, retryMilliseconds: retry, to: &frame)
                channel.write(Translations.make(ByteBuffer(bytes: frame), .webSocket).bytes, promise: nil)
                WebSocketConnection.close(channel, reason, retry: retry)
            }
        }
    }
}

extension WebSocketOpening {
    /// The answer with which the connection becomes a WebSocket.
    func head(_ requestID: String, cookie: String?) -> ByteBuffer {
        var headers: HTTPHeaders = [
            "upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": self.accept, "x-request-id": requestID,
        ]
        if let cookie { headers.add(name: "set-cookie", value: cookie) }
        var bytes = ByteBuffer(string: "HTTP/1.1 101 Switching Protocols\r\n")
        bytes.write(headers)
        return bytes
    }
}

/// For whoever asks for a WebSocket without saying so.
struct UpgradeRequired: PlainRoute {
    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        eventLoop.makeSucceededFuture(Problem.upgradeRequired.response(instance: request.requestID))
    }
}
