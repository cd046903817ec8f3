import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

@testable import CarillonClient

/// What a test's server does with one request.
enum Act: Sendable {
    case reply(Int, HTTPHeaders, String)
    /// Reads the request and closes the connection.
    case hangUp
    /// Reads the request and says nothing more.
    case silence

    static func answer(_ status: Int, _ body: String) -> Act { .reply(status, [:], body) }

    static func problem(_ status: Int, _ code: String, _ headers: HTTPHeaders = [:], errors: String = "") -> Act {
        var headers = headers
        headers.add(name: "content-type", value: "application/problem+json")
        headers.add(name: "x-request-id", value: "request-1")
        return .reply(
            status, headers,
            #"{"type":"about:blank","title":"Title","status":\#(status),"detail":"It is so.","instance":"request-1","code":"notifications_m.\#(code)"\#(errors)}"#)
    }
}

/// A request as it came.
struct Received: Sendable {
    var head: HTTPRequestHead
    var body = ""

    var target: String { "\(self.head.method.rawValue) \(self.head.uri)" }
    var key: String? { self.head.headers.first(name: "idempotency-key") }
}

/// An HTTP server that does what it was told, request by request, and the last of it for all others.
final class ScriptedServer: Sendable {
    private let script: Mutex<[Act]>
    private let requests = Mutex<[Received]>([])
    private let pauses = Mutex<[Duration]>([])
    private let listener: any Channel
    private let http: HTTPClient

    var received: [Received] { self.requests.withLock { $0 } }
    /// The client's, between its attempts.
    var waits: [Duration] { self.pauses.withLock { $0 } }
    var url: String { "http://127.0.0.1:\(self.listener.localAddress?.port ?? 0)" }

    /// - Parameter isClosed: nobody listens at the address.
    static func run(_ script: [Act], isClosed: Bool = false, _ body: (ScriptedServer) async throws -> Void) async throws {
        let box = Mutex<ScriptedServer?>(nil)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let server = box.withLock({ $0 }) else { throw ChannelError.operationUnsupported }
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(Handler(server: server))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let server = ScriptedServer(script, listener)
        box.withLock { $0 = server }
        if isClosed { try await listener.close() }
        do { try await body(server) } catch {
            try await server.end(isClosed)
            throw error
        }
        try await server.end(isClosed)
    }

    private init(_ script: [Act], _ listener: any Channel) {
        self.script = Mutex(script)
        self.listener = listener
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.retryConnectionEstablishment = false
        self.http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        self.port = listener.localAddress?.port ?? 0
    }

    private let port: Int

    private func end(_ isClosed: Bool) async throws {
        try await self.http.shutdown()
        if !isClosed { try await self.listener.close() }
    }

    /// Waits no time between its attempts.
    func client(timeout: Duration = .seconds(30), attempts: Int = 4, apiKey: String = "ck_test", path: String = "") throws(CarillonError) -> CarillonClient {
        try CarillonClient(
            url: "http://127.0.0.1:\(self.port)\(path)", apiKey: apiKey,
            configuration: CarillonClient.Configuration(timeout: timeout, attempts: attempts), httpClient: self.http
        ) { pause in
            self.pauses.withLock { $0.append(pause) }
            try Task.checkCancellation()
        }
    }

    fileprivate func act(on request: Received) -> Act {
        self.requests.withLock { $0.append(request) }
        return self.script.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart

        private let server: ScriptedServer
        private var request: Received?

        init(server: ScriptedServer) { self.server = server }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch Self.unwrapInboundIn(data) {
            case .head(let head): self.request = Received(head: head)
            case .body(let part): self.request?.body += String(buffer: part)
            case .end:
                guard let request else { return }
                switch self.server.act(on: request) {
                case .hangUp: context.close(promise: nil)
                case .silence: break
                case .reply(let status, var headers, let body):
                    headers.replaceOrAdd(name: "content-length", value: "\(body.utf8.count)")
                    let head = HTTPResponseHead(version: .http1_1, status: HTTPResponseStatus(statusCode: status), headers: headers)
                    context.write(Self.wrapOutboundOut(.head(head)), promise: nil)
                    context.write(Self.wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: body)))), promise: nil)
                    context.writeAndFlush(Self.wrapOutboundOut(.end(nil)), promise: nil)
                }
            }
        }
    }
}

/// What a call threw; nil when it succeeded.
func failure(_ body: () async throws(CarillonError) -> some Sendable) async -> CarillonError? {
    do throws(CarillonError) {
        _ = try await body()
        return nil
    } catch {
        return error
    }
}
