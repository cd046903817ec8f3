import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import RedisClient

@Suite("A subscriber of a real cluster", .timeLimit(.minutes(5)))
struct ClusterSubscriberLiveTests {
    private static let users = (0..<600).map { "p:{user\($0)}:ch" }

    private static func served(by address: RedisAddress, _ cluster: LiveCluster) async throws -> [String] {
        let map = try SlotMap.read(try await cluster.masters[1].ask("CLUSTER", "SLOTS"), asked: cluster.masters[1].address).get()
        return users.filter { map.owner(of: HashSlot(key: $0)) == address }
    }

    @Test("messages to many users on all masters arrive once each, and none after the unsubscribe")
    func messages() async throws {
        let cluster = try await LiveCluster()
        let pair = try await LiveClusterPair(cluster.deployment, channels: Self.users)
        #expect(pair.subscriber.counters.channels == 600)
        #expect(try await pair.messagesArrive(on: Self.users, "one"))
        pair.subscriber.unsubscribe(Array(Self.users.prefix(300)))
        try await until { try await pair.publisher.client.pipeline(Self.users.prefix(300).map { RedisCommand("PUBLISH", .string($0), "two") }).get().allSatisfy { $0 == .integer(0) } }
        try await pair.subscriber.subscribe(Array(Self.users.prefix(200))).get()
        #expect(try await pair.messagesArrive(on: Self.users.prefix(200) + Self.users.suffix(300), "three"))
        #expect(pair.subscriber.isAvailable && pair.subscriber.counters.resubscribes == 1)
        // Each master sends its probes back.
        for _ in 0..<6 { #expect(try await pair.probes.first { _ in true } > 0) }
        try await pair.shutdown()
        try await cluster.stop()
    }

    @Test("with a master killed its channels wait for it, and the others go on undisturbed")
    func killed() async throws {
        let cluster = try await LiveCluster()
        let pair = try await LiveClusterPair(cluster.deployment, channels: Self.users)
        let lost = cluster.masters[0]
        let waiting = try await Self.served(by: lost.address, cluster)
        let others = Self.users.filter { !waiting.contains($0) }
        await lost.server.kill()
        _ = try await pair.losses.first { true }
        #expect(!pair.subscriber.isAvailable)
        #expect(try await pair.messagesArrive(on: others, "meanwhile"))
        #expect(await failure { try await pair.subscriber.subscribe([waiting[0]]).get() }?.code == .unavailable)
        try lost.server.start()
        try await pair.isTold(of: Set(waiting))
        try await until { pair.subscriber.isAvailable && pair.publisher.client.isAvailable }
        #expect(try await pair.messagesArrive(on: Self.users, "after"))
        try await pair.shutdown()
        try await cluster.stop()
    }

    @Test("with a master killed that has a replica, its channels are on that once it is promoted")
    func promoted() async throws {
        let cluster = try await LiveCluster(withReplicas: true)
        let pair = try await LiveClusterPair(cluster.deployment, channels: Self.users)
        let concerned = try await Self.served(by: cluster.masters[0].address, cluster)
        await cluster.masters[0].server.kill()
        _ = try await pair.losses.first { true }
        try await pair.isTold(of: Set(concerned))
        try await until { pair.subscriber.isAvailable && pair.publisher.client.isAvailable }
        #expect(try await pair.messagesArrive(on: Self.users, "after"))
        #expect(try await cluster.replicas[0].ask("PUBSUB", "SHARDNUMSUB", concerned[0]).array?.last == .integer(1))
        try await pair.shutdown()
        try await cluster.stop()
    }

    @Test("a master that stands still is left for its replica")
    func stopped() async throws {
        let cluster = try await LiveCluster(withReplicas: true)
        let pair = try await LiveClusterPair(cluster.deployment, channels: Self.users)
        let concerned = try await Self.served(by: cluster.masters[0].address, cluster)
        cluster.masters[0].server.pause()
        _ = try await pair.losses.first { true }
        try await pair.isTold(of: Set(concerned))
        try await until { pair.subscriber.isAvailable && pair.publisher.client.isAvailable }
        #expect(try await pair.messagesArrive(on: Self.users, "after"))
        cluster.masters[0].server.resume()
        try await until { try await cluster.masters[1].ask("CLUSTER", "NODES").string?.contains("fail") == false }
        #expect(try await pair.messagesArrive(on: Self.users, "much later"))
        try await pair.shutdown()
        try await cluster.stop()
    }

    @Test("slots that move while messages flow take their channels along, and only those are told of")
    func resharding() async throws {
        let cluster = try await LiveCluster()
        let pair = try await LiveClusterPair(cluster.deployment, channels: Self.users)
        let (from, to) = (cluster.masters[0], cluster.masters[1])
        let moved = Array(try await Self.served(by: from.address, cluster).prefix(60))
        let isDone = NIOLockedValueBox(false)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                var round = 0
                while !isDone.withLockedValue({ $0 }) {
                    round += 1
                    _ = try await pair.publisher.client.pipeline(Self.users.map { RedisCommand("PUBLISH", .string($0), .string("flow \(round)")) }).get()
                }
            }
            for slot in Set(moved.map { HashSlot(key: $0) }) { try await cluster.move(slot, from: from, to: to) }
            var told: Set<String> = []
            while !told.isSuperset(of: moved) {
                let some = try await pair.told.first { $0?.isEmpty != true }
                #expect(some != nil)
                told.formUnion(some ?? moved)
            }
            #expect(told.isSubset(of: Self.users.filter { name in moved.contains { HashSlot(key: $0) == HashSlot(key: name) } }))
            isDone.withLockedValue { $0 = true }
            try await group.waitForAll()
        }
        #expect(try await pair.messagesArrive(on: Self.users, "after"))
        #expect(pair.subscriber.counters.lost == 0 && pair.publisher.client.counters.lost == 0)
        // The others never noticed: what was published last while slots moved has arrived everywhere but there, once.
        for name in Self.users where !moved.contains(name) && !moved.contains(where: { HashSlot(key: $0) == HashSlot(key: name) }) {
            #expect(pair.count(name, "flow 1") == 1)
        }
        try await pair.shutdown()
        try await cluster.stop()
    }

    @Test("nodes may be added and removed")
    func addedAndRemoved() async throws {
        let cluster = try await LiveCluster()
        let pair = try await LiveClusterPair(cluster.deployment, channels: Self.users)
        let new = try await LiveCluster.node()
        try await cluster.meet(new)
        let from = cluster.masters[2]
        let moved = Array(try await Self.served(by: from.address, cluster).prefix(20))
        let slots = Set(moved.map { HashSlot(key: $0) })
        for slot in slots { try await cluster.move(slot, from: from, to: new) }
        try await pair.isTold(of: Set(moved))
        try await until { pair.publisher.client.isAvailable && pair.subscriber.isAvailable }
        #expect(try await pair.messagesArrive(on: Self.users, "on four"))
        #expect(try await new.ask("PUBSUB", "SHARDNUMSUB", moved[0]).array?.last == .integer(1))
        for slot in slots { try await cluster.move(slot, from: new, to: cluster.masters[0]) }
        try await pair.isTold(of: Set(moved))
        for master in cluster.masters { try await master.ask("CLUSTER", "FORGET", new.id) }
        try await new.ask("CLUSTER", "RESET")
        // The last of its connections is this test's own.
        try await until { try await new.ask("CLIENT", "LIST").string?.split(separator: "\n").count == 1 }
        try await new.stop()
        #expect(try await pair.messagesArrive(on: Self.users, "on three"))
        #expect(pair.publisher.client.isAvailable && pair.subscriber.isAvailable)
        try await pair.shutdown()
        try await cluster.stop()
    }

    @Test("a slot that nobody serves leaves its channel waiting until somebody does")
    func unserved() async throws {
        let cluster = try await LiveCluster()
        let name = Self.users[0]
        let pair = try await LiveClusterPair(cluster.deployment, channels: [name, Self.users[1]])
        let slot = HashSlot(key: name)
        for master in cluster.masters { try await master.ask("CLUSTER", "DELSLOTS", "\(slot.number)") }
        _ = try await pair.losses.first { true }
        #expect(await failure { try await pair.publisher.send("PUBLISH", .string(name), "x") }?.code == .unavailable)
        try await cluster.masters[1].ask("CLUSTER", "ADDSLOTS", "\(slot.number)")
        try await pair.isTold(of: [name])
        try await until { pair.publisher.client.isAvailable }
        #expect(try await pair.messagesArrive(on: [name, Self.users[1]], "after"))
        try await pair.shutdown()
        try await cluster.stop()
    }
}
