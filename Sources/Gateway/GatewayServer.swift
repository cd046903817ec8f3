public import CoreMetrics
public import Logging
public import NIOCore
import NIOHTTP1
import NIOPosix
public import NotificationStore
import Synchronization

/// The one port of a node.
///
/// Each connection is a plain pipeline: HTTP/1.1 codec, the handler that keeps pipelined requests in order, and ours. A stream takes the
/// connection over and all of these go.
public final class GatewayServer: Sendable {
    public struct Counters: Sendable {
        /// Open now, streams included.
        public var connections: Int
        /// Accepted past the bound, answered and closed.
        public var excess: Int
        /// Closed at once.
        public var refused: Int
        /// Bytes of bodies held now.
        public var bodyBytes: Int
        /// Requests refused since too much was held.
        public var bodiesRefused: Int
    }

    private struct State {
        var listener: (any Channel)?
        var loops: [ObjectIdentifier: NIOLoopBound<LoopConnections>] = [:]
        var eventLoops: [any EventLoop] = []
    }

    /// Counts of connections, apart so that a connection's end does not hold the server.
    private final class Tally: Sendable {
        let open = Atomic(0)
        let excess = Atomic(0)
        let refused = Atomic(0)
    }

    private let shared: GatewayShared
    private let metrics: any MetricsFactory
    private let group: any EventLoopGroup
    private let state = Mutex(State())
    private let tally = Tally()

    /// - Parameters:
    ///   - audit: learns of every writing request, however it was answered.
    ///   - metrics: where answers are counted: `carillon_http_requests_total` and `carillon_http_request_seconds`.
    public init(
        configuration: GatewayConfiguration, routes: GatewayRoutes, group: any EventLoopGroup, audit: AuditLog? = nil,
        metrics: any MetricsFactory = NOOPMetricsHandler.instance, logger: Logger
    ) {
        self.metrics = metrics
        self.shared = GatewayShared(configuration: configuration, routes: routes, audit: audit, logger: logger)
        self.group = group
    }

    public var counters: Counters {
        Counters(
            connections: self.tally.open.load(ordering: .relaxed), excess: self.tally.excess.load(ordering: .relaxed),
            refused: self.tally.refused.load(ordering: .relaxed), bodyBytes: self.shared.bodies.bytes, bodiesRefused: self.shared.bodies.refused)
    }

    /// Listens.
    ///
    /// - Returns: The address, with the port that was chosen where 0 was asked for.
    /// - Throws: what the system says when the address cannot be had.
    public func start() async throws -> SocketAddress {
        var loops: [ObjectIdentifier: NIOLoopBound<LoopConnections>] = [:]
        var eventLoops: [any EventLoop] = []
        let metrics = self.metrics
        for eventLoop in self.group.makeIterator() {
            loops[ObjectIdentifier(eventLoop)] = try await eventLoop.submit {
                let connections = LoopConnections(eventLoop: eventLoop, meter: RequestMeter(factory: metrics))
                connections.start()
                return NIOLoopBound(connections, eventLoop: eventLoop)
            }.get()
            eventLoops.append(eventLoop)
        }
        let (shared, tally, table) = (self.shared, self.tally, loops)
        self.state.withLock {
            $0.loops = table
            $0.eventLoops = eventLoops
        }
        let listener = try await ServerBootstrap(group: self.group)
            .serverChannelOption(.backlog, value: 4096)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.recvAllocator, value: ReadBuffers())
            .childChannelInitializer { channel in
                guard let connections = table[ObjectIdentifier(channel.eventLoop)]?.value else {
                    return channel.eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
                }
                return Self.accept(channel, shared, tally, connections)
            }
            .bind(host: shared.configuration.host, port: shared.configuration.port).get()
        self.state.withLock { $0.listener = listener }
        guard let address = listener.localAddress else { throw ChannelError.unknownLocalAddress }
        shared.logger.info(
            "listening",
            metadata: [
                "address": "\(address)", "node": "\(shared.configuration.nodeName)", "roles": "\(shared.configuration.roles.joined(separator: ","))",
            ])
        return address
    }

    private static func accept(
        _ channel: any Channel, _ shared: GatewayShared, _ tally: Tally, _ connections: LoopConnections
    ) -> EventLoopFuture<Void> {
        let open = tally.open.add(1, ordering: .relaxed).newValue
        channel.closeFuture.whenComplete { _ in tally.open.subtract(1, ordering: .relaxed) }
        let bound = shared.configuration.maxConnections
        let isExcess = open > bound
        if isExcess {
            tally.excess.add(1, ordering: .relaxed)
            // An answer takes a descriptor too.
            if open > bound + max(16, bound / 16) {
                tally.refused.add(1, ordering: .relaxed)
                return channel.eventLoop.makeFailedFuture(ChannelError.inappropriateOperationForState)
            }
        }
        return channel.eventLoop.makeCompletedFuture {
            try Self.addHandlers(to: channel.pipeline.syncOperations, shared, connections, isExcess: isExcess)
        }
    }

    static func addHandlers(
        to pipeline: ChannelPipeline.SynchronousOperations, _ shared: GatewayShared, _ connections: LoopConnections, isExcess: Bool = false
    ) throws {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = shared.configuration.headerLimit
        limits.maxHeaderListSize = shared.configuration.headerLimit
        let codec = GatewayHandler.Codec(
            decoder: ByteToMessageHandler(HTTPRequestDecoder(limitConfiguration: limits)), encoder: HTTPResponseEncoder(),
            pipeline: HTTPServerPipelineHandler())
        let gateway = GatewayHandler(shared: shared, connections: connections, codec: codec, isExcess: isExcess)
        let reader = RequestReader(gateway: gateway, headBound: shared.configuration.headerLimit)
        gateway.use(reader)
        try pipeline.addHandlers([reader, codec.encoder, codec.decoder, codec.pipeline, gateway])
    }

    /// Accepts no more connections, closes those that wait for a request, and has each other one close after its answer. Streams are not
    /// touched: their hub closes them.
    public func drain() {
        let (listener, loops, eventLoops) = self.state.withLock { state in
            defer { state.listener = nil }
            return (state.listener, state.loops, state.eventLoops)
        }
        listener?.close(promise: nil)
        for eventLoop in eventLoops {
            guard let connections = loops[ObjectIdentifier(eventLoop)] else { continue }
            eventLoop.execute { connections.value.drain() }
        }
    }

    /// Drains, waits for requests in flight and for clients that still read their answers, both as long as the configuration's grace, and closes all connections
    /// but streams.
    public func shutdown() async {
        let listener = self.state.withLock { $0.listener }
        self.drain()
        // A listener that is closed by now says so by its error.
        _ = try? await listener?.closeFuture.get()
        let (loops, eventLoops) = self.state.withLock { ($0.loops, $0.eventLoops) }
        let grace = self.shared.configuration.shutdownGrace
        // All at the same time: there is one grace for all of them.
        let quiet = eventLoops.compactMap { eventLoop in
            loops[ObjectIdentifier(eventLoop)].map { connections in (connections, eventLoop.flatSubmit { connections.value.quiet(grace: grace) }) }
        }
        for (connections, isQuiet) in quiet {
            do {
                try await isQuiet.get()
                try await isQuiet.eventLoop.submit { connections.value.stop() }.get()
            } catch {
                self.shared.logger.warning("event loop ended before its connections", metadata: ["error": "\(error)"])
            }
        }
    }
}
