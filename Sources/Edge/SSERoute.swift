public import Gateway
public import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore

/// `GET /notifications/sse`: the stream (WHATWG HTML, 9.2 Server-sent events). The answer is delimited by close.
public struct SSERoute: StreamRoute {
    let edge: Edge
    let authenticator: StreamAuthenticator

    public func open(_ request: GatewayRequest, on channel: any Channel) {
        let start = NIOLoopBound(channel, eventLoop: channel.eventLoop)
        let loop = self.edge.loop(of: channel.eventLoop)
        self.edge.admit(.sse, on: channel.eventLoop) { () async throws(Problem) in
            try await self.authenticator.authenticate(request)
        }.whenSuccess { opening in
            let channel = start.value
            switch opening {
            case .granted(let stream, let lease):
                loop.open(StreamConnection(stream, lease: lease, loop: loop, channel: channel, head: self.head(request, stream)), on: channel)
            case .refused(let problem):
                self.edge.answer(request, channel, problem.response(instance: request.requestID))
            case .evictedBefore:
                self.edge.answer(request, channel, GatewayResponse(status: .noContent))
            case .away(let reason, let retry):
                // Never an error, after which EventSource would give up for good: 200, `retry:`, close.
                var bytes = self.head(request, nil)
                var frame: [UInt8] = []
                StreamFrame.appendClose(reason, retryMilliseconds: retry, to: &frame)
                bytes.writeBytes(frame)
                channel.writeAndFlush(bytes, promise: nil)
                EdgeLoop.closeGently(channel, on: channel.eventLoop)
            }
        }
    }

    private func head(_ request: GatewayRequest, _ stream: StreamRequest?) -> ByteBuffer {
        var headers: HTTPHeaders = [
            "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache, no-transform", "x-accel-buffering": "no",
            "connection": "close", "x-request-id": request.requestID,
        ]
        headers.add(contentsOf: self.edge.origins.responseHeaders(for: request.head.headers))
        if let stream, let cookie = self.edge.sessionCookie(request, stream) { headers.add(name: "set-cookie", value: cookie) }
        var bytes = ByteBuffer()
        bytes.writeString("HTTP/1.1 200 OK\r\n")
        bytes.write(headers)
        return bytes
    }
}
