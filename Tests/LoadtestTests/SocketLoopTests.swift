import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@testable import carillon_loadtest

@Suite("Socket loop")
struct SocketLoopTests {
    /// What became of a connection, in order.
    private enum Event: Equatable, Sendable {
        case opened
        case bytes(Int)
        case ended(String?)
    }

    /// Tells what happens to it, bytes added up; sends what it is given once it is open.
    private final class Client: Connection {
        private let tell: AsyncStream<Event>.Continuation
        private let first: [UInt8]
        private var isSlowOver = false

        init(loop: SocketLoop, first: [UInt8], tell: AsyncStream<Event>.Continuation) {
            self.first = first
            self.tell = tell
            super.init(loop: loop)
        }

        override func opened() {
            tell.yield(.opened)
            first.withUnsafeBytes(send)
            if readsByItself { ask() }
        }

        /// For a hundred bytes, until some are there; then for all.
        private func ask() {
            guard !isSlowOver else { return readAll() }
            readOnce(100)
            loop.assumeIsolated().scheduleTask(in: .milliseconds(2)) { self.ask() }
        }

        override func received(_ bytes: UnsafeRawBufferPointer, at now: UInt64) {
            #expect(now <= monotonicNow())
            #expect(bytes.allSatisfy { $0 == UInt8(ascii: "x") })
            isSlowOver = true
            tell.yield(.bytes(bytes.count))
        }

        override func ended() {
            tell.yield(.ended(failure))
            tell.finish()
        }
    }

    /// Sends back what comes; after so many bytes it closes.
    private final class Echo: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private var left: Int

        init(_ bytes: Int) { left = bytes }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            left -= unwrapInboundIn(data).readableBytes
            let over = left <= 0
            let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
            context.writeAndFlush(data).whenComplete { _ in if over { bound.value.close(promise: nil) } }
        }
    }

    private func server(closingAfter bytes: Int) async throws -> any Channel {
        try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Echo(bytes)) } }
            .bind(host: "127.0.0.1", port: 0).get()
    }

    private func connect(to address: SocketAddress, sending bytes: Int = 0, slowly: Bool = false, on loop: SocketLoop) -> AsyncStream<Event> {
        let (events, tell) = AsyncStream.makeStream(of: Event.self)
        loop.execute {
            let client = Client(loop: loop, first: Array(repeating: UInt8(ascii: "x"), count: bytes), tell: tell)
            client.readsByItself = slowly
            client.connect(to: address)
        }
        return events
    }

    @Test("everything sent and sent back comes, however much more than a buffer it is, and the end after it", arguments: [1, 65_535, 65_536, 65_537, 5_000_000])
    func echo(count: Int) async throws {
        let server = try await server(closingAfter: count)
        let loop = try SocketLoop.start(name: "test")
        var (sum, last): (Int, Event?) = (0, nil)
        for await event in connect(to: server.localAddress!, sending: count, on: loop) {
            if case .bytes(let some) = event { sum += some }
            last = event
        }
        #expect(sum == count)
        #expect(last == .ended(nil))
        try await loop.shutdownGracefully()
        try await server.close()
    }

    @Test("a connection that reads by itself gets no more than it asks for, until it reads all")
    func slow() async throws {
        let server = try await server(closingAfter: 1_000)
        let loop = try SocketLoop.start(name: "test")
        var seen: [Event] = []
        for await event in connect(to: server.localAddress!, sending: 1_000, slowly: true, on: loop) { seen.append(event) }
        #expect(seen == [.opened, .bytes(100), .bytes(900), .ended(nil)])
        try await loop.shutdownGracefully()
        try await server.close()
    }

    @Test("a connection that nobody takes says so, once")
    func refused() async throws {
        let server = try await server(closingAfter: 1)
        let address = server.localAddress!
        try await server.close()
        let loop = try SocketLoop.start(name: "test")
        var seen: [Event] = []
        for await event in connect(to: address, on: loop) { seen.append(event) }
        #expect(seen == [.ended("connect failed")])
        try await loop.shutdownGracefully()
    }

    @Test("timers fire in the order of their times, whoever sets them; one that was cancelled does not, and one that is left fails")
    func timers() async throws {
        let loop = try SocketLoop.start(name: "test")
        let fired = NIOLockedValueBox<[Int]>([])
        let (start, cancelled) = (NIODeadline.now() + .seconds(2), NIOLockedValueBox(false))
        func set(_ number: Int) -> Scheduled<Void> { loop.scheduleTask(deadline: start + .milliseconds(Int64(number) * 10)) { fired.withLockedValue { $0.append(number) } } }
        let last = set(4)
        let dropped = loop.scheduleTask(deadline: start + .milliseconds(15)) { cancelled.withLockedValue { $0 = true } }
        _ = (set(3), set(1), set(2))
        dropped.cancel()
        try await last.futureResult.get()
        #expect(fired.withLockedValue { $0 } == [1, 2, 3, 4])
        #expect(!cancelled.withLockedValue { $0 })
        #expect(NIODeadline.now() >= start + .milliseconds(40))
        let failure = NIOLockedValueBox<(any Error)?>(nil)
        loop.scheduleTask(in: .hours(1)) {}.futureResult.whenFailure { error in failure.withLockedValue { $0 = error } }
        #expect(try await loop.submit { loop.inEventLoop }.get())
        #expect(!loop.inEventLoop)
        try await loop.shutdownGracefully()
        #expect(failure.withLockedValue { $0 as? EventLoopError } == .shutdown)
    }
}
