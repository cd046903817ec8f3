import Logging
import NIOHTTP1
import NotificationCore
import NotificationStore
import PostgresClient
import Synchronization
import Testing

@testable import Delivery


@Suite("calls of webhooks", .serialized, .timeLimit(.minutes(1)))
struct WebhookHandlerTests {
    private static func engine(waiting: Int = 1024) throws -> TransferEngine {
        var settings = TransferEngine.Settings()
        settings.waiting = waiting
        return try #require(TransferEngine(settings))
    }

    /// A store with one webhook and one task that is claimed.
    private func with(
        _ url: String, data: String = "{}", keyed: Bool = true, engine: TransferEngine, _ body: @Sendable (WebhookHandler, QueuedTask, WebhookMaterial?, PostgresPool) async throws -> Void
    ) async throws {
        let configuration = try await migratedDatabase()
        let pool = PostgresPool(configuration: configuration, size: 2, name: "pool", logger: silent)
        pool.start()
        try await pool.waitUntilConnected()
        let result: Result<Void, any Error>
        do {
            let box = SecretBox(key: String(repeating: "k", count: 32))
            let store = WebhookStore(pool: pool, box: box)
            let webhook = Webhook(id: .make(), url: url, events: ["*"], createdAt: .now())
            _ = try await store.create(webhook, secret: "whsec_c2VjcmV0", claim: nil)
            _ = try await store.add(WebhookEvent(id: .make(), type: "SYSTEM", event: nil, customer: nil, at: .now(), data: data), claim: nil)
            let tasks = try await TaskStore(pool: pool).claim(TaskStore.Claim(queue: .webhook, owner: .make(), lease: 60, limit: 1))
            let handler = WebhookHandler(
                deliveries: WebhookDeliveries(pool: pool, box: keyed ? box : SecretBox(key: String(repeating: "x", count: 32))),
                caller: WebhookCaller(engine: engine), attempts: 3, logger: silent)
            let materials = try await handler.materials(for: tasks)
            result = .success(try await body(handler, try #require(tasks.first), try #require(materials.first), pool))
        } catch {
            result = .failure(error)
        }
        await pool.close()
        try result.get()
    }

    private func failures(_ pool: PostgresPool) async throws -> Int64 {
        try await pool.execute(PostgresStatement("SELECT failure_count + (SELECT count(*) FROM webhook_attempts) FROM webhooks", prepared: false))[0].int8(0)
    }

    @Test("what keeps us from calling counts against nobody: no room, a shutdown, a secret that cannot be read", arguments: ["room", "shutdown", "key"])
    func ours(trouble: String) async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine(waiting: trouble == "room" ? 0 : 10)
            try await self.with(server.url(trouble == "shutdown" ? "/silent" : "/ok"), keyed: trouble != "key", engine: engine) { handler, task, material, pool async throws in
                let attempt = Task { await handler.attempt(task, material) }
                if trouble == "shutdown" {
                    while server.received.isEmpty { await Task.yield() }
                    attempt.cancel()
                }
                guard case .notAttempted = await attempt.value else { return #expect(Bool(false)) }
                #expect(try await self.failures(pool) == 0)
            }
            await engine.close()
        }
    }

    @Test("a large event is read when it is sent, and arrives whole", arguments: [100, 65_534, 65_536, 3_000_000])
    func large(bytes: Int) async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine()
            let data = "{\"x\":\"" + String(repeating: "ü", count: bytes / 2 - 4) + "\"}"
            try await self.with(server.url("/ok"), data: data, engine: engine) { handler, task, material, pool async throws in
                #expect(material?.bytes == (bytes > 65_536 ? data.utf8.count : 0) && material?.event.data == (bytes > 65_536 ? "" : data))
                #expect(await handler.attempt(task, material) == .over(.delivered))
                let body = String(decoding: try #require(server.received.first).body, as: UTF8.self)
                #expect(body.hasSuffix("\"data\":" + data + "}"))
            }
            await engine.close()
        }
    }

    @Test("bytes are given out up to the bound, in turn; who wants more than there are has them alone")
    func budget() async throws {
        let budget = ByteBudget(100)
        #expect(await budget.take(60) == 60)
        let order = Order()
        await withTaskGroup(of: Void.self) { group in
            for bytes in [1000, 10] {
                group.addTask {
                    let taken = await budget.take(bytes)
                    order.taken.withLock { $0.append(taken) }
                    budget.give(taken)
                }
                // The one that asks first is to wait first.
                while budget.waiting < (bytes == 1000 ? 1 : 2) { await Task.yield() }
            }
            #expect(order.taken.withLock { $0 } == [])
            budget.give(60)
        }
        #expect(order.taken.withLock { $0 } == [100, 10])
        #expect(await budget.take(100) == 100)
    }
}

private final class Order: Sendable {
    let taken = Mutex<[Int]>([])
}
