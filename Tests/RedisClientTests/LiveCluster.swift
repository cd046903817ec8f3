import Foundation
import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import TestServers

@testable import RedisClient

/// A cluster of real servers, with a client to each of them for what an operator does.
final class LiveCluster: Sendable {
    struct Node: Sendable {
        let server: LiveRedis
        let admin: LiveClient
        let id: String

        var address: RedisAddress { RedisAddress(host: "127.0.0.1", port: server.port) }

        @discardableResult
        func ask(_ words: String...) async throws -> RedisValue {
            try await admin.client.send(RedisCommand(name: words[0], arguments: words.dropFirst().map { .string($0) })).get()
        }

        func stop() async throws {
            try await admin.client.shutdown().get()
            await server.kill()
        }
    }

    let masters: [Node]
    /// One for each master, in the same order, or none.
    let replicas: [Node]
    let deployment: RedisDeployment

    init(masters count: Int = 3, withReplicas: Bool = false, _ configuration: String = "") async throws {
        var masters: [Node] = []
        for index in 0..<count {
            let node = try await Self.node(configuration)
            try await node.ask("CLUSTER", "SET-CONFIG-EPOCH", "\(index + 1)")
            try await node.ask("CLUSTER", "ADDSLOTSRANGE", "\(HashSlot.count * index / count)", "\(HashSlot.count * (index + 1) / count - 1)")
            masters.append(node)
        }
        var replicas: [Node] = []
        if withReplicas {
            for _ in 0..<count { replicas.append(try await Self.node(configuration)) }
        }
        self.masters = masters
        self.replicas = replicas
        deployment = try RedisDeployment(url: "redis+cluster://" + masters.map { "127.0.0.1:\($0.server.port)" }.joined(separator: ","))
        for node in masters.dropFirst() + replicas { try await introduce(node) }
        for node in masters + replicas { try await isKnown(node) }
        for (master, replica) in zip(masters, replicas) {
            try await replica.ask("CLUSTER", "REPLICATE", master.id)
        }
        for replica in replicas { try await until { try await replica.ask("ROLE").array?.dropFirst(3).first?.string == "connected" } }
        for node in masters + replicas {
            try await until {
                let entries = try await node.ask("CLUSTER", "SLOTS").array ?? []
                let isKnown = entries.count == count && entries.allSatisfy { ($0.array?.count ?? 0) == (withReplicas ? 4 : 3) }
                let isOK = try await node.ask("CLUSTER", "INFO").string?.contains("cluster_state:ok") == true
                return isKnown && isOK
            }
        }
    }

    /// A node that belongs to nothing yet.
    static func node(_ configuration: String = "") async throws -> Node {
        let server = try LiveRedis(
            port: try FreePort.next(),
            configuration: """
                cluster-enabled yes
                cluster-port \(try FreePort.next())
                cluster-node-timeout 1000
                cluster-replica-validity-factor 0
                cluster-require-full-coverage no
                cluster-allow-replica-migration no
                repl-diskless-sync-delay 0
                save ""
                \(configuration)
                """)
        let admin = try await LiveClient.available(server.endpoint, .admin)
        let id = try await admin.send("CLUSTER", "MYID").string ?? ""
        return Node(server: server, admin: admin, id: id)
    }

    /// The first master and this node get to know each other, and so do all in time.
    func meet(_ node: Node) async throws {
        try await introduce(node)
        try await isKnown(node)
    }

    private func introduce(_ node: Node) async throws {
        let bus = try await node.ask("CONFIG", "GET", "cluster-port").array?.last?.string ?? ""
        try await masters[0].ask("CLUSTER", "MEET", "127.0.0.1", "\(node.server.port)", bus)
    }

    private func isKnown(_ node: Node) async throws {
        try await until {
            for other in masters where try await other.ask("CLUSTER", "NODES").string?.contains(node.id) != true { return false }
            let known = try await node.ask("CLUSTER", "NODES").string ?? ""
            return masters.allSatisfy { known.contains($0.id) } && !known.contains("handshake")
        }
    }

    func master(of name: String) async throws -> Node {
        let slot = HashSlot(key: name)
        let map = try SlotMap.read(try await masters[0].ask("CLUSTER", "SLOTS"), asked: masters[0].address).get()
        let owner = map.owner(of: slot)
        guard let node = (masters + replicas).first(where: { $0.address == owner }) else { throw RedisError.notServed }
        return node
    }

