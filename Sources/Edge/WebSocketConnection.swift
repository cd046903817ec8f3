import NIOCore
import NotificationBus
import NotificationCore

/// A stream over a WebSocket: each event is one text message. The client has nothing to say on it: its pings are answered, its text is
/// ignored, anything else ends it.
///
/// Unchecked: it is touched on its event loop only; closures that carry it run there.
final class WebSocketConnection: StreamConnection, @unchecked Sendable {
    /// Of a message of the client.
    static let messageBound = 4096

    private var reader = WebSocketReader(bound: WebSocketConnection.messageBound)

    override var transport: Transport { .webSocket }

    override func encoded(_ blocks: ByteBuffer) -> ByteBuffer { self.loop.translations.translate(blocks, into: .webSocket).bytes }

    override func ping() { self.write(WebSocketFrame.make(.ping)) }

    override func end(_ reason: StreamFrame.CloseReason, retry: Int, _ channel: (any Channel)?) {
        if let channel { Self.close(channel, reason, retry: retry) }
    }

    override func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // It was closed; what still comes is dropped until the client closes, too.
        guard self.phase != .closed else { return }
        self.reader.feed(Self.unwrapInboundIn(data))
        while self.phase != .closed {
            switch self.reader.next() {
            case .incomplete: return
            case .failed(let code): self.leave(context, code)
            case .message(.text), .message(.pong): break
            case .message(.binary): self.leave(context, .unsupported)
            case .message(.ping(let payload)):
                // Whoever does not read gets no answers on top.
                if self.head == nil, self.takesMore() {
                    self.handOver()
                    context.writeAndFlush(Self.wrapOutboundOut(WebSocketFrame.make(.pong, payload.readableBytesView)), promise: nil)
                }
            case .message(.close(let code)): self.leave(context, code ?? .normal)
            }
        }
    }

    /// The client ends it, or broke the protocol.
    private func leave(_ context: ChannelHandlerContext, _ code: WebSocketCode) {
        let channel = context.channel
        self.writeHead()
        self.loop.closed(self)
        channel.write(WebSocketFrame.close(code, ""), promise: nil)
        EdgeLoop.closeGently(channel, on: self.loop.eventLoop, lingering: true)
    }

    /// The end of a stream that was told why.
    static func close(_ channel: any Channel, _ reason: StreamFrame.CloseReason, retry: Int) {
        channel.write(WebSocketFrame.close(WebSocketCode(reason), "{\"reason\":\"\(reason.rawValue)\",\"retry\":\(retry)}"), promise: nil)
        EdgeLoop.closeGently(channel, on: channel.eventLoop, lingering: true)
    }
}
