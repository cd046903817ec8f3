import NIOCore
import NIOHTTP1

/// Stands before the library's HTTP handlers, and hands plain requests to the gateway past them; what it does not take goes their way.
///
/// It knows where every request ends that it understands, also of those that go on to the library: so one that is unusual in what it asks for costs the
/// connection nothing. After one that is unusual in how it is written all of the connection is the library's.
///
/// Bound to its event loop.
final class RequestReader: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        /// Between requests, or in a head.
        case head(searched: Int)
        /// In the body of a request that the gateway has; so many bytes are to come.
        case body(Int)
        /// The gateway has a whole request.
        case answering
        /// The library gets a request; so many bytes are to come.
        case passing(Int)
        /// The library has a whole request.
        case passed
        /// For good.
        case library
        /// The last answer is written: what still comes is read, so that the client is not cut off before it has read that, and nobody's.
        case dropping
    }

    private unowned let gateway: GatewayHandler
    private let headBound: Int
    private var state = State.head(searched: 0)
    /// The beginning of a head, or what came before the request before it was answered.
    private var held: ByteBuffer?
    private var isTaking = false
    /// Nothing is read while something waits for an answer.
    private var readIsDue = false
    private var context: ChannelHandlerContext?

    init(gateway: GatewayHandler, headBound: Int) {
        self.gateway = gateway
        self.headBound = headBound
    }

    /// Whether the library's handlers know nothing of the request that is under way.
    var isAlone: Bool {
        switch self.state {
        case .head, .body, .answering, .dropping: true
        case .passing, .passed, .library: false
        }
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        self.held = nil
        // Whoever comes after it waits for this one.
        if self.readIsDue {
            self.readIsDue = false
            context.read()
        }
    }

    /// To the socket, past the library's handlers.
    func write(_ bytes: ByteBuffer) { self.context?.writeAndFlush(Self.wrapOutboundOut(bytes), promise: nil) }

    /// No further request is answered.
    func drop() {
        switch self.state {
        case .head, .body, .answering, .passed:
            self.state = .dropping
            self.held = nil
        case .passing, .library, .dropping: break
        }
    }

    /// The gateway has written the whole answer.
    func answered() {
        switch self.state {
        case .answering: self.state = .head(searched: 0)
        case .passed: self.state = .head(searched: 0)
        case .dropping: return self.readAgain()
        case .head, .body, .passing, .library: return
        }
        if self.isTaking { return }
        if let held = self.held {
            self.held = nil
            self.take(held)
            self.gateway.readCompleted()
        }
        self.readAgain()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch self.state {
        case .library:
            context.fireChannelRead(data)
        case .passed:
            self.state = .library
            context.fireChannelRead(data)
        case .passing(let left):
            let count = Self.unwrapInboundIn(data).readableBytes
            self.state = count < left ? .passing(left - count) : count == left ? .passed : .library
            context.fireChannelRead(data)
        case .dropping: break
        case .head, .body, .answering:
            let bytes = Self.unwrapInboundIn(data)
            if var held = self.held {
                // The only one, so that it is not copied.
                self.held = nil
                held.writeImmutableBuffer(bytes)
                self.take(held)
            } else {
                self.take(bytes)
            }
        }
    }

    func read(context: ChannelHandlerContext) {
        if case .answering = self.state, self.held != nil {
            self.readIsDue = true
        } else {
            context.read()
        }
    }

    private func readAgain() {
        if case .answering = self.state, self.held != nil { return }
        guard self.readIsDue else { return }
        self.readIsDue = false
        self.context?.read()
    }

    private func take(_ bytes: ByteBuffer) {
        var bytes = bytes
        self.isTaking = true
        defer { self.isTaking = false }
        while bytes.readableBytes > 0, self.context != nil {
            switch self.state {
            case .head(let searched):
                if !self.takeHead(&bytes, searched) { return }
            case .body(let left):
                let part = bytes.readSlice(length: min(left, bytes.readableBytes)) ?? ByteBuffer()
                self.state = part.readableBytes == left ? .answering : .body(left - part.readableBytes)
                self.gateway.body(part)
                if part.readableBytes == left { self.gateway.ended() }
            case .answering:
                self.held = bytes
                return
            case .dropping: return
            case .passing, .passed, .library:
                preconditionFailure("what is the library's is not taken here")
            }
        }
    }

    /// False when there is nothing more to take now.
    private func takeHead(_ bytes: inout ByteBuffer, _ searched: Int) -> Bool {
        let reading = bytes.withUnsafeReadableBytes { PlainRequest.read($0.bindMemory(to: UInt8.self), searched: searched, bound: self.headBound) }
        switch reading {
        case .more(let searched):
            self.state = .head(searched: searched)
            self.held = bytes
            return false
        case .unusual:
            self.state = .library
            self.context?.fireChannelRead(Self.wrapInboundOut(bytes))
            return false
        case .head(let head, let headBytes, let bodyBytes):
            guard let incoming = self.gateway.takes(head) else {
                let left = headBytes + bodyBytes - bytes.readableBytes
                self.state = left > 0 ? .passing(left) : left == 0 ? .passed : .library
                self.context?.fireChannelRead(Self.wrapInboundOut(bytes))
                return false
            }
            bytes.moveReaderIndex(forwardBy: headBytes)
            self.state = bodyBytes == 0 ? .answering : .body(bodyBytes)
            self.gateway.head(incoming)
            if bodyBytes == 0 { self.gateway.ended() }
            return true
        }
    }
}
