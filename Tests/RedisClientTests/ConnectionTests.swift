import Logging
import NIOCore
import NIOEmbedded
import Testing

@testable import RedisClient

/// Uses a connection as little as possible, and writes down what it hears.
private final class User: ConnectionUser {
    var awaitsReply = false
    var values: [RedisValue] = []
    /// How many values had come when each read was complete.
    var reads: [Int] = []
    var probes = 0
    var reasons: [RedisError] = []
    var isOpen = false

    func opened(_ connection: Connection) { isOpen = true }
    func received(_ reply: ReplyView) throws(RedisError) { values.append(try reply.value()) }
    func readComplete() { reads.append(values.count) }
    func probe(_ connection: Connection) { probes += 1 }
    func ended(_ reason: RedisError) { reasons.append(reason) }
}

@Suite("A connection, without a socket")
struct ConnectionTests {
    private let channel = EmbeddedChannel()
    private let user = User()
    private let connection: Connection

    init() throws {
        connection = Connection(channel: channel, address: RedisAddress(host: "h", port: 1), configuration: RedisConnectionConfiguration(), purpose: .commands)
        try channel.pipeline.syncOperations.addHandler(connection)
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        connection.begin(Greeting(endpoint: RedisEndpoint(host: "h", password: "p"), for: .commands), user: user)
        channel.embeddedEventLoop.run()
    }

    private func read(_ text: String) throws {
        try channel.writeInbound(ByteBuffer(string: text))
    }

    private func written() throws -> [String] {
        var all: [String] = []
        while let buffer = try channel.readOutbound(as: ByteBuffer.self) { all.append(String(buffer: buffer)) }
        return all
    }

    @Test("what is written in one tick is one write")
    func coalescing() throws {
        #expect(try written() == ["*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n*1\r\n$4\r\nPING\r\n"])
        try read("+OK\r\n+PONG\r\n")
        #expect(user.isOpen)
        for _ in 0..<3 { connection.write(RedisCommand("PING").encode) }
        #expect(try written() == [])
        channel.embeddedEventLoop.run()
        #expect(try written() == [String(repeating: "*1\r\n$4\r\nPING\r\n", count: 3)])
        connection.end(.shutDown)
    }

    @Test("replies of one read come before one completion, however many they are")
    func batching() throws {
        try read("+OK\r\n+PONG\r\n:1\r\n")
        try read(String(repeating: ":2\r\n", count: 5000))
        #expect(user.values.count == 5001 && user.reads == [1, 5001])
        connection.end(.shutDown)
    }

    @Test("garbage ends the connection once, and nothing is heard after it")
    func violation() throws {
        try read("+OK\r\n+PONG\r\n:1\r\nHTTP/1.1 400\r\n")
        try read(":2\r\n")
        #expect(user.values == [.integer(1)])
        #expect(user.reasons.map(\.code) == [.protocolViolation])
        #expect(!channel.isActive)
    }

    @Test("a greeting without an answer times out, as does a reply that is owed")
    func silence() throws {
        channel.embeddedEventLoop.advanceTime(by: .seconds(5))
        #expect(user.reasons.map(\.code) == [.timedOut])
    }

    @Test("an idle connection is probed, and lives as long as it owes nothing")
    func idle() throws {
        try read("+OK\r\n+PONG\r\n")
        channel.embeddedEventLoop.advanceTime(by: .seconds(60))
        #expect(user.probes == 60 && user.reasons.isEmpty)
        user.awaitsReply = true
        channel.embeddedEventLoop.advanceTime(by: .seconds(4))
        #expect(user.reasons.map(\.code) == [.timedOut])
    }

    @Test("a subscriber asks with PING while its publisher is not available")
    func ping() throws {
        connection.end(.shutDown)
        let channel = EmbeddedChannel()
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let publisher = RedisClient(endpoint: RedisEndpoint(host: "h"), eventLoop: channel.embeddedEventLoop, logger: logger)
        let core = SubscriberCore(
            source: FixedSource(RedisEndpoint(host: "h"), eventLoop: channel.embeddedEventLoop), configuration: .init(), eventLoop: channel.embeddedEventLoop, publisher: publisher, shared: SubscriberShared(),
            logger: logger, delegate: Recorder()
        )
        let connection = Connection(channel: channel, address: RedisAddress(host: "h", port: 1), configuration: .init(), purpose: .subscriptions)
        core.probe(connection)
        channel.embeddedEventLoop.run()
        #expect(try channel.readOutbound(as: ByteBuffer.self) == ByteBuffer(string: "*1\r\n$4\r\nPING\r\n"))
        try core.shutdown().wait()
        try publisher.shutdown().wait()
    }
}
