import Authentication
import Foundation
import Gateway
import Logging
import NIOCore
import NotificationCore
import NotificationStore
import PostgresClient
import ServiceLifecycle
import TestServers

@testable import carillon

/// A whole node in this process, on a free port, with a database of its own.
struct RunningNode: Sendable {
    private static let secret = "a secret that only the tests know, of enough bytes"

    let url: String
    let routes: [ServedRoute]
    /// With all scopes.
    let key: String

    static func run(roles: String = "all", _ settings: [String: String] = [:], _ body: @escaping @Sendable (RunningNode) async throws -> Void) async throws {
        let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        let postgres = try PostgresServer.shared()
        var environment = [
            "CARILLON_DATABASE_URL": postgres.url(database: try postgres.makeDatabase()), "CARILLON_REDIS_URL": try RedisServer.shared().url,
            "CARILLON_REDIS_PREFIX": "test-\(UUID().uuidString.prefix(8))", "CARILLON_JWT_SECRET": Self.secret, "CARILLON_PORT": "0",
            "CARILLON_NODE_NAME": "node", "CARILLON_ROLES": roles, "CARILLON_DRAIN_SECONDS": "0", "CARILLON_THREADS": "1", "CARILLON_LANES": "1",
        ]
        environment.merge(settings) { $1 }
        let all = try Settings(file: nil, environment: environment)
        try await migrateSchema(all, logger: logger)
        let pool = PostgresPool(configuration: try NodeConfiguration.database(all), size: 1, name: "keys", logger: logger)
        pool.start()
        try await pool.waitUntilConnected()
        let key = try await APIKeyStore(pool: pool).create(name: "test", scopes: Set(Scope.allCases)).key
        await pool.close()

        let started = AsyncStream<RunningNode>.makeStream(bufferingPolicy: .bufferingNewest(1))
        let service = NodeService(configuration: try NodeConfiguration(settings: all), logger: logger) { address, routes in
            started.continuation.yield(RunningNode(url: "http://127.0.0.1:\(address.port ?? 0)", routes: routes, key: key))
        }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(services: [.init(service: service)], gracefulShutdownSignals: [], logger: logger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                defer { started.continuation.finish() }
                try await group.run()
            }
            var result = Result<Void, any Error>.success(())
            for await node in started.stream {
                do { try await body(node) } catch { result = .failure(error) }
                await group.triggerGracefulShutdown()
            }
            try await tasks.waitForAll()
            try result.get()
        }
    }

    func token(_ user: String, roles: String? = nil, customers: [String]? = nil) throws -> String {
        try TokenMinter(secret: Self.secret, issuer: nil, audience: nil)
            .mint(user: user, role: roles, customers: customers, ttlSeconds: 600, now: Timestamp.now().seconds)
    }
}
