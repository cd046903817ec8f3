import Foundation
import NotificationCore
import PostgresClient
import TestServers
import Testing

@testable import NotificationStore

extension Node {
    /// A webhook, and so many events that are queued for it.
    fileprivate func hook(_ status: Webhook.Status = .active, events: Int, queue: String = "webhook") async throws -> NotificationID {
        let id = NotificationID.make()
        _ = try await self.rows(
            "INSERT INTO webhooks (id, url, events, status, secret, created_at) VALUES ($1, 'https://example.org', '{*}', $2, '', now())",
            [.uuid(id.bytes), .text(status.rawValue)])
        _ = try await self.rows(
            """
            WITH event AS (
                INSERT INTO webhook_events (id, type, at, data) SELECT gen_random_uuid(), 'SYSTEM', now(), '{}' FROM generate_series(1, $2) RETURNING id
            ), delivery AS (
                INSERT INTO webhook_deliveries (id, webhook_id, event_id, state, created_at, at)
                SELECT make_uuid7(now() - interval '1 hour'), $1, id, 'queued', now() - interval '1 hour', now() FROM event RETURNING *)
            INSERT INTO tasks (id, queue, key, priority, state, run_at, payload, created_at, attempts)
            SELECT id, $3, $1::text, 1, 0, now(), event_id::text, now(), 2 FROM delivery
            """, [.uuid(id.bytes), .int4(Int32(events)), .text(queue)])
        return id
    }

    fileprivate func waiting(_ id: NotificationID, _ queue: String) async throws -> Int64 {
        try await self.rows("SELECT count(*) FROM tasks WHERE key = $1 AND queue = $2", [.text(id.description), .text(queue)])[0].int8(0)
    }
}

extension Store {
    @Suite("What waits for webhooks")
    struct WebhookTasks {
        @Test("a change of a status moves nothing; what waits follows in portions, and one webhook's does not wait for another's")
        func follows() async throws {
            try await Database.migrated().withNode { node async throws in
                let (store, deliveries) = (WebhookStore(pool: node.pool, box: nil), WebhookDeliveries(pool: node.pool, box: nil))
                let (many, few, gone) = (try await node.hook(events: 2500), try await node.hook(.failed, events: 3, queue: "webhook.held"), try await node.hook(events: 1))
                #expect(try await store.change(many, scope: nil, .init(status: .disabled)))
                #expect(try await store.change(few, scope: nil, .init(status: .active)))
                _ = try await node.rows("UPDATE tasks SET queue = 'webhook.held' WHERE key = $1", [.text(gone.description)])
                #expect(try await store.delete(gone, scope: nil))
                #expect(try await node.waiting(many, "webhook") == 2500)
                let first = try await deliveries.move()
                #expect(first.moved == 204 && first.resumed == 3)
                #expect(try await node.waiting(few, "webhook") == 3)
                #expect(try await node.number("SELECT count(*) FROM tasks WHERE attempts = 0") == 3)
                #expect(try await node.waiting(gone, "webhook.held") == 0)
                while try await deliveries.move().moved > 0 {}
                #expect(try await node.waiting(many, "webhook.held") == 2500)
                #expect(try await store.change(many, scope: nil, .init(status: .active)))
                while try await deliveries.move().moved > 0 {}
                #expect(try await node.waiting(many, "webhook") == 2500)
            }
        }

        @Test("what was taken before its webhook failed waits with the others, and is nobody's any more")
        func holds() async throws {
            try await Database.migrated().withNode { node async throws in
                let (store, deliveries) = (TaskStore(pool: node.pool), WebhookDeliveries(pool: node.pool, box: nil))
                let hook = try await node.hook(.failed, events: 1)
                let owner = NotificationID.make()
                let taken = try await store.claim(TaskStore.Claim(queue: .webhook, owner: owner, lease: 60, limit: 1))
                try await deliveries.hold(taken[0].id)
                #expect(try await store.finish([TaskResult(task: taken[0].id, outcome: .back(after: 0))], owner: owner) == 0)
                #expect(try await node.number("SELECT count(*) FROM tasks WHERE queue = 'webhook.held' AND state = 0 AND lease_owner IS NULL AND attempts = 2") == 1)
                #expect(try await node.waiting(hook, "webhook.held") == 1)
            }
        }

