import Authentication
import NIOCore
import NotificationBus
import NotificationCore

/// One open stream: the last handler of its channel. It holds no task and no closure.
///
/// Unchecked: it is touched on its event loop only; closures that carry it run there.
final class StreamConnection: ChannelInboundHandler, Timed, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    enum Phase {
        /// The response's head is not written yet.
        case joining
        /// Every delivery is for it.
        case live
        /// It reads too slowly, or is being brought up to date: `cursor` is all there is of it.
        case behind
        case closed
    }

    let id: NotificationID
    unowned let loop: EdgeLoop
    let user: UserHub
    /// Nil once it is closed.
    var channel: (any Channel)?
    let openedAt: Timestamp
    let userAgent: String
    /// The response's head, until it is written.
    var head: ByteBuffer?
    var phase = Phase.joining
    var filter: StreamFilter?
    /// The last change that was written.
    var cursor = StreamPosition(epoch: 0, seq: 0)
    var resume: ResumePoint
    var customers: [String]?
    /// In seconds since 1970.
    var expiresAt: Int64
    var lastWrite: Int64 = 0
    var blockedSince: Int64 = 0
    var isBlocked = false
    var isDirty = false
    var warnedOfExpiry = false
    var timer: TimerPlace?

    init(
        id: NotificationID, loop: EdgeLoop, user: UserHub, channel: any Channel, request: StreamRequest, openedAt: Timestamp, head: ByteBuffer
    ) {
        self.id = id
        self.loop = loop
        self.user = user
        self.channel = channel
        self.openedAt = openedAt
        self.userAgent = request.userAgent
        self.head = head
        self.filter = StreamFilter(allowed: request.token.customers, only: request.customer)
        self.resume = request.resume
        self.customers = request.token.customers
        self.expiresAt = request.token.expiresAt
    }

    /// Writes without flushing; the loop flushes all dirty connections at the end of its turn.
    func write(_ bytes: ByteBuffer) {
        self.channel?.write(bytes, promise: nil)
        self.lastWrite = self.loop.now
        if !self.isDirty {
            self.isDirty = true
            self.loop.dirty.append(self)
        }
    }

    /// False when its bound of unsent bytes is reached, and the socket does not take them either.
    func takesMore() -> Bool {
        guard let channel else { return false }
        if channel.isWritable { return true }
        channel.flush()
        return channel.isWritable
    }

    func write(_ item: StreamItem, at position: StreamPosition) {
        if self.filter == nil {
            self.write(item.frame)
        } else {
            self.write(self.filter!.apply(item, position: position))
        }
        self.cursor = position
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // A client has nothing to say on a stream.
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        self.loop.writabilityChanged(self, isWritable: context.channel.isWritable)
        context.fireChannelWritabilityChanged()
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.loop.closed(self)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
