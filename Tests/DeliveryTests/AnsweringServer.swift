import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// An HTTP server that does what the path says: `/status/503?retry-after=7`, `/redirect`, `/endless`, `/drip`, `/silent`, `/close`, `/ok`.
final class AnsweringServer: Sendable {
    struct Received: Sendable {
        var head: HTTPRequestHead
        var body: [UInt8] = []
        var connection: ObjectIdentifier
    }

    private let requests = Mutex<[Received]>([])
    let port: Int

    var received: [Received] { self.requests.withLock { $0 } }
    func url(_ path: String) -> String { "http://127.0.0.1:\(self.port)\(path)" }

    static func run(_ body: (AnsweringServer) async throws -> Void) async throws {
        let box = Mutex<AnsweringServer?>(nil)
        let channels = Mutex<[any Channel]>([])
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channels.withLock { $0.append(channel) }
                return channel.eventLoop.makeCompletedFuture {
                    guard let server = box.withLock({ $0 }) else { throw ChannelError.operationUnsupported }
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(Handler(server: server))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let server = AnsweringServer(port: listener.localAddress?.port ?? 0)
        box.withLock { $0 = server }
        var failure: (any Error)?
        do { try await body(server) } catch { failure = error }
        try await listener.close()
        for channel in channels.withLock({ $0 }) { channel.close(promise: nil) }
        if let failure { throw failure }
    }

    private init(port: Int) { self.port = port }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart

        private let server: AnsweringServer
        private var request: Received?

        init(server: AnsweringServer) { self.server = server }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch Self.unwrapInboundIn(data) {
            case .head(let head): self.request = Received(head: head, connection: ObjectIdentifier(context.channel))
            case .body(let part): self.request?.body += Array(part.readableBytesView)
            case .end:
                guard let request else { return }
                self.server.requests.withLock { $0.append(request) }
                self.answer(request.head.uri, context)
            }
        }

        private func answer(_ uri: String, _ context: ChannelHandlerContext) {
            if uri == "/silent" { return }
            if uri == "/close" {
                context.close(promise: nil)
                return
            }
            var (status, headers, body) = (200, HTTPHeaders(), "fine")
            if uri.hasPrefix("/status/") {
                status = Int(uri.dropFirst(8).prefix(3)) ?? 500
                if let pause = uri.split(separator: "=").dropFirst().first { headers.add(name: "retry-after", value: String(pause).replacing("%20", with: " ")) }
            }
            if uri == "/redirect" {
                status = 307
                headers.add(name: "location", value: "/ok")
            }
            if uri == "/long" { body = String(repeating: "x", count: 5000) }
            let isOpen = uri == "/endless" || uri == "/drip"
            if !isOpen { headers.add(name: "content-length", value: "\(body.utf8.count)") }
            context.writeAndFlush(Self.wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: .init(statusCode: status), headers: headers))), promise: nil)
            context.writeAndFlush(Self.wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: body)))), promise: nil)
            if uri == "/endless" { self.go(context) } else if !isOpen { context.writeAndFlush(Self.wrapOutboundOut(.end(nil)), promise: nil) }
        }

        /// Until the other side closes.
        private func go(_ context: ChannelHandlerContext) {
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            context.writeAndFlush(Self.wrapOutboundOut(.body(.byteBuffer(ByteBuffer(repeating: 120, count: 16_384))))).whenSuccess {
                bound.value.0.go(bound.value.1)
            }
        }
    }
}
