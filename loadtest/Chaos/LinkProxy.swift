import Foundation
import NIOCore
import NIOPosix

/// A TCP proxy for one edge's connections to Redis, which can be made to misbehave. Bound to its event loop.
final class LinkProxy {
    enum Mode: Equatable, Sendable {
        case pass
        /// Connections are reset, new ones refused.
        case cut
        case delay(milliseconds: Int)
        case throttle(bytesPerSecond: Int)
        /// Nothing passes, nothing is closed.
        case silence
    }

    let port: Int
    private let target: SocketAddress
    private let eventLoop: any EventLoop
    private var listener: (any Channel)?
    private var pipes: [ObjectIdentifier: LinkPipe] = [:]
    private(set) var mode = Mode.pass
    private var closing = false

    /// A listener on a port that the kernel gives to no outgoing connection, which could take it while the link is cut.
    private static func probe(on eventLoop: any EventLoop) async throws -> any Channel {
        let range = (try? String(contentsOfFile: "/proc/sys/net/ipv4/ip_local_port_range", encoding: .utf8))?.split(whereSeparator: \.isWhitespace)
        let last = min(range?.first.flatMap { Int($0) } ?? 0, 32_768)
        for _ in 0..<20 where last > 12_000 {
            do {
                return try await ServerBootstrap(group: eventLoop).bind(host: "127.0.0.1", port: Int.random(in: 10_000..<last)).get()
            } catch is IOError {
                // Taken: another one is tried.
            }
        }
        return try await ServerBootstrap(group: eventLoop).bind(host: "127.0.0.1", port: 0).get()
    }

    /// Listens on a free port of 127.0.0.1.
    static func start(target: SocketAddress, on eventLoop: any EventLoop) async throws -> Reference {
        // The port is known only once it is bound, so the first listener is replaced by the proxy's own.
        let probe = try await probe(on: eventLoop)
        let port = probe.localAddress?.port ?? 0
        try await probe.close()
        let reference = try await eventLoop.submit {
            Reference(
                eventLoop: eventLoop, port: port,
                bound: NIOLoopBound(LinkProxy(port: port, target: target, eventLoop: eventLoop), eventLoop: eventLoop)
            )
        }.get()
        try await eventLoop.flatSubmit { reference.bound.value.listen() }.get()
        return reference
    }

    /// The proxy as other threads see it.
    struct Reference: Sendable {
        let eventLoop: any EventLoop
        let port: Int
        fileprivate let bound: NIOLoopBound<LinkProxy>

        /// Succeeds once it behaves so.
        func set(_ mode: Mode) async throws {
            try await eventLoop.flatSubmit { bound.value.set(mode) }.get()
        }

        func stop() async throws {
            try await eventLoop.flatSubmit { bound.value.stop() }.get()
        }
    }

    private init(port: Int, target: SocketAddress, eventLoop: any EventLoop) {
        self.port = port
        self.target = target
        self.eventLoop = eventLoop
    }

    private func listen() -> EventLoopFuture<Void> {
        let load = NIOLoopBound(self, eventLoop: eventLoop)
        return ServerBootstrap(group: eventLoop)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.autoRead, value: false)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            // Small reads, so that a throttled link passes a little at a time.
            .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 4_096))
            .childChannelInitializer { channel in
                load.value.accepted(channel)
            }
            .bind(host: "127.0.0.1", port: port)
            .assumeIsolated()
            .map { self.listener = $0 }
            .nonisolated()
    }

    private func accepted(_ channel: any Channel) -> EventLoopFuture<Void> {
        let load = NIOLoopBound(self, eventLoop: eventLoop)
        return ClientBootstrap(group: eventLoop)
            .connectTimeout(.seconds(5))
            .channelOption(.autoRead, value: false)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 4_096))
            .connect(to: target)
            .flatMapThrowing { other in try load.value.join(channel, other) }
    }

    private func join(_ near: any Channel, _ far: any Channel) throws {
        let pipe = LinkPipe(near: near, far: far, mode: mode) { [weak self] pipe in self?.pipes[ObjectIdentifier(pipe)] = nil }
        pipes[ObjectIdentifier(pipe)] = pipe
        try pipe.start()
        if mode == .cut || closing { pipe.reset() }
    }

    private func set(_ mode: Mode) -> EventLoopFuture<Void> {
        let before = self.mode
        self.mode = mode
        if mode == .cut {
            for pipe in pipes.values { pipe.reset() }
            guard let listener else { return eventLoop.makeSucceededVoidFuture() }
            self.listener = nil
            return listener.close()
        }
        for pipe in pipes.values { pipe.set(mode) }
        return before == .cut ? listen() : eventLoop.makeSucceededVoidFuture()
    }

    private func stop() -> EventLoopFuture<Void> {
        closing = true
        for pipe in pipes.values { pipe.reset() }
        return listener?.close() ?? eventLoop.makeSucceededVoidFuture()
    }
}

