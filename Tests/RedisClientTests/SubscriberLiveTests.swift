import Logging
import NIOCore
import NIOPosix
import Testing

@testable import RedisClient

/// Writes down what a subscriber tells.
final class Recorder: RedisSubscriberDelegate {
    enum Event: Sendable, Equatable {
        case messages([RedisMessage])
        case resubscribed
        case lost
    }

    let events = Events<Event>()
    let probes = Events<Int64>()
    /// What each `resubscribed` was about.
    let told = Events<[String]?>()

    func subscriber(_ subscriber: RedisSubscriber, received messages: [RedisMessage]) { events.add(.messages(messages)) }
    func subscriberResubscribed(_ subscriber: RedisSubscriber, channels: [String]?) {
        events.add(.resubscribed)
        told.add(channels)
    }
    func subscriberLost(_ subscriber: RedisSubscriber) { events.add(.lost) }
    func subscriber(_ subscriber: RedisSubscriber, probeTook nanoseconds: Int64) { probes.add(nanoseconds) }

    func batch() async throws -> [RedisMessage] {
        guard case .messages(let messages) = try await events.first(where: { if case .messages = $0 { true } else { false } }) else { return [] }
        return messages
    }

    func becomes(_ event: Event) async throws { _ = try await events.first { $0 == event } }
}

/// A subscriber with its publisher, both started and ready.
struct LiveSubscriber {
    let recorder = Recorder()
    let publisher: LiveClient
    let subscriber: RedisSubscriber

    init(_ endpoint: RedisEndpoint, publisher: LiveClient, _ configuration: RedisSubscriberConfiguration = .patient, channels: [String] = []) async throws {
        try await self.init(.server(endpoint), publisher: publisher, configuration, channels: channels)
    }

    init(_ deployment: RedisDeployment, publisher: LiveClient, _ configuration: RedisSubscriberConfiguration = .patient, channels: [String] = []) async throws {
        self.publisher = publisher
        subscriber = RedisSubscriber(
            deployment: deployment, eventLoop: MultiThreadedEventLoopGroup.singleton.next(), publisher: publisher.client, configuration: configuration,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, handler: recorder
        )
        if !channels.isEmpty { _ = await failure { [subscriber] in try await subscriber.subscribe(channels).get() } }
        subscriber.start()
        try await recorder.becomes(.resubscribed)
    }

    func publish(_ channel: String, _ payload: String) async throws {
        _ = try await publisher.send("PUBLISH", .string(channel), .string(payload))
    }

    func shutdown() async throws {
        try await subscriber.shutdown().get()
        try await publisher.client.shutdown().get()
    }
}

extension RedisSubscriberConfiguration {
    static var patient: Self {
        var configuration = Self()
        configuration.connection = .patient
        return configuration
    }

    static var quick: Self {
        var configuration = Self()
        configuration.connection = .quick
        return configuration
    }
}

