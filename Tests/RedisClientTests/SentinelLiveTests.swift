import NIOCore
import TestServers
import Testing

@testable import RedisClient

@Suite("Sentinels, a master and its replicas", .timeLimit(.minutes(5)))
struct SentinelLiveTests {
    /// A client and a subscriber of `a`, `b` and `c`.
    private func live(_ redis: LiveSentinels) async throws -> LiveSubscriber {
        try await LiveSubscriber(redis.deployment, publisher: try await .available(redis.deployment, .patient), .patient, channels: ["a", "b", "c"])
    }

    /// Both are on the server at that port, and what is published arrives.
    private func expectOn(_ server: LiveRedis, _ live: LiveSubscriber) async throws {
        try await until { (try? await live.publisher.send("CONFIG", "GET", "port").array?.last?.string) == "\(server.port)" }
        for channel in ["a", "b", "c"] {
            #expect(try await live.publisher.send("PUBLISH", .string(channel), "x") == .integer(1))
            #expect(try await live.recorder.batch().map(\.channel) == [ByteBuffer(string: channel)])
        }
        #expect(try await live.publisher.send("SET", "k", "v") == .status("OK"))
    }

    @Test("after the master was killed, client and subscriber are on the promoted replica, and the delegate knows")
    func killed() async throws {
        let redis = try await LiveSentinels()
        let live = try await live(redis)
        try await expectOn(redis.master, live)
        await redis.master.kill()
        try await live.recorder.becomes(.lost)
        try await live.recorder.becomes(.resubscribed)
        try await expectOn(redis.replicas[0], live)
        #expect(live.subscriber.counters.resubscribes == 2)
        try await live.shutdown()
        await redis.kill()
    }

    @Test("a master that was replaced while it lives is left, although its connections are open")
    func switched() async throws {
        let redis = try await LiveSentinels()
        let live = try await live(redis)
        let asking = try await LiveClient.available(redis.sentinels[0].endpoint, .admin)
        #expect(try await asking.send("SENTINEL", "FAILOVER", "the-master") == .status("OK"))
        try await live.recorder.becomes(.lost)
        try await live.recorder.becomes(.resubscribed)
        _ = try await live.publisher.log.first { $0.contains("another server is the master now") }
        try await expectOn(redis.replicas[0], live)
        let old = try await LiveClient.available(redis.master.endpoint, .admin)
        #expect(try await old.send("PUBSUB", "NUMSUB", "a").array?.last == .integer(0))
        try await old.client.shutdown().get()
        try await asking.client.shutdown().get()
        try await live.shutdown()
        await redis.kill()
    }

    @Test("a master that stands still is left for the promoted replica, also after it has come to again")
    func stopped() async throws {
        let redis = try await LiveSentinels(replicas: 2)
        let live = try await live(redis)
        redis.master.pause()
        try await live.recorder.becomes(.lost)
        try await live.recorder.becomes(.resubscribed)
        var port: String?
        try await until {
            port = try? await live.publisher.send("CONFIG", "GET", "port").array?.last?.string
            return port != nil
        }
        let promoted = try #require(redis.replicas.first { "\($0.port)" == port })
        redis.master.resume()
        let old = try await LiveClient.available(redis.master.endpoint, .admin)
        try await until { (try? await old.send("ROLE").array?.first?.string) == "slave" }
        try await expectOn(promoted, live)
        try await old.client.shutdown().get()
        try await live.shutdown()
        await redis.kill()
    }

    @Test("without any sentinel the connections to the master stay")
    func alone() async throws {
        let redis = try await LiveSentinels()
        let live = try await live(redis)
        for sentinel in redis.sentinels { await sentinel.kill() }
        for sentinel in redis.sentinels { _ = try await live.publisher.log.first { $0.contains("trying again") && $0.contains(":\(sentinel.port)/") } }
        try await expectOn(redis.master, live)
        #expect(live.publisher.client.counters.lost == 0 && live.subscriber.counters.lost == 0)
        try await live.shutdown()
        await redis.kill()
    }

    @Test("sentinels and master may want passwords of their own, and a sentinel that is not there is passed over")
    func passwords() async throws {
        let master = try await LiveRedis(["--requirepass", "data"])
        let sentinel = try LiveSentinels.sentinel(
            port: try FreePort.next(), of: master.port, quorum: 1, "sentinel auth-pass the-master data\nrequirepass watch")
        let places = "127.0.0.1:\(try FreePort.next()),127.0.0.1:\(sentinel.port)"
        let right = try await LiveClient.available(try RedisDeployment(url: "redis+sentinel://:data@\(places)/the-master/2?sentinel_password=watch"), .patient)
        #expect(try await right.send("CLIENT", "INFO").string?.contains("db=2") == true)

        for (url, reason) in [
            ("redis+sentinel://:data@\(places)/the-master?sentinel_password=wrong", "WRONGPASS"),
            ("redis+sentinel://:wrong@\(places)/the-master?sentinel_password=watch", "WRONGPASS"),
            ("redis+sentinel://:data@\(places)/no-master?sentinel_password=watch", "knows no master named no-master"),
        ] {
            let wrong = LiveClient(try RedisDeployment(url: url), .patient)
            try await until { wrong.client.connectionError?.message.contains(reason) == true }
            #expect(!wrong.client.isAvailable)
            try await wrong.client.shutdown().get()
        }
        try await right.client.shutdown().get()
        await sentinel.kill()
        await master.kill()
    }

    @Test("a shutdown while no sentinel answers ends")
    func shutdown() async throws {
        let deployment = try RedisDeployment(url: "redis+sentinel://127.0.0.1:\(try FreePort.next())/m")
        let live = LiveClient(deployment, .patient)
        _ = try await live.log.first { $0.contains("trying again") }
        try await live.client.shutdown().get()
        #expect(await failure { try await live.send("PING") }?.code == .unavailable)
    }
}
