import NIOCore
import NIOPosix

/// What `GET /health/ready` of a server said, for the report.
struct ServerHealth: Codable, Sendable {
    var url: String
    /// Absent when the server did not answer.
    var status: Int?
    var body: String?
}

enum HealthProbe {
    /// Asks each distinct server once; one that does not answer within two seconds is reported without a status, since
    /// the shipped proxies refuse health checks from outside.
    static func probe(_ targets: [Target]) async -> [ServerHealth] {
        var seen: Set<String> = []
        var answers: [ServerHealth] = []
        for target in targets where seen.insert(target.description).inserted {
            do {
                let (status, body) = try await get(target)
                answers.append(ServerHealth(url: target.description, status: status, body: body))
            } catch {
                answers.append(ServerHealth(url: target.description, status: nil, body: nil))
            }
        }
        return answers
    }

    private static func get(_ target: Target) async throws -> (Int, String) {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let promise = loop.makePromise(of: (Int, String).self)
        let channel = ClientBootstrap(group: loop)
            .connectTimeout(.seconds(2))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Handler(host: target.hostHeader, promise: promise))
                }
            }
            .connect(to: target.address)
        channel.whenSuccess { channel in channel.eventLoop.scheduleTask(in: .seconds(2)) { channel.close(promise: nil) } }
        channel.whenFailure { promise.fail($0) }
        return try await promise.futureResult.get()
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let host: String
        private var promise: EventLoopPromise<(Int, String)>?
        private var http = HTTPResponseParser()
        private var status = 0
        private var body: [UInt8] = []

        init(host: String, promise: EventLoopPromise<(Int, String)>) {
            self.host = host
            self.promise = promise
        }

        func channelActive(context: ChannelHandlerContext) {
            let request = ByteBuffer(string: "GET /health/ready HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\r\n")
            context.writeAndFlush(wrapOutboundOut(request), promise: nil)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var finished = false
            do throws(LoadtestError) {
                try unwrapInboundIn(data).withUnsafeReadableBytes { bytes throws(LoadtestError) in
                    try http.feed(bytes) { part throws(LoadtestError) in
                        switch part {
                        case .head(let head): status = head.status
                        case .body(let bytes): body.append(contentsOf: bytes.prefix(max(0, 4_096 - body.count)))
                        case .end: finished = true
                        }
                    }
                }
            } catch {
                promise?.fail(error)
                promise = nil
                finished = true
            }
            if finished { context.close(promise: nil) }
        }

        func channelInactive(context: ChannelHandlerContext) {
            if status > 0 {
                promise?.succeed((status, String(decoding: body, as: UTF8.self)))
            } else {
                promise?.fail(LoadtestError.environment("\(host) closed without an answer", "Check its log"))
            }
            promise = nil
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            context.close(promise: nil)
        }
    }
}
