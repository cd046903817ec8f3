import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

@testable import Gateway

/// Answers with what it was asked.
struct EchoRoute: PlainRoute {
    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        let text = "\(request.head.method.rawValue) \(request.path) \(request.query["q"] ?? "-") \(request.body.readableBytes) \(request.remoteAddress);"
        return eventLoop.makeSucceededFuture(GatewayResponse(status: .ok, headers: ["content-type": "text/plain"], body: ByteBuffer(string: text)))
    }
}

struct FailingRoute: PlainRoute {
    struct Secret: Error {}

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        eventLoop.makeFailedFuture(Secret())
    }
}

/// Answers when the test says so.
final class GatedRoute: PlainRoute {
    private let arrivals = Mutex<[EventLoopPromise<GatewayResponse>]>([])
    let arrived: AsyncStream<Void>
    private let arrival: AsyncStream<Void>.Continuation

    init() {
        (self.arrived, self.arrival) = AsyncStream.makeStream()
    }

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        let promise = eventLoop.makePromise(of: GatewayResponse.self)
        self.arrivals.withLock { $0.append(promise) }
        self.arrival.yield()
        return promise.futureResult
    }

    func open() {
        let promises = self.arrivals.withLock { arrivals in
            defer { arrivals = [] }
            return arrivals
        }
        for promise in promises { promise.succeed(.json(.ok, Array("{\"gate\":1}".utf8))) }
    }
}

/// Says what is left of the pipeline, answers `ping`, and drops what else comes.
struct PlainStream: StreamRoute {
    final class Drop: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            if String(buffer: Self.unwrapInboundIn(data)) == "ping" { context.writeAndFlush(Self.wrapOutboundOut(ByteBuffer(string: "pong")), promise: nil) }
        }
    }

    func open(_ request: GatewayRequest, on channel: any Channel) {
        let pipeline = channel.pipeline.syncOperations
        let rest = [
            (try? pipeline.context(handlerType: HTTPResponseEncoder.self)) != nil,
            (try? pipeline.context(handlerType: ByteToMessageHandler<HTTPRequestDecoder>.self)) != nil,
            (try? pipeline.context(handlerType: HTTPServerPipelineHandler.self)) != nil,
            (try? pipeline.context(handlerType: GatewayHandler.self)) != nil,
            (try? pipeline.context(handlerType: RequestReader.self)) != nil,
        ].filter { $0 }.count
        do {
            try pipeline.addHandler(Drop())
        } catch {
            channel.close(promise: nil)
            return
        }
        let text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nrest:\(rest) path:\(request.path) id:\(request.requestID)\n\n"
        channel.writeAndFlush(ByteBuffer(string: text), promise: nil)
    }
}

final class Tally: Sendable {
    private let number = Atomic(0)

    var count: Int { self.number.load(ordering: .relaxed) }

    func add() { self.number.add(1, ordering: .relaxed) }
}

/// A listener on a free port with one route of each kind.
struct TestNode: Sendable {
    let server: GatewayServer
    let address: SocketAddress
    let gate = GatedRoute()
    /// Counts the answers to `/v1/large` and `/v1/huge`.
    let larges = Tally()

    init(_ change: (inout GatewayConfiguration) -> Void = { _ in }) async throws {
        var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0, nodeName: "test")
        configuration.bodyLimit = 1000
        configuration.publishBodyLimit = 4000
        configuration.passedBodyLimit = 20_000_000
        change(&configuration)
        let router = GatewayRoutes.makeRouter()
        router.get("/v1/things/:id") { _, context in "thing \(context.pathParameter("id") ?? "") \(context.request.query["q"] ?? "-");" }
        router.post("/v1/things") { request, _ in "body \(try await request.body.collect(upTo: 1000).readableBytes);" }
        router.get("/v1/problem") { _, _ -> String in throw Problem.conflict("Somebody was quicker.") }
        router.get("/v1/broken") { _, _ -> String in throw FailingRoute.Secret() }
        router.get("/v1/parts") { _, _ in
            Response(
                status: .ok,
                body: ResponseBody { writer in
                    for part in ["one", "two", "three"] { try await writer.write(ByteBuffer(string: part)) }
                    try await writer.finish(nil)
                })
        }
        router.get("/v1/large") { [larges] _, _ in
            larges.add()
            return Response(status: .ok, body: ResponseBody(byteBuffer: ByteBuffer(repeating: 120, count: 3_000_000)))
        }
        // More than the sockets on the way hold.
        router.get("/v1/huge") { [larges] _, _ in
            larges.add()
            return Response(status: .ok, body: ResponseBody(byteBuffer: ByteBuffer(repeating: 120, count: 30_000_000)))
        }
        var routes = GatewayRoutes(
            origins: Origins(["https://app.example.com"]), wrongRole: { _, path in path.hasPrefix("/v1/elsewhere") ? "edge" : nil },
            fallback: router.buildResponder())
        routes.add(.GET, "/health/live", EchoRoute())
        routes.add(.GET, "/v1/echo", EchoRoute())
        routes.add(.POST, "/v1/echo", EchoRoute())
        routes.add(.POST, "/v1/publish", EchoRoute(), publishes: true)
        routes.add(.GET, "/v1/failing", FailingRoute())
        routes.add(.GET, "/v1/gated", self.gate)
        routes.add(.POST, "/v1/lines", EchoRoute())
        routes.add(body: "/v1/lines", contentType: "application/x-ndjson", Swallow())
        routes.add(body: "/v1/refuses", contentType: "application/x-ndjson", Refuse())
        routes.add(stream: "/v1/notifications/sse", PlainStream())
        self.server = GatewayServer(
            configuration: configuration, routes: routes, group: MultiThreadedEventLoopGroup.singleton,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        self.address = try await self.server.start()
    }

    /// Runs a test against it and ends it.
    static func run(
        _ change: (inout GatewayConfiguration) -> Void = { _ in }, _ body: (TestNode) async throws -> Void
    ) async throws {
        let node = try await TestNode(change)
        do {
            try await body(node)
        } catch {
            node.gate.open()
            await node.server.shutdown()
            throw error
        }
        node.gate.open()
        await node.server.shutdown()
    }

    func client() async throws -> RawClient { try await RawClient.connect(to: self.address) }

    /// Sends it on a connection of its own, and returns all that comes until the server closes.
    func exchange(_ text: String) async throws -> String {
        let client = try await self.client()
        try await client.send(text)
        return await client.receivedToEnd()
    }
}