    /// Opens the way of a slot from one master to another.
    func beginMove(_ slot: HashSlot, from: Node, to: Node) async throws {
        try await to.ask("CLUSTER", "SETSLOT", "\(slot.number)", "IMPORTING", from.id)
        try await from.ask("CLUSTER", "SETSLOT", "\(slot.number)", "MIGRATING", to.id)
    }

    func moveKeys(_ slot: HashSlot, from: Node, to: Node) async throws {
        while true {
            let keys = try await from.ask("CLUSTER", "GETKEYSINSLOT", "\(slot.number)", "100").array ?? []
            if keys.isEmpty { return }
            for key in keys { try await from.ask("MIGRATE", "127.0.0.1", "\(to.server.port)", key.string ?? "", "0", "5000") }
        }
    }

    func endMove(_ slot: HashSlot, from: Node, to: Node) async throws {
        try await to.ask("CLUSTER", "SETSLOT", "\(slot.number)", "NODE", to.id)
        try await from.ask("CLUSTER", "SETSLOT", "\(slot.number)", "NODE", to.id)
    }

    func move(_ slot: HashSlot, from: Node, to: Node) async throws {
        try await beginMove(slot, from: from, to: to)
        try await moveKeys(slot, from: from, to: to)
        try await endMove(slot, from: from, to: to)
    }

    func stop() async throws {
        for node in masters + replicas { try await node.stop() }
    }
}

/// A client and a subscriber of a cluster, and what arrived.
final class LiveClusterPair: Sendable, RedisSubscriberDelegate {
    let publisher: LiveClient
    private let made = NIOLockedValueBox<RedisSubscriber?>(nil)
    private let counts = NIOLockedValueBox<[String: Int]>([:])
    let told = Events<[String]?>()
    let losses = Events<Void>()
    let probes = Events<Int64>()

    var subscriber: RedisSubscriber {
        guard let subscriber = made.withLockedValue({ $0 }) else { preconditionFailure("a pair has a subscriber") }
        return subscriber
    }

    init(_ deployment: RedisDeployment, channels: [String] = []) async throws {
        publisher = try await .available(deployment, .patient)
        let subscriber = RedisSubscriber(
            deployment: deployment, eventLoop: MultiThreadedEventLoopGroup.singleton.next(), publisher: publisher.client, configuration: .patient,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, handler: self
        )
        made.withLockedValue { $0 = subscriber }
        subscriber.start()
        try await until { subscriber.isAvailable }
        _ = try await told.first { $0 == nil }
        try await subscriber.subscribe(channels).get()
    }

    func subscriber(_ subscriber: RedisSubscriber, received messages: [RedisMessage]) {
        counts.withLockedValue {
            for message in messages { $0["\(String(buffer: message.channel)) \(String(buffer: message.payload))", default: 0] += 1 }
        }
    }

    func subscriberResubscribed(_ subscriber: RedisSubscriber, channels: [String]?) { told.add(channels) }
    func subscriberLost(_ subscriber: RedisSubscriber) { losses.add(()) }
    func subscriber(_ subscriber: RedisSubscriber, probeTook nanoseconds: Int64) { probes.add(nanoseconds) }

    /// How often it arrived.
    func count(_ channel: String, _ payload: String) -> Int { counts.withLockedValue { $0["\(channel) \(payload)"] ?? 0 } }

    /// Waits until these channels have been told of, in however many parts; nil stands for all.
    func isTold(of channels: Set<String>) async throws {
        var left = channels
        while !left.isEmpty, let some = try await told.first(where: { $0?.isEmpty != true }) { left.subtract(some) }
    }

    func publish(_ channel: String, _ payload: String) async throws {
        _ = try await publisher.send("PUBLISH", .string(channel), .string(payload))
    }

    /// One message on each of these channels, each of which arrives once.
    func messagesArrive(on channels: [String], _ payload: String) async throws -> Bool {
        let answers = try await publisher.client.pipeline(channels.map { RedisCommand("PUBLISH", .string($0), .string(payload)) }).get()
        guard answers == Array(repeating: .integer(1), count: channels.count) else { return false }
        try await until { channels.allSatisfy { count($0, payload) > 0 } }
        return channels.allSatisfy { count($0, payload) == 1 }
    }

    func shutdown() async throws {
        try await subscriber.shutdown().get()
        try await publisher.client.shutdown().get()
    }
}
