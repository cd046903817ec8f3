import Foundation
import NIOCore
import TestServers
import Testing

@testable import RedisClient

@Suite("A client and a real server", .timeLimit(.minutes(5)))
struct ClientLiveTests {
    @Test("replies come in the order of the commands, and an error of one does not fail the others")
    func pipeline() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveClient.available(redis.endpoint)
        var commands: [RedisCommand] = []
        for number in 1...2000 {
            commands.append(RedisCommand("INCR", "counter"))
            if number % 100 == 0 { commands.append(RedisCommand("LPUSH", "counter", "x")) }
        }
        let values = try await live.client.pipeline(commands).get()
        #expect(values.compactMap(\.int) == Array(1...2000))
        #expect(values.compactMap(\.error?.serverCode) == Array(repeating: "WRONGTYPE", count: 20))
        #expect(await failure { try await live.send("NOSUCHCOMMAND") }?.serverCode == "ERR")
        #expect(try await live.send("GET", "counter").int == 2000)
        #expect(try await live.client.pipeline([]).get() == [])
        #expect(live.client.counters.serverErrors == 21)
        #expect(live.client.counters.commandsInFlight == 0 && live.client.counters.bytesInFlight == 0)
        try await live.client.shutdown().get()
        await redis.kill()
    }

    @Test("many tasks may send at once, and each gets its own replies")
    func concurrency() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveClient.available(redis.endpoint)
        let client = live.client
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<20 {
                group.addTask {
                    for number in 0..<100 {
                        let text = "\(task):\(number)"
                        let reply = try await client.send(RedisCommand("ECHO", .string(text))).get()
                        #expect(reply.string == text)
                    }
                }
            }
            try await group.waitForAll()
        }
        try await client.shutdown().get()
        await redis.kill()
    }

    @Test("keys and values are binary-safe")
    func binary() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveClient.available(redis.endpoint)
        let bytes = ByteBuffer(bytes: (0..<3000).flatMap { _ in UInt8.min...UInt8.max })
        #expect(try await live.send("SET", "🔔\r\n\0", .bytes(bytes)) == .status("OK"))
        #expect(try await live.send("GET", "🔔\r\n\0") == .bulk(bytes))
        #expect(try await live.send("GET", "none") == .null)
        try await live.client.shutdown().get()
        await redis.kill()
    }

    @Test("a script runs by its hash, and by its source where the server does not know it")
    func scripts() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveClient.available(redis.endpoint)
        let script = RedisScript("if ARGV[1] == 'bad' then return redis.error_reply('BAD thing') end return {KEYS[1], ARGV[1]}")
        for _ in 0..<2 {
            #expect(try await live.client.run(script, keys: ["k"], arguments: ["v"]).get().array?.compactMap(\.string) == ["k", "v"])
            #expect(try await live.client.run(script, keys: ["k"], arguments: [7]).get().array?.compactMap(\.string) == ["k", "7"])
            _ = try await live.send("SCRIPT", "FLUSH")
            let values = try await live.client.run(script, calls: (0..<50).map { (keys: ["k\($0)"], arguments: [$0 == 25 ? "bad" : "v"]) }).get()
            #expect(values.count == 50)
            #expect(values[25].error?.serverCode == "BAD")
            #expect(values[49].array?.compactMap(\.string) == ["k49", "v"])
            _ = try await live.send("SCRIPT", "FLUSH")
        }
        #expect(await failure { try await live.client.run(script, keys: [], arguments: ["bad"]).get() }?.serverCode == "BAD")
        try await live.client.shutdown().get()
        await redis.kill()
    }

    @Test("a server that was killed fails what is sent, and the client is available again by itself once it is back")
    func restart() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveClient.available(redis.endpoint)
        for round in 1...2 {
            await redis.kill()
            try await live.becomes(false)
            #expect(!live.client.isAvailable)
            #expect(await failure { try await live.send("PING") }?.code == .unavailable)
            try redis.start()
            try await live.becomes(true)
            #expect(try await live.send("PING") == .status("PONG"))
            #expect(live.client.counters.lost == round && live.client.counters.connected == round + 1)
            #expect(live.client.connectionError == nil)
        }
        try await live.client.shutdown().get()
        await redis.kill()
    }

    @Test("a server that stands still is noticed: what is in flight fails, and later all is well again")
    func silence() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveClient.available(redis.endpoint, .quick)
        redis.pause()
        #expect(await failure { try await live.send("PING") }?.code == .timedOut)
        #expect(!live.client.isAvailable)
        #expect(live.client.counters.commandsFailed == 1 && live.client.counters.silences >= 1)
        redis.resume()
        try await live.becomes(true)
        #expect(try await live.send("PING") == .status("PONG"))

        // The probe notices it when nothing is sent.
        redis.pause()
        try await live.becomes(false)
        redis.resume()
        try await live.becomes(true)
        try await live.client.shutdown().get()
        await redis.kill()
    }

    @Test("beyond the bound of what may be in flight commands are refused, and no longer once it has emptied")
    func bound() async throws {
        let redis = try await LiveRedis()
        var configuration = RedisClientConfiguration()
        configuration.maximumCommandsInFlight = 10
        configuration.maximumBytesInFlight = 10_000
        let live = try await LiveClient.available(redis.endpoint, configuration)
        let client = live.client
        // Within one tick no reply can come.
        let futures = try await client.eventLoop.submit { (0..<12).map { _ in client.send(RedisCommand("PING")) } }.get()
        for future in futures.prefix(10) { #expect(try await future.get() == .status("PONG")) }
        for future in futures.suffix(2) { #expect(await failure { try await future.get() }?.code == .queueFull) }
        #expect(await failure { try await client.send(RedisCommand("ECHO", .string(String(repeating: "x", count: 10_000)))).get() }?.code == .queueFull)
        #expect(await failure { try await client.pipeline(Array(repeating: RedisCommand("PING"), count: 11)).get() }?.code == .queueFull)
        #expect(try await client.pipeline(Array(repeating: RedisCommand("PING"), count: 10)).get().count == 10)
        #expect(client.counters.rejectedQueueFull == 14)
        try await client.shutdown().get()
        await redis.kill()
    }

    @Test("a wrong password is said clearly, and the client gets in once the server takes it")
    func authentication() async throws {
        let redis = try await LiveRedis(["--requirepass", "right"])
        let right = try await LiveClient.available(try RedisEndpoint(url: "redis://default:right@127.0.0.1:\(redis.port)/3"))
        let wrong = LiveClient(try RedisEndpoint(url: "redis://:wrong@127.0.0.1:\(redis.port)"), .quick)
        let line = try await wrong.log.first { $0.contains("trying again") }
        #expect(line.contains("WRONGPASS") && line.hasPrefix("warning") && !line.contains(":wrong"))
        #expect(wrong.client.connectionError?.serverCode == "WRONGPASS")
        #expect(await failure { try await wrong.send("PING") }?.code == .unavailable)
        #expect(try await right.send("CLIENT", "INFO").string?.contains("db=3") == true)
        _ = try await right.send("CONFIG", "SET", "requirepass", "wrong")
        try await wrong.becomes(true)
        #expect(try await wrong.send("PING") == .status("PONG"))
        try await right.client.shutdown().get()
        try await wrong.client.shutdown().get()
        await redis.kill()
    }

    @Test("a server that has become a replica is left, counted, and taken again when it is a master", arguments: [true, false])
    func readOnly(writes: Bool) async throws {
        let redis = try await LiveRedis()
        let operating = try await LiveClient.available(redis.endpoint, .admin)
        let live = try await LiveClient.available(redis.endpoint, .quick)
        _ = try await operating.send("REPLICAOF", "127.0.0.1", "1")
        // Also when nobody writes: it is asked for its role.
        if writes { #expect(await failure { try await live.send("SET", "a", "b") } != nil) }
        try await live.becomes(false)
        // It is called again, and refused, for as long as it is one.
        try await until { live.client.counters.connectFailures >= 2 }
        #expect(!live.client.isAvailable)
        _ = try await operating.send("REPLICAOF", "NO", "ONE")
        try await live.becomes(true)
        #expect(try await live.send("SET", "a", "b") == .status("OK"))
        try await live.client.shutdown().get()
        try await operating.client.shutdown().get()
        await redis.kill()
    }

    @Test("a server that refuses the PING of the greeting is not available until it answers")
    func masterDown() async throws {
        let redis = try await LiveRedis(["--replica-serve-stale-data", "no"])
        let old = try await LiveClient.available(redis.endpoint, .admin)
        _ = try await old.send("REPLICAOF", "127.0.0.1", "1")
        let new = LiveClient(redis.endpoint)
        let line = try await new.log.first { $0.contains("trying again") }
        #expect(line.contains("MASTERDOWN"))
        #expect(!new.client.isAvailable)
        #expect(await failure { try await old.send("GET", "a") }?.serverCode == "MASTERDOWN")
        #expect(old.client.counters.masterDownReplies >= 1)
        _ = try await old.send("REPLICAOF", "NO", "ONE")
        try await new.becomes(true)
        try await old.client.shutdown().get()
        try await new.client.shutdown().get()
        await redis.kill()
    }

    @Test("a shutdown lets what is in flight finish and refuses the rest")
    func shutdown() async throws {
        let redis = try await LiveRedis()
        let live = try await LiveClient.available(redis.endpoint)
        let client = live.client
        let (replies, done, late) = try await client.eventLoop.submit {
            let replies = (0..<100).map { client.send(RedisCommand("ECHO", "\($0)")) }
            return (replies, client.shutdown(), client.send(RedisCommand("PING")))
        }.get()
        for (number, reply) in replies.enumerated() { #expect(try await reply.get().string == "\(number)") }
        #expect(await failure { try await late.get() }?.code == .unavailable)
        try await done.get()
        try await client.shutdown().get()
        client.start()
        #expect(await failure { try await live.send("PING") }?.code == .unavailable)
        let never = LiveClient(RedisEndpoint(host: "127.0.0.1", port: try FreePort.next()))
        _ = try await never.log.first { $0.contains("trying again") }
        try await never.client.shutdown().get()
        await redis.kill()
    }

    @Test("rediss speaks TLS, and refuses a server whose certificate nobody vouches for")
    func tls() async throws {
        let redis = try await LiveRedis(tls: true)
        let endpoint = try RedisEndpoint(url: "rediss://127.0.0.1:\(redis.port)")
        var configuration = RedisClientConfiguration.quick
        let stranger = LiveClient(endpoint, configuration)
        _ = try await stranger.log.first { $0.contains("trying again") && $0.contains("redis tls") }

        configuration.connection.tls.authorities = redis.folder.appending(path: "cert.pem").path
        let friend = try await LiveClient.available(endpoint, configuration)
        #expect(try await friend.send("PING") == .status("PONG"))
        #expect(!stranger.client.isAvailable)
        try await friend.client.shutdown().get()
        try await stranger.client.shutdown().get()
        await redis.kill()
    }
}