/// The two directions of one connection.
private final class LinkPipe {
    private let near: LinkEnd
    private let far: LinkEnd
    private let gone: (LinkPipe) -> Void
    private var ended = false

    init(near: any Channel, far: any Channel, mode: LinkProxy.Mode, gone: @escaping (LinkPipe) -> Void) {
        self.near = LinkEnd(channel: near, mode: mode)
        self.far = LinkEnd(channel: far, mode: mode)
        self.gone = gone
    }

    func start() throws {
        near.peer = far
        far.peer = near
        near.ended = { [weak self] in self?.end() }
        far.ended = { [weak self] in self?.end() }
        try near.channel.pipeline.syncOperations.addHandler(near)
        try far.channel.pipeline.syncOperations.addHandler(far)
        // The accepted side begins once it is active, which is after this.
        far.readMore()
    }

    func set(_ mode: LinkProxy.Mode) {
        near.set(mode)
        far.set(mode)
    }

    /// Closes both sides with a reset: what was on its way is lost.
    func reset() {
        for end in [near, far] {
            // Done at once, being on the loop. A socket that has gone meanwhile cannot be told, and need not be.
            (end.channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenFailure { _ in }
        }
        end()
    }

    private func end() {
        guard !ended else { return }
        ended = true
        near.close()
        far.close()
        gone(self)
    }
}

/// One side of a connection: what comes in here goes out at its peer, when its time has come.
private final class LinkEnd: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Bytes held back; past it no more is read, so that the pressure reaches the sender.
    private static let limit = 256 * 1_024

    let channel: any Channel
    weak var peer: LinkEnd?
    var ended: (() -> Void)?
    private var mode: LinkProxy.Mode
    private var held = CircularBuffer<(bytes: ByteBuffer, due: NIODeadline)>()
    private var heldBytes = 0
    private var lastDue = NIODeadline.distantPast
    private var scheduled = false
    private var reading = false
    private var closed = false

    init(channel: any Channel, mode: LinkProxy.Mode) {
        self.channel = channel
        self.mode = mode
    }

    func set(_ mode: LinkProxy.Mode) {
        self.mode = mode
        if mode == .pass {
            // What was held back goes out now, in its order.
            for index in held.indices { held[index].due = .now() }
            lastDue = .now()
        }
        pump()
    }

    func close() {
        closed = true
        held.removeAll()
        channel.close(promise: nil)
    }

    /// Asks for the next read unless too much is held, the peer cannot take it, or nothing may pass.
    func readMore() {
        guard !closed, !reading, channel.isActive, mode != .silence, heldBytes < Self.limit, peer?.channel.isWritable ?? false else { return }
        reading = true
        channel.read()
    }

    func channelActive(context: ChannelHandlerContext) { readMore() }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        let now = NIODeadline.now()
        let due: NIODeadline
        switch mode {
        case .pass, .cut, .silence: due = max(lastDue, now)
        case .delay(let milliseconds): due = max(lastDue, now + .milliseconds(Int64(milliseconds)))
        case .throttle(let rate): due = max(lastDue, now) + .nanoseconds(Int64(bytes.readableBytes) * 1_000_000_000 / Int64(max(1, rate)))
        }
        lastDue = due
        held.append((bytes, due))
        heldBytes += bytes.readableBytes
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        reading = false
        pump()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        peer?.pump()
    }

    func channelInactive(context: ChannelHandlerContext) {
        ended?()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A reset by either side: the other one is told by the end of the pipe.
        ended?()
    }

    private func pump() {
        guard !closed, mode != .silence, let peer else { return }
        let now = NIODeadline.now()
        var wrote = false
        while let first = held.first, first.due <= now, peer.channel.isWritable {
            held.removeFirst()
            heldBytes -= first.bytes.readableBytes
            peer.channel.write(first.bytes, promise: nil)
            wrote = true
        }
        if wrote { peer.channel.flush() }
        if let first = held.first, first.due > now, !scheduled {
            scheduled = true
            channel.eventLoop.assumeIsolated().scheduleTask(deadline: first.due) {
                self.scheduled = false
                self.pump()
            }
        }
        readMore()
    }
}
