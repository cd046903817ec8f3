import Foundation
import NIOCore
import TestServers

@testable import RedisClient

/// A master, its replicas, and three sentinels that watch over them.
struct LiveSentinels {
    let master: LiveRedis
    let replicas: [LiveRedis]
    let sentinels: [LiveRedis]
    let deployment: RedisDeployment

    init(replicas: Int = 1) async throws {
        master = try await LiveRedis()
        var copies: [LiveRedis] = []
        for _ in 0..<replicas { copies.append(try await LiveRedis(["--replicaof", "127.0.0.1 \(master.port)", "--repl-diskless-sync-delay", "0"])) }
        self.replicas = copies
        var sentinels: [LiveRedis] = []
        for _ in 0..<3 { sentinels.append(try Self.sentinel(port: try FreePort.next(), of: master.port)) }
        self.sentinels = sentinels
        deployment = try RedisDeployment(url: "redis+sentinel://" + sentinels.map { "127.0.0.1:\($0.port)" }.joined(separator: ",") + "/the-master")

        // They find each other and the replicas by themselves; before that they agree on nothing.
        for sentinel in sentinels {
            let asking = try await LiveClient.available(sentinel.endpoint, .admin)
            try await until {
                let state = Self.fields(try? await asking.send("SENTINEL", "MASTER", "the-master"))
                return state["num-other-sentinels"] == "2" && state["num-slaves"] == "\(replicas)" && state["flags"] == "master"
            }
            try await asking.client.shutdown().get()
        }
        for replica in copies {
            let asking = try await LiveClient.available(replica.endpoint, .admin)
            try await until { try await asking.send("ROLE").array?.dropFirst(3).first?.string == "connected" }
            try await asking.client.shutdown().get()
        }
    }

    static func sentinel(port: Int, of master: Int, quorum: Int = 2, _ more: String = "") throws -> LiveRedis {
        try LiveRedis(
            port: port,
            configuration: """
                sentinel monitor the-master 127.0.0.1 \(master) \(quorum)
                sentinel down-after-milliseconds the-master 700
                sentinel failover-timeout the-master 5000
                \(more)
                """,
            ["--sentinel"])
    }

    /// The fields of an answer of names and values.
    static func fields(_ value: RedisValue?) -> [String: String] {
        let parts = (value?.array ?? []).compactMap(\.string)
        return Dictionary(stride(from: 0, to: parts.count - 1, by: 2).map { (parts[$0], parts[$0 + 1]) }, uniquingKeysWith: { $1 })
    }

    func kill() async {
        for server in sentinels + replicas + [master] { await server.kill() }
    }
}