        @Test("an erased user is in no event any more, whatever stands around it; an event of nobody else is gone", arguments: ["u", "a\"]}b", "ü/\\", "user_ids"])
        func erased(name: String) async throws {
            try await Database.migrated().withNode { node async throws in
                let user = try #require(UserID(name))
                for users in [[name], [name, "other"], ["x", name, "y"], ["x" + name], []] {
                    _ = try await node.rows(
                        """
                        INSERT INTO webhook_events (id, type, at, data)
                        VALUES (gen_random_uuid(), 'SYSTEM', now(), '{"n":1.50,"data":{"user_ids":' || to_json($1::text[])::text || '},"title":' || to_json($2::text)::text
                                || ',"user_ids":' || to_json($1::text[])::text || '}')
                        """, [.textArray(users), .text("\"user_ids\":[\"\(name)\"]")])
                }
                _ = try await UserErasure(pool: node.pool, writer: node.writer).erase(user)
                let left = try await node.rows("SELECT (data::jsonb -> 'user_ids')::text, data LIKE '{\"n\":1.50,%' FROM webhook_events ORDER BY 1").map { "\(try $0.text(0)) \(try $0.bool(1))" }
                let json = JSONValue.string("x" + name).encoded
                #expect(Set(left) == ["[\"other\"] true", "[\"x\", \"y\"] true", "[] true", "[\(String(decoding: json, as: UTF8.self))] true"])
            }
        }

