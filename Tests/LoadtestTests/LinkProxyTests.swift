import NIOCore
import NIOPosix
import Testing

@testable import carillon_loadtest

/// A proxy before a server that answers every byte with itself.
@Suite("The proxy of chaos")
struct LinkProxyTests {
    private final class Echo: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        func channelRead(context: ChannelHandlerContext, data: NIOAny) { context.writeAndFlush(data, promise: nil) }
    }

    private final class Client: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        let bytes: AsyncStream<UInt8>.Continuation
        init(_ bytes: AsyncStream<UInt8>.Continuation) { self.bytes = bytes }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) { for byte in unwrapInboundIn(data).readableBytesView { bytes.yield(byte) } }
        func channelInactive(context: ChannelHandlerContext) { bytes.finish() }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }

    private func connect(_ port: Int) async throws -> (any Channel, AsyncStream<UInt8>) {
        let (stream, continuation) = AsyncStream.makeStream(of: UInt8.self)
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Client(continuation)) }
            }
            .connect(host: "127.0.0.1", port: port).get()
        return (channel, stream)
    }

    private func withProxy(_ body: (LinkProxy.Reference) async throws -> Void) async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Echo()) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let proxy = try await LinkProxy.start(target: server.localAddress!, on: MultiThreadedEventLoopGroup.singleton.next())
        try await body(proxy)
        try await proxy.stop()
        try await server.close()
    }

    private func read(_ count: Int, _ iterator: inout AsyncStream<UInt8>.AsyncIterator) async -> String {
        var bytes: [UInt8] = []
        while bytes.count < count, let byte = await iterator.next() { bytes.append(byte) }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test("passes what comes, both ways, in every mode that passes anything", arguments: [
        LinkProxy.Mode.pass, .delay(milliseconds: 20), .throttle(bytesPerSecond: 4_000_000),
    ])
    func passes(mode: LinkProxy.Mode) async throws {
        try await withProxy { proxy in
            try await proxy.set(mode)
            let (channel, stream) = try await connect(proxy.port)
            var iterator = stream.makeAsyncIterator()
            let text = String(repeating: "0123456789abcdef", count: 5_000)
            try await channel.writeAndFlush(ByteBuffer(string: text))
            #expect(await read(text.utf8.count, &iterator) == text)
            try await channel.close()
        }
    }

    @Test("resets connections and refuses new ones while cut, then listens on the same port again")
    func cut() async throws {
        try await withProxy { proxy in
            let (channel, stream) = try await connect(proxy.port)
            var iterator = stream.makeAsyncIterator()
            try await channel.writeAndFlush(ByteBuffer(string: "a"))
            #expect(await read(1, &iterator) == "a")
            try await proxy.set(.cut)
            #expect(await iterator.next() == nil)
            await #expect(throws: (any Error).self) { _ = try await connect(proxy.port) }
            try await proxy.set(.pass)
            let (again, more) = try await connect(proxy.port)
            var others = more.makeAsyncIterator()
            try await again.writeAndFlush(ByteBuffer(string: "b"))
            #expect(await read(1, &others) == "b")
            try await again.close()
        }
    }

    @Test("holds everything back in silence, closes nothing, and passes it on afterwards")
    func silence() async throws {
        try await withProxy { proxy in
            let (channel, stream) = try await connect(proxy.port)
            var iterator = stream.makeAsyncIterator()
            try await channel.writeAndFlush(ByteBuffer(string: "a"))
            #expect(await read(1, &iterator) == "a")
            try await proxy.set(.silence)
            try await channel.writeAndFlush(ByteBuffer(string: "b"))
            // Another connection is accepted and silent, too.
            let (second, secondStream) = try await connect(proxy.port)
            var others = secondStream.makeAsyncIterator()
            try await second.writeAndFlush(ByteBuffer(string: "c"))
            #expect(channel.isActive && second.isActive)
            try await proxy.set(.pass)
            #expect(await read(1, &iterator) == "b")
            #expect(await read(1, &others) == "c")
            try await channel.close()
            try await second.close()
        }
    }
}
