import Authentication
import NIOCore
import NotificationBus
import NotificationCore

/// One open stream: the last handler of its channel. It holds no task and no closure. This one is of server-sent events; the other
/// transports say the same in their own form.
///
/// Unchecked: it is touched on its event loop only; closures that carry it run there.
class StreamConnection: ChannelInboundHandler, Timed, @unchecked Sendable {
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
    /// Nil once it is closed, and where it has none of its own.
    var channel: (any Channel)?
    var output = Output()
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
    /// Of its token.
    var expiry: TokenExpiry
    /// Of the loop's clock, as all other moments here.
    let began: Int64
    var lastWrite: Int64 = 0
    var blockedSince: Int64 = 0
    var isBlocked = false
    var isDirty = false
    var wheelPlace: TimerPlace?
    /// Among all streams of its loop.
    var place = 0

    /// On the loop.
    ///
    /// - Parameter head: written with the first event.
    init(_ request: StreamRequest, lease: Lease, loop: EdgeLoop, channel: (any Channel)?, head: ByteBuffer) {
        self.id = lease.connection
        self.loop = loop
        self.user = loop.hub(of: request.user)
        self.channel = channel
        self.openedAt = lease.openedAt
        self.userAgent = request.userAgent
        self.head = head
        self.filter = StreamFilter(allowed: request.token.customers, only: request.customer)
        self.resume = request.resume
        self.customers = request.token.customers
        self.expiry = TokenExpiry(at: request.token.expiresAt, lead: loop.edge.configuration.authExpiringSeconds)
        self.began = loop.now
        self.lastWrite = loop.now
    }

    // MARK: What each transport does in its own way

    var transport: Transport { .sse }

    /// These blocks of the event stream as they go on its socket.
    func encoded(_ blocks: ByteBuffer) -> ByteBuffer { blocks }

    /// Says these blocks of the event stream, one or several, without flushing.
    func send(_ blocks: ByteBuffer) { self.write(self.encoded(blocks)) }

    /// Says them at once, if it can take them.
    final func say(_ blocks: ByteBuffer, now: Int64) -> Bool {
        if self.output.socket >= 0, self.transmitNow(self.encoded(blocks)) {
            self.lastWrite = now
            return true
        }
        guard self.takesMore() else { return false }
        self.send(blocks)
        return true
    }

    /// False when its bound of unsent bytes is reached, and the socket does not take them either.
    func takesMore() -> Bool {
        guard let channel else { return false }
        if channel.isWritable { return true }
        // Then nothing is held that the channel does not have.
        channel.flush()
        return channel.isWritable
    }

    var isWritable: Bool { self.channel?.isWritable ?? false }

    func flush() { self.push() }

    /// Nothing was sent for a while.
    func ping() { self.write(self.loop.edge.ping) }

    func writeHead() {
        guard let head = self.head else { return }
        self.head = nil
        self.write(head)
    }

    /// It has all that was said before, and from now on every delivery is for it.
    func becameLive() {}

    /// It is out of its hub and was told why; what is left is to close the channel that it had.
    func end(_ reason: StreamFrame.CloseReason, retry: Int, _ channel: (any Channel)?) {
        if let channel { EdgeLoop.closeGently(channel, on: self.loop.eventLoop) }
    }

    // MARK: What is the same for all

    final var lease: Lease { Lease(user: self.user.user, connection: self.id, openedAt: self.openedAt, transport: self.transport) }

    /// Writes without flushing; the loop flushes all dirty connections at the end of its turn.
    final func write(_ bytes: ByteBuffer) {
        self.put(bytes)
        self.touched()
    }

    final func touched() {
        self.lastWrite = self.loop.now
        if !self.isDirty {
            self.isDirty = true
            self.loop.dirty.append(self)
        }
    }

    final func write(_ item: StreamItem, at position: StreamPosition) {
        if self.filter == nil {
            self.send(item.frame)
        } else {
            self.send(self.filter!.apply(item, position: position))
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
        self.leaveSocket()
        self.loop.closed(self)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