        @Test("secrets come under another key, those before a rotation as well; what no key opens is named and stays as it is")
        func anotherKey() async throws {
            try await Database.migrated().withNode { node async throws in
                let texts = ["a", "b", "c"].map { String(repeating: $0, count: 32) }
                let boxes = try texts.map { try #require(SecretBox(key: $0)) }
                func store(_ box: SecretBox) -> WebhookStore { WebhookStore(pool: node.pool, box: box) }
                func secrets(_ id: NotificationID, _ box: SecretBox) async throws -> [String]? {
                    try await WebhookDeliveries(pool: node.pool, box: box).target(id, scope: nil)?.secrets
                }
                let ids = (0..<4).map { _ in NotificationID.make() }
                for id in ids {
                    let webhook = Webhook(id: id, url: "https://example.org", events: ["*"], createdAt: .now())
                    #expect(try await store(id == ids[3] ? boxes[2] : boxes[0]).create(webhook, secret: "secret-of-\(id)", claim: nil) == .written)
                }
                _ = try await store(boxes[0]).rotate(ids[1], scope: nil, secret: "second-of-\(ids[1])", claim: nil)
                let both = try #require(SecretBox(key: texts[1], older: texts[0]))
                _ = try await store(both).rotate(ids[2], scope: nil, secret: "second-of-\(ids[2])", claim: nil)
                #expect(try await secrets(ids[2], both) == ["second-of-\(ids[2])", "secret-of-\(ids[2])"])
                let look = try await SecretRotation(pool: node.pool, box: both).run(changes: false)
                #expect(look.resealed == 3 && look.current == 0 && look.unreadable == [ids[3]])
                #expect(try await secrets(ids[0], boxes[1]) == [])
                #expect(try await SecretRotation(pool: node.pool, box: both).run() == look)
                let again = try await SecretRotation(pool: node.pool, box: boxes[1]).run()
                #expect(again.resealed == 0 && again.current == 3 && again.unreadable == [ids[3]])
                #expect(try await secrets(ids[0], boxes[1]) == ["secret-of-\(ids[0])"])
                for id in ids[1...2] { #expect(try await secrets(id, boxes[1]) == ["second-of-\(id)", "secret-of-\(id)"]) }
                #expect(try await secrets(ids[3], boxes[2]) == ["secret-of-\(ids[3])"])
            }
        }

        @Test("what else is called user_ids in an event's data, and data that Postgres cannot take apart, keep nobody from being erased")
        func otherData() async throws {
            try await Database.migrated().withNode { node async throws in
                let user = try #require(UserID("u1"))
                let nested = #"{"batches":[{"user_ids":["u1"]},{"user_ids":["u2"]}]}"#
                let odd = #"{"user_ids":["u1"],"text":"\u0000"}"#
                for data in [nested, odd, #"{"user_ids":["u1","u2"],"n":1}"#] {
                    _ = try await node.rows("INSERT INTO webhook_events (id, type, at, data) VALUES (gen_random_uuid(), 'SYSTEM', now(), $1)", [.text(data)])
                }
                _ = try await UserErasure(pool: node.pool, writer: node.writer).erase(user)
                let left = try await node.rows("SELECT data FROM webhook_events").map { try $0.text(0) }
                #expect(Set(left) == [nested, odd, #"{"n": 1, "user_ids": ["u2"]}"#])
            }
        }

        @Test("what was delivered stays so, whatever a late attempt came to, and there is nothing left to send of it")
        func delivered() async throws {
            try await Database.migrated().withNode { node async throws in
                let (store, deliveries) = (TaskStore(pool: node.pool), WebhookDeliveries(pool: node.pool, box: nil))
                let hook = try await node.hook(events: 1)
                let tasks = try await store.claim(TaskStore.Claim(queue: .webhook, owner: .make(), lease: 60, limit: 1))
                let before = try await deliveries.read(tasks)
                #expect(before.count == 1 && before[0] != nil && before[0]?.ended == nil)
                func note(_ verdict: WebhookDeliveries.Verdict) async throws -> Webhook.Status? {
                    let record = WebhookAttemptRecord(delivery: tasks[0].id, type: "SYSTEM", number: 1, status: 200, milliseconds: 1, error: nil, answer: [])
                    return try await deliveries.note(record, of: hook, verdict)
                }
                #expect(try await note(.accepted) == .active)
                #expect(try await note(.failedForGood) == nil)
                let after = try await deliveries.read(tasks)
                #expect(after[0]?.ended == .delivered)
                #expect(try await node.number("SELECT failure_count FROM webhooks WHERE status = 'ACTIVE'") == 0)
            }
        }

        @Test("a delivery whose webhook is gone ends with its task, in somebody's hands or set aside")
        func ended() async throws {
            try await Database.migrated().withNode { node async throws in
                let (webhooks, store, deliveries) = (WebhookStore(pool: node.pool, box: nil), TaskStore(pool: node.pool), WebhookDeliveries(pool: node.pool, box: nil))
                let (held, taken) = (try await node.hook(.failed, events: 2, queue: "webhook.held"), try await node.hook(events: 1))
                let owner = NotificationID.make()
                let tasks = try await store.claim(TaskStore.Claim(queue: .webhook, owner: owner, lease: 60, limit: 1))
                #expect(try await webhooks.delete(held, scope: nil))
                #expect(try await webhooks.delete(taken, scope: nil))
                #expect(try await store.finish([TaskResult(task: tasks[0].id, outcome: .over(.failed))], owner: owner) == 1)
                while try await deliveries.move().moved > 0 {}
                #expect(try await node.number("SELECT count(*) FROM webhook_deliveries WHERE state = 'failed'") == 3)
                #expect(try await node.number("SELECT count(*) FROM tasks") == 0)
            }
        }

        @Test("a replay of a time that is over goes on where the one before ended, and repeats nothing of it", arguments: [true, false])
        func replays(failed: Bool) async throws {
            try await Database.migrated().withNode { node async throws in
                let store = WebhookStore(pool: node.pool, box: nil)
                let hook = try await node.hook(events: 10_500)
                _ = try await node.rows("DELETE FROM tasks")
                _ = try await node.rows("UPDATE webhook_deliveries SET state = $1", [.text(failed ? "failed" : "delivered")])
                let now = Timestamp.now().seconds
                func replay() async throws -> Int? {
                    try await store.replay(hook, since: Timestamp(seconds: now - 7200), until: Timestamp(seconds: now - 60), onlyFailed: failed).replayed
                }
                #expect(try await replay() == 10_000)
                #expect(try await replay() == 500)
                #expect(try await replay() == 0)
                #expect(try await node.number("SELECT count(DISTINCT payload) FROM tasks WHERE queue = 'webhook'") == 10_500)
                // What failed again is of now.
                _ = try await node.rows("UPDATE webhook_deliveries SET state = 'failed'")
                #expect(try await replay() == 0)
                #expect(try await store.replay(hook, since: Timestamp(seconds: now - 7200), until: Timestamp(seconds: now + 60), onlyFailed: true).replayed == 10_000)
            }
        }
    }
}
