import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

@testable import RedisClient

/// A server that says what a test tells it to: for what real servers do only at the wrong moment.
final class ScriptedRedis: Sendable {
    private let channel: any Channel
    private let clients: NIOLockedValueBox<[any Channel]>

    /// - Parameter answer: the reply to a command as it goes over the wire, or nil for silence.
    init(_ answer: @escaping @Sendable (_ command: [String], _ port: Int) -> String?) async throws {
        let clients = NIOLockedValueBox<[any Channel]>([])
        self.clients = clients
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { child in
                clients.withLockedValue { $0.append(child) }
                return child.eventLoop.makeCompletedFuture {
                    let port = child.localAddress?.port ?? 0
                    try child.pipeline.syncOperations.addHandler(Script { answer($0, port) })
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
    }

    var port: Int { channel.localAddress?.port ?? 0 }
    var endpoint: RedisEndpoint { RedisEndpoint(host: "127.0.0.1", port: port) }

    func stop() async throws {
        try await channel.close()
        // Most of them are closed already.
        for client in clients.withLockedValue({ $0 }) { try? await client.close() }
    }

    static func bulk(_ text: String) -> String { "$\(text.utf8.count)\r\n\(text)\r\n" }
    static func array(_ parts: String...) -> String { "*\(parts.count)\r\n" + parts.joined() }

    /// The answer to `CLUSTER SLOTS` of a cluster whose first node serves all slots; the others are its replicas.
    static func slots(_ ports: Int..., last: Int = HashSlot.count - 1) -> String {
        let nodes = ports.map { array(bulk("127.0.0.1"), ":\($0)\r\n", bulk("id\($0)")) }
        return "*1\r\n*\(nodes.count + 2)\r\n:0\r\n:\(last)\r\n" + nodes.joined()
    }
}

private final class Script: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let answer: ([String]) -> String?
    private var received = ""

    init(_ answer: @escaping ([String]) -> String?) {
        self.answer = answer
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        received += String(buffer: unwrapInboundIn(data))
        while let command = next() {
            guard let reply = answer(command) else { continue }
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: reply)), promise: nil)
        }
    }

    /// Commands are arrays of bulk strings; those of these tests hold no line ends.
    private func next() -> [String]? {
        var lines = received.split(separator: "\r\n", omittingEmptySubsequences: false)
        guard let count = lines.first.flatMap({ Int($0.dropFirst()) }), lines.count > 2 * count + 1 else { return nil }
        let words = (0..<count).map { String(lines[2 * $0 + 2]) }
        lines.removeFirst(2 * count + 1)
        received = lines.joined(separator: "\r\n")
        return words
    }
}
