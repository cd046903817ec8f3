import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import RedisClient

@Suite("A cluster that misbehaves", .timeLimit(.minutes(2)))
struct ScriptedClusterTests {
    private static func deployment(_ server: ScriptedRedis) throws -> RedisDeployment {
        try RedisDeployment(url: "redis+cluster://127.0.0.1:\(server.port)")
    }

    @Test("a shutdown fails what was sent on to a node that is not up yet")
    func shutdownWhileWaiting() async throws {
        // It takes connections and never says a word.
        let silent = try await ScriptedRedis { _, _ in nil }
        let elsewhere = silent.port
        let server = try await ScriptedRedis { command, port in
            switch command[0] {
            case "PING": "+PONG\r\n"
            case "CLUSTER": ScriptedRedis.slots(port)
            case "GET": "-MOVED \(HashSlot(key: command[1]).number) 127.0.0.1:\(elsewhere)\r\n"
            default: "-ASK \(HashSlot(key: command[1]).number) 127.0.0.1:\(elsewhere)\r\n"
            }
        }
        let live = try await LiveClient.available(try Self.deployment(server), .patient)
        let moved = live.client.send(RedisCommand("GET", "k"))
        let asked = live.client.send(RedisCommand("INCR", "other"))
        try await until { live.client.counters.redirections == 2 }
        try await live.client.shutdown().get()
        #expect(await failure { try await moved.get() } == .shutDown)
        #expect(await failure { try await asked.get() } == .shutDown)
        #expect(live.client.counters.commandsInFlight == 0)
        try await server.stop()
        try await silent.stop()
    }

    @Test("a master that is connected and refuses a subscription fails who waits for it, and the channel is told of once it is confirmed")
    func refusedSubscription() async throws {
        let isServing = NIOLockedValueBox(false)
        let server = try await ScriptedRedis { command, port in
            switch command[0] {
            case "PING": "+PONG\r\n"
            case "CLUSTER": ScriptedRedis.slots(port)
            case "SSUBSCRIBE":
                isServing.withLockedValue { $0 }
                    ? command.dropFirst().map { ScriptedRedis.array(ScriptedRedis.bulk("ssubscribe"), ScriptedRedis.bulk($0), ":1\r\n") }.joined()
                    : "-CLUSTERDOWN Hash slot not served\r\n"
            default: ":0\r\n"
            }
        }
        let pair = try await LiveClusterPair(Self.deployment(server))
        #expect(await failure { try await pair.subscriber.subscribe(["a", "b"]).get() } == .unavailable)
        // Whoever comes later hears of it when it is asked for again.
        #expect(await failure { try await pair.subscriber.subscribe(["a"]).get() } == .unavailable)
        _ = try await pair.losses.first { true }
        #expect(!pair.subscriber.isAvailable)
        isServing.withLockedValue { $0 = true }
        try await pair.isTold(of: ["a", "b"])
        try await until { pair.subscriber.isAvailable }
        try await pair.subscriber.subscribe(["a", "b"]).get()
        try await pair.shutdown()
        try await server.stop()
    }

    @Test("a node whose map leads to refusals is left for one that knows better")
    func cutOff() async throws {
        let promoted = try await ScriptedRedis { command, port in
            switch command[0] {
            case "PING": "+PONG\r\n"
            case "CLUSTER": ScriptedRedis.slots(port)
            default: "+served\r\n"
            }
        }
        let replica = promoted.port
        let cutOff = try await ScriptedRedis { command, port in
            switch command[0] {
            case "PING": "+PONG\r\n"
            case "CLUSTER": ScriptedRedis.slots(port, replica)
            default: "-CLUSTERDOWN The cluster is down\r\n"
            }
        }
        let live = try await LiveClient.available(try Self.deployment(cutOff), .patient)
        #expect(await failure { try await live.send("GET", "k") }?.code == .unavailable)
        try await until { (try? await live.send("GET", "k")) == .status("served") }
        try await live.client.shutdown().get()
        try await cutOff.stop()
        try await promoted.stop()
    }
}

@Suite("When the map is asked for, and of whom")
struct MapAskingTests {
    private static func at(_ milliseconds: Int64) -> NIODeadline { .uptimeNanoseconds(0) + .milliseconds(milliseconds) }

    /// When the map's node is left, of the times at which it answers.
    private static func left(isServed: Bool, at times: some Sequence<Int64>, down: Set<Int64> = []) -> [Int64] {
        var patience = MapPatience()
        return times.filter {
            if down.contains($0) { patience.heardDown(now: at($0)) }
            return patience.answered(isServed: isServed, now: at($0))
        }
    }

    @Test("a node is left once its maps have been of no help for a while, however many they were; the next one has as long")
    func patience() {
        #expect(Self.left(isServed: false, at: stride(from: 0, to: 10_000, by: 5)) == [3000, 6005, 9010])
        #expect(Self.left(isServed: false, at: [0, 2999]) == [])
        #expect(Self.left(isServed: true, at: [0, 3000, 6000]) == [])
        var patience = MapPatience()
        let answers = [(false, 0), (true, 2000), (false, 4000), (false, 6000), (false, 7000)].map { patience.answered(isServed: $0.0, now: Self.at($0.1)) }
        #expect(answers == [false, false, false, false, true])
    }

    @Test("CLUSTERDOWN again and again makes a map that looks good no help, and once does not")
    func down() {
        #expect(Self.left(isServed: true, at: stride(from: 0, to: 10_000, by: 100), down: [0]) == [])
        #expect(Self.left(isServed: true, at: stride(from: 0, to: 10_000, by: 100), down: [0, 2000]) == [3000])
        #expect(Self.left(isServed: true, at: stride(from: 0, to: 10_000, by: 100), down: [0, 3000]) == [3000])
        #expect(Self.left(isServed: true, at: stride(from: 0, to: 10_000, by: 100), down: [0, 3500, 7000]) == [])
    }

    @Test("questions come one at a time with a rest between them, and none is dropped")
    func pace() {
        var pace = RefreshPace()
        let first = [pace.wanted(), pace.wanted(), pace.wanted()]
        #expect(first == [true, false, false])
        pace.answered()
        let meanwhile = pace.wanted()
        let afterwards = pace.rested()
        #expect(!meanwhile && afterwards)
        pace.answered()
        let nothing = pace.rested()
        let again = pace.wanted()
        #expect(!nothing && again)
        pace.answered()
        let resting = pace.wanted()
        let rested = pace.rested()
        #expect(!resting && rested)
    }
}