@Suite("A subscriber and a real server", .timeLimit(.minutes(5)))
struct SubscriberLiveTests {
    @Test("messages arrive binary-safe on channels of any name, and not after the unsubscribe")
    func messages() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveSubscriber(redis.endpoint, publisher: try await .available(redis.endpoint))
        let names = ["🔔:{u}/%", "caf\u{e9}", "cafe\u{301}", "a b\r\n\0"]
        try await live.subscriber.subscribe(names).get()
        #expect(live.subscriber.counters.channels == 4)
        let payload = ByteBuffer(bytes: UInt8.min...UInt8.max)
        for name in names {
            #expect(try await live.publisher.send("PUBLISH", .string(name), .bytes(payload)) == .integer(1))
            #expect(try await live.recorder.batch() == [RedisMessage(channel: ByteBuffer(string: name), payload: payload)])
        }
        live.subscriber.unsubscribe(["caf\u{e9}"])
        // The confirmation of a later call is behind the UNSUBSCRIBE.
        try await live.subscriber.subscribe(["later"]).get()
        try await live.subscriber.subscribe(["later still"]).get()
        #expect(try await live.publisher.send("PUBLISH", "caf\u{e9}", "x") == .integer(0))
        #expect(try await live.publisher.send("PUBLISH", "cafe\u{301}", "x") == .integer(1))
        try await live.shutdown()
        await redis.kill()
    }

    @Test("all messages of one read come in one call, in order")
    func batch() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveSubscriber(redis.endpoint, publisher: try await .available(redis.endpoint))
        try await live.subscriber.subscribe(["a", "b"]).get()
        let script = RedisScript("for i = 1, 20 do redis.call('publish', i % 2 == 0 and 'a' or 'b', i) end")
        _ = try await live.publisher.client.run(script).get()
        let messages = try await live.recorder.batch()
        #expect(messages.map { String(buffer: $0.payload) } == (1...20).map(String.init))
        #expect(messages.map { String(buffer: $0.channel) } == (1...20).map { $0 % 2 == 0 ? "a" : "b" })
        try await live.shutdown()
        await redis.kill()
    }

    @Test("many calls in one tick are one command")
    func coalescing() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveSubscriber(redis.endpoint, publisher: try await .available(redis.endpoint))
        let subscriber = live.subscriber
        let futures = try await subscriber.eventLoop.submit { (0..<100).map { subscriber.subscribe(["c\($0)"]) } }.get()
        for future in futures { try await future.get() }
        // One for the probe, one for these.
        #expect(try await live.publisher.send("INFO", "commandstats").string?.contains("cmdstat_subscribe:calls=2,") == true)
        try await live.shutdown()
        await redis.kill()
    }

    @Test("after the server was killed and started again all channels are subscribed, in batches, and the delegate knows")
    func restart() async throws {
        let redis = try await LiveRedis()
        var configuration = RedisSubscriberConfiguration.patient
        configuration.channelsPerCommand = 500
        let live = try await LiveSubscriber(
            redis.endpoint, publisher: try await .available(redis.endpoint, .patient), configuration, channels: (0..<1203).map { "c\($0)" }
        )
        #expect(live.subscriber.isAvailable)
        await redis.kill()
        try await live.recorder.becomes(.lost)
        #expect(!live.subscriber.isAvailable)
        #expect(await failure { try await live.subscriber.subscribe(["new"]).get() }?.code == .unavailable)
        live.subscriber.unsubscribe(["c0"])
        try redis.start()
        try await live.recorder.becomes(.resubscribed)
        if !live.publisher.client.isAvailable { try await live.publisher.becomes(true) }
        #expect(try await live.publisher.send("INFO", "commandstats").string?.contains("cmdstat_subscribe:calls=4,") == true)
        #expect(try await live.publisher.send("PUBLISH", "c0", "x") == .integer(0))
        for name in ["c1", "c1202", "new"] {
            try await live.publish(name, "back")
            #expect(try await live.recorder.batch() == [RedisMessage(channel: ByteBuffer(string: name), payload: ByteBuffer(string: "back"))])
        }
        #expect(live.subscriber.counters.resubscribes == 2 && live.subscriber.counters.lost == 1)
        try await live.shutdown()
        await redis.kill()
    }

    @Test("a server that stands still is noticed and later found again")
    func silence() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveSubscriber(redis.endpoint, publisher: try await .available(redis.endpoint, .quick), .quick, channels: ["a"])
        redis.pause()
        try await live.recorder.becomes(.lost)
        // Also a greeting that it leaves unanswered is one.
        #expect(live.subscriber.counters.silences >= 1)
        redis.resume()
        try await live.recorder.becomes(.resubscribed)
        if !live.publisher.client.isAvailable { try await live.publisher.becomes(true) }
        try await live.publish("a", "x")
        #expect(try await live.recorder.batch().count == 1)
        try await live.shutdown()
        await redis.kill()
    }

    @Test("probes come back and are measured, and are not among the messages")
    func probes() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveSubscriber(redis.endpoint, publisher: try await .available(redis.endpoint))
        for _ in 0..<3 { #expect(try await live.recorder.probes.first { _ in true } > 0) }
        #expect(live.subscriber.counters.probesReceived >= 3 && live.subscriber.counters.messages == 0)
        try await live.shutdown()
        await redis.kill()
    }

    @Test("a subscriber whose probes go to another server than its own is reconnected")
    func split() async throws {
        let mine = try await LiveRedis()
        let other = try await LiveRedis()
        let live = try await LiveSubscriber(mine.endpoint, publisher: try await .available(other.endpoint))
        try await live.recorder.becomes(.lost)
        try await live.recorder.becomes(.resubscribed)
        #expect(live.subscriber.counters.probesSent >= 1 && live.subscriber.counters.probesReceived == 0)
        try await live.shutdown()
        await mine.kill()
        await other.kill()
    }

    @Test("what waits for a confirmation fails when the connection ends or the channel is given up")
    func failures() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveSubscriber(redis.endpoint, publisher: try await .available(redis.endpoint))
        let subscriber = live.subscriber
        let (cancelled, lost, done) = try await subscriber.eventLoop.submit {
            let cancelled = subscriber.subscribe(["a", "b"])
            subscriber.unsubscribe(["b"])
            return (cancelled, subscriber.subscribe(["c"]), subscriber.shutdown())
        }.get()
        #expect(await failure { try await cancelled.get() }?.code == .cancelled)
        #expect(await failure { try await lost.get() }?.code == .unavailable)
        try await done.get()
        try await live.recorder.becomes(.lost)
        #expect(subscriber.counters.subscribesFailed == 2)
        try await live.shutdown()
        await redis.kill()
    }

    @Test("a subscription that the server refuses is said clearly")
    func refused() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveSubscriber(redis.endpoint, publisher: try await .available(redis.endpoint))
        _ = try await live.publisher.send("ACL", "SETUSER", "narrow", "on", ">pw", "+@all", "&probe:*", "&ok:*")
        let endpoint = RedisEndpoint(host: redis.endpoint.host, port: redis.port, username: "narrow", password: "pw")
        let narrow = try await LiveSubscriber(endpoint, publisher: live.publisher)
        try await narrow.subscriber.subscribe(["ok:1"]).get()
        #expect(await failure { try await narrow.subscriber.subscribe(["no:1"]).get() }?.serverCode == "NOPERM")
        try await narrow.recorder.becomes(.lost)
        narrow.subscriber.unsubscribe(["no:1"])
        try await narrow.recorder.becomes(.resubscribed)
        try await narrow.subscriber.shutdown().get()
        try await live.shutdown()
        await redis.kill()
    }
}
