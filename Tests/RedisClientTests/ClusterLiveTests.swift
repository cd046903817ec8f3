import NIOCore
import TestServers
import Testing

@testable import RedisClient

@Suite("A client of a real cluster", .timeLimit(.minutes(5)))
struct ClusterLiveTests {
    @Test("commands go to the masters of their keys, and answers come in the order of asking")
    func routing() async throws {
        let cluster = try await LiveCluster()
        let live = try await LiveClient.available(cluster.deployment)
        let keys = (0..<1000).map { "key:\($0)" }
        let commands = keys.flatMap { [RedisCommand("INCR", .string($0)), RedisCommand("INCRBY", .string($0), 5)] } + [RedisCommand("LPUSH", "key:1", "x")]
        let values = try await live.client.pipeline(commands).get()
        #expect(values.dropLast() == (0..<1000).flatMap { _ in [RedisValue.integer(1), .integer(6)] }[...])
        #expect(values.last?.error?.serverCode == "WRONGTYPE")
        var spread: [Int64] = []
        for master in cluster.masters { spread.append(try await master.ask("DBSIZE").int ?? 0) }
        #expect(spread.reduce(0, +) == 1000 && spread.allSatisfy { $0 > 200 })
        for key in keys.prefix(50) { #expect(try await live.send("GET", .string(key)).int == 6) }
        #expect(try await live.send("PING") == .status("PONG"))
        #expect(await failure { try await live.send("MSET", "a", "1", "b", "2") }?.serverCode == "CROSSSLOT")
        #expect(live.client.counters.redirections == 0)
        #expect(live.client.counters.commandsInFlight == 0 && live.client.counters.bytesInFlight == 0)
        try await live.client.shutdown().get()
        try await cluster.stop()
    }

    @Test("a script runs wherever its keys are, and each master learns it")
    func scripts() async throws {
        let cluster = try await LiveCluster()
        let live = try await LiveClient.available(cluster.deployment)
        let script = RedisScript("return {KEYS[1], KEYS[2], ARGV[1]}")
        for _ in 0..<2 {
            let values = try await live.client.run(script, calls: (0..<60).map { (keys: ["{u\($0)}:a", "{u\($0)}:b"], arguments: [.integer(Int64($0))]) }).get()
            #expect(values.map { $0.array?.compactMap(\.string) ?? [] } == (0..<60).map { ["{u\($0)}:a", "{u\($0)}:b", "\($0)"] })
        }
        #expect(try await live.client.run(script, keys: ["{x}1", "{x}2"], arguments: ["v"]).get().array?.last?.string == "v")
        #expect(try await live.client.run(RedisScript("return ARGV[1]"), arguments: ["no key"]).get().string == "no key")
        try await live.client.shutdown().get()
        try await cluster.stop()
    }

    @Test("a slot on its way: what is still here, what is there already, and what is in both places")
    func asking() async throws {
        let cluster = try await LiveCluster()
        let live = try await LiveClient.available(cluster.deployment)
        let (from, slot) = (try await cluster.master(of: "{t}"), HashSlot(key: "{t}"))
        let to = try #require(cluster.masters.first { $0.id != from.id })
        _ = try await live.send("SET", "{t}old", "1")
        try await cluster.beginMove(slot, from: from, to: to)
        // Not here, so it is made there.
        #expect(try await live.send("SET", "{t}new", "2") == .status("OK"))
        #expect(try await live.send("GET", "{t}old").int == 1)
        #expect(try await live.client.pipeline(["{t}new", "{t}old", "{t}none"].map { RedisCommand("GET", .string($0)) }).get().map(\.int) == [2, 1, nil])
        #expect(live.client.counters.redirections >= 3)
        // Put off until both keys are in one place.
        let before = live.client.counters.redirections
        let both = live.client.send(RedisCommand("MGET", "{t}old", "{t}new"))
        try await until { live.client.counters.redirections >= before + 1 }
        try await cluster.moveKeys(slot, from: from, to: to)
        try await cluster.endMove(slot, from: from, to: to)
        #expect(try await both.get().array?.compactMap(\.int) == [1, 2])
        #expect(try await live.send("GET", "{t}old").int == 1)
        #expect(try await live.send("SET", "{t}old", "3") == .status("OK"))
        #expect(try await to.ask("GET", "{t}old").int == 3)
        try await live.client.shutdown().get()
        try await cluster.stop()
    }

    @Test("a slot that is in both places for too long is given up")
    func split() async throws {
        let cluster = try await LiveCluster()
        let live = try await LiveClient.available(cluster.deployment)
        let (from, slot) = (try await cluster.master(of: "{t}"), HashSlot(key: "{t}"))
        let to = try #require(cluster.masters.first { $0.id != from.id })
        _ = try await live.send("SET", "{t}old", "1")
        try await cluster.beginMove(slot, from: from, to: to)
        _ = try await live.send("SET", "{t}new", "2")
        #expect(await failure { try await live.send("MGET", "{t}old", "{t}new") }?.code == .unavailable)
        #expect(live.client.counters.commandsInFlight == 0)
        // Nothing waits for it when it shuts down.
        let last = live.client.send(RedisCommand("MGET", "{t}old", "{t}new"))
        try await live.client.shutdown().get()
        #expect(await failure { try await last.get() }?.code == .unavailable)
        try await cluster.stop()
    }

    @Test("a master that is away fails what belongs to it and nothing else, and is served again once it is back")
    func partial() async throws {
        let cluster = try await LiveCluster()
        let live = try await LiveClient.available(cluster.deployment, .patient)
        let lost = cluster.masters[0]
        let keys = (0..<200).map { "k\($0)" }
        _ = try await live.client.pipeline(keys.map { RedisCommand("SET", .string($0), "v") }).get()
        let map = try SlotMap.read(try await lost.ask("CLUSTER", "SLOTS"), asked: lost.address).get()
        await lost.server.kill()
        try await live.becomes(false)
        #expect(!live.client.isAvailable && live.client.isReachable)
        let values = try await live.client.pipeline(keys.map { RedisCommand("GET", .string($0)) }).get()
        for (key, value) in zip(keys, values) {
            if map.owner(of: HashSlot(key: key)) == lost.address {
                #expect(value.error?.code == .unavailable)
                #expect(await failure { try await live.send("GET", .string(key)) }?.code == .unavailable)
            } else {
                #expect(value.string == "v")
            }
        }
        let away = keys.filter { map.owner(of: HashSlot(key: $0)) == lost.address }
        #expect(await failure { try await live.client.pipeline(away.map { RedisCommand("GET", .string($0)) }).get() }?.code == .unavailable)
        #expect(live.client.connectionError != nil)
        try lost.server.start()
        try await live.becomes(true)
        // It answers, and takes a moment to know that the cluster is whole.
        try await until { await failure { try await live.send("SET", .string(away[0]), "again") } == nil }
        #expect(live.client.connectionError == nil)
        try await live.client.shutdown().get()
        try await cluster.stop()
    }

    @Test("a master that hands over to its replica is followed, though it be alive")
    func handover() async throws {
        let cluster = try await LiveCluster(withReplicas: true)
        let live = try await LiveClient.available(cluster.deployment, .patient)
        let keys = (0..<100).map { "k\($0)" }
        #expect(try await cluster.replicas[0].ask("CLUSTER", "FAILOVER") == .status("OK"))
        try await until { try await cluster.replicas[0].ask("ROLE").array?.first?.string == "master" }
        try await until {
            try await live.client.pipeline(keys.map { RedisCommand("SET", .string($0), "v") }).get() == Array(repeating: .status("OK"), count: keys.count)
        }
        try await until { live.client.isAvailable }
        #expect(try await cluster.replicas[0].ask("DBSIZE").int != 0)
        let before = live.client.counters.redirections
        _ = try await live.client.pipeline(keys.map { RedisCommand("GET", .string($0)) }).get()
        #expect(live.client.counters.redirections == before)
        try await live.client.shutdown().get()
        try await cluster.stop()
    }

    @Test("the bound on what is in flight holds over all masters together")
    func bound() async throws {
        let cluster = try await LiveCluster()
        var configuration = RedisClientConfiguration()
        configuration.maximumCommandsInFlight = 10
        let live = try await LiveClient.available(cluster.deployment, configuration)
        let client = live.client
        let futures = try await client.eventLoop.submit { (0..<12).map { client.send(RedisCommand("GET", .string("k\($0)"))) } }.get()
        for future in futures.prefix(10) { #expect(try await future.get() == .null) }
        for future in futures.suffix(2) { #expect(await failure { try await future.get() }?.code == .queueFull) }
        try await live.client.shutdown().get()
        try await cluster.stop()
    }

    @Test("any node that answers is enough to find the others, and who is refused says so")
    func seeds() async throws {
        let cluster = try await LiveCluster()
        for master in cluster.masters { try await master.ask("CONFIG", "SET", "requirepass", "right") }
        let places = "127.0.0.1:\(try FreePort.next()),127.0.0.1:\(cluster.masters[1].server.port)"
        let live = try await LiveClient.available(try RedisDeployment(url: "redis+cluster://:right@\(places)"), .patient)
        for number in 0..<20 { #expect(try await live.send("SET", "k\(number)", "v") == .status("OK")) }
        let wrong = LiveClient(try RedisDeployment(url: "redis+cluster://:wrong@127.0.0.1:\(cluster.masters[1].server.port)"), .patient)
        try await until { wrong.client.connectionError?.serverCode == "WRONGPASS" }
        let alone = try await LiveRedis()
        let none = LiveClient(try RedisDeployment(url: "redis+cluster://127.0.0.1:\(alone.port)"), .patient)
        try await until { none.client.connectionError?.message.contains("cluster support disabled") == true }
        #expect(!none.client.isAvailable && !none.client.isReachable)
        for client in [live, wrong, none] { try await client.client.shutdown().get() }
        await alone.kill()
        try await cluster.stop()
    }
}
