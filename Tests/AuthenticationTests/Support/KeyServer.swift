import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix

/// A small HTTP server on a free port of 127.0.0.1 that publishes a key set.
final class KeyServer: Sendable {
    enum Behaviour: Sendable {
        case answer(String)
        case status(Int)
        case redirect(String)
        /// Takes the request and never answers.
        case silent
    }

    private struct State {
        var behaviour: Behaviour
        var requests = 0
        var connections: [ObjectIdentifier: any Channel] = [:]
    }

    private let state: NIOLockedValueBox<State>
    private let channel: any Channel
    /// One element for each request.
    let arrivals: AsyncStream<Void>

    var url: String { "http://127.0.0.1:\(channel.localAddress?.port ?? 0)/jwks.json" }
    var requests: Int { state.withLockedValue { $0.requests } }
    var behaviour: Behaviour {
        get { state.withLockedValue { $0.behaviour } }
        set { state.withLockedValue { $0.behaviour = newValue } }
    }

    private init(channel: any Channel, state: NIOLockedValueBox<State>, arrivals: AsyncStream<Void>) {
        self.channel = channel
        self.state = state
        self.arrivals = arrivals
    }

    static func start(_ behaviour: Behaviour) async throws -> KeyServer {
        let state = NIOLockedValueBox(State(behaviour: behaviour))
        let (arrivals, arrived) = AsyncStream.makeStream(of: Void.self)
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                state.withLockedValue { $0.connections[ObjectIdentifier(channel)] = channel }
                channel.closeFuture.whenComplete { _ in
                    state.withLockedValue { $0.connections[ObjectIdentifier(channel)] = nil }
                }
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(Handler(state: state, arrived: arrived))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return KeyServer(channel: channel, state: state, arrivals: arrivals)
    }

    func stop() async throws {
        try await channel.close()
        for connection in state.withLockedValue({ Array($0.connections.values) }) {
            connection.close(promise: nil)
            try await connection.closeFuture.get()
        }
    }

    /// Starts a server, runs `body`, stops the server, unless `body` has done so.
    static func with(_ behaviour: Behaviour, _ body: (KeyServer) async throws -> Void) async throws {
        let server = try await start(behaviour)
        do {
            try await body(server)
        } catch {
            if server.channel.isActive { try await server.stop() }
            throw error
        }
        if server.channel.isActive { try await server.stop() }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart

        private let state: NIOLockedValueBox<State>
        private let arrived: AsyncStream<Void>.Continuation

        init(state: NIOLockedValueBox<State>, arrived: AsyncStream<Void>.Continuation) {
            self.state = state
            self.arrived = arrived
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard case .end = unwrapInboundIn(data) else { return }
            let behaviour = state.withLockedValue { state in
                state.requests += 1
                return state.behaviour
            }
            switch behaviour {
            case .answer(let text): respond(context, .ok, body: text)
            case .status(let code): respond(context, HTTPResponseStatus(statusCode: code), body: "")
            case .redirect(let location): respond(context, .found, headers: ["Location": location], body: "")
            case .silent: break
            }
            arrived.yield()
        }

        private func respond(_ context: ChannelHandlerContext, _ status: HTTPResponseStatus, headers: HTTPHeaders = [:], body: String) {
            var headers = headers
            headers.add(name: "Content-Length", value: "\(body.utf8.count)")
            context.write(wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers))), promise: nil)
            context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: body)))), promise: nil)
            context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        }
    }
}
