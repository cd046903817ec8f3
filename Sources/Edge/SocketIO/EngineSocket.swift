import NIOCore

/// A WebSocket that carries a session of Engine.IO, or may come to. It is bound to its channel's loop, which may be another one than the session's.
///
/// Unchecked: the reader is touched on the channel's loop only.
final class EngineSocket: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let channel: any Channel
    private let session: SocketIOSession
    private var reader = WebSocketReader(bound: EngineMachine.maxPayload)
    private var isOver = false

    init(channel: any Channel, session: SocketIOSession) {
        self.channel = channel
        self.session = session
    }

    /// From any thread.
    func write(_ frames: ByteBuffer) -> EventLoopFuture<Void> { self.channel.writeAndFlush(frames) }

    /// From any thread. Nothing is read from it any more.
    func close(_ code: WebSocketCode, _ reason: String = "") {
        // What was written before, from the session's loop, goes before it.
        self.channel.eventLoop.execute {
            if self.isOver { return }
            self.finish(code, reason)
        }
    }

    private func finish(_ code: WebSocketCode, _ reason: String) {
        self.isOver = true
        self.channel.write(WebSocketFrame.close(code, reason), promise: nil)
        EdgeLoop.closeGently(self.channel, on: self.channel.eventLoop, lingering: true)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if self.isOver { return }
        self.reader.feed(Self.unwrapInboundIn(data))
        while !self.isOver {
            switch self.reader.next() {
            case .incomplete: return
            case .message(.text(let text)): self.session.received(text, from: self)
            case .message(.pong): break
            case .message(.ping(let payload)):
                // Whoever does not read gets no answers on top.
                if self.channel.isWritable { context.writeAndFlush(Self.wrapOutboundOut(WebSocketFrame.make(.pong, payload.readableBytesView)), promise: nil) }
            case .message(.binary): self.fail(.unsupported)
            case .message(.close(let code)):
                self.fail(code ?? .normal)
            case .failed(let code): self.fail(code)
            }
        }
    }

    /// It could not begin. On its channel's loop.
    func lost() {
        self.isOver = true
        self.session.gone(self)
    }

    private func fail(_ code: WebSocketCode) {
        self.finish(code, "")
        self.session.gone(self)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.isOver = true
        self.session.gone(self)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
