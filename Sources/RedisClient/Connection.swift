internal import Logging
internal import NIOCore

/// What uses a connection, on the connection's event loop.
protocol ConnectionUser: AnyObject {
    /// Whether the server owes an answer: silence counts only then.
    var awaitsReply: Bool { get }
    func opened(_ connection: Connection)
    /// Throwing closes the connection with that error.
    func received(_ reply: ReplyView) throws(RedisError)
    /// All replies of one read have been handed over.
    func readComplete()
    /// Time to ask the server for a sign of life.
    func probe(_ connection: Connection)
    /// Once for each connection, opened or not.
    func ended(_ reason: RedisError)
}

/// One connection to a server, from the greeting on: parses replies, collects what is written in one tick of the event loop into one write,
/// and closes itself when the server is silent or sends what is no RESP. Bound to its event loop.
final class Connection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private enum State {
        case unused
        case greeting(Greeting, any ConnectionUser)
        case open(any ConnectionUser)
        case ended(RedisError)
    }

    /// Where it goes.
    let address: RedisAddress
    private let channel: any Channel
    private var state = State.unused
    private var reader: ReplyReader
    private var liveness: Liveness
    private var nextTick: Scheduled<Void>?
    private var outgoing: ByteBuffer
    private var flushIsDue = false
    private var typicalWrite = 256

    init(channel: any Channel, address: RedisAddress, configuration: RedisConnectionConfiguration, purpose: ConnectionPurpose) {
        channel.eventLoop.assertInEventLoop()
        self.address = address
        self.channel = channel
        reader = ReplyReader(maximumReplyBytes: configuration.maximumReplyBytes)
        liveness = Liveness(silence: configuration.silence, interval: configuration.probeInterval, probing: purpose.probing, now: channel.eventLoop.now)
        outgoing = ByteBuffer()
    }

    /// Completes once the socket is closed.
    var closed: EventLoopFuture<Void> { channel.closeFuture }

    /// Says the greeting. `user` hears of the connection from now on: `opened` once the server is willing, `ended` in any case.
    func begin(_ greeting: Greeting, user: any ConnectionUser) {
        channel.eventLoop.assertInEventLoop()
        switch state {
        case .unused: state = .greeting(greeting, user)
        // The socket was closed again before anybody came to use it.
        case .ended(let reason): return user.ended(reason)
        case .greeting, .open: preconditionFailure("a connection begins once")
        }
        guard channel.isActive else { return end(.connectionLost) }
        for command in greeting.commands { write(command.encode) }
        scheduleTick()
    }

    /// Adds to what is written at the end of this tick.
    func write(_ encode: (inout ByteBuffer) -> Void) {
        channel.eventLoop.assertInEventLoop()
        if liveness.isResting { liveness.asked(now: channel.eventLoop.now) }
        if outgoing.readableBytes == 0 { outgoing = channel.allocator.buffer(capacity: typicalWrite) }
        encode(&outgoing)
        guard !flushIsDue else { return }
        flushIsDue = true
        channel.eventLoop.assumeIsolated().execute { self.flush() }
    }

    /// Closes the connection; its user hears `ended` before this returns. Afterwards nothing happens.
    func end(_ reason: RedisError) {
        channel.eventLoop.assertInEventLoop()
        let user: any ConnectionUser
        switch state {
        case .unused:
            state = .ended(reason)
            return channel.close(promise: nil)
        case .greeting(_, let its), .open(let its): user = its
        case .ended: return
        }
        state = .ended(reason)
        nextTick?.cancel()
        nextTick = nil
        outgoing = ByteBuffer()
        channel.close(promise: nil)
        user.ended(reason)
    }

    private func flush() {
        flushIsDue = false
        guard outgoing.readableBytes > 0 else { return }
        let bytes = outgoing
        // The next write gets a buffer of its own: this one belongs to the socket until it is sent.
        outgoing = ByteBuffer()
        typicalWrite = min(max(256, bytes.readableBytes), 64 * 1024)
        channel.writeAndFlush(bytes, promise: nil)
    }

    /// Holds the connection until `end` cancels it; every connection ends.
    private func scheduleTick() {
        nextTick = channel.eventLoop.assumeIsolated().scheduleTask(in: liveness.rest) { self.tick() }
    }

    private func tick() {
        let awaiting: Bool
        switch state {
        case .greeting: awaiting = true
        case .open(let user): awaiting = user.awaitsReply
        case .unused, .ended: return
        }
        switch liveness.tick(now: channel.eventLoop.now, awaiting: awaiting) {
        case .none: scheduleTick()
        case .probe:
            scheduleTick()
            if case .open(let user) = state { user.probe(self) }
        case .silent: end(.timedOut)
        }
    }

    private func received(_ reply: ReplyView) throws(RedisError) {
        switch state {
        case .open(let user):
            try user.received(reply)
        case .greeting(var greeting, let user):
            switch greeting.received(try reply.value()) {
            case .more: state = .greeting(greeting, user)
            case .failed(let error): throw error
            case .done:
                state = .open(user)
                user.opened(self)
            }
        // What a user did with an earlier reply of the same read may have ended the connection.
        case .unused, .ended: break
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        liveness.read()
        do throws(RedisError) {
            try reader.feed(unwrapInboundIn(data)) { reply throws(RedisError) in try received(reply) }
        } catch {
            end(error)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if case .open(let user) = state { user.readComplete() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(.connectionLost)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        end(RedisError(connecting: error))
    }
}
