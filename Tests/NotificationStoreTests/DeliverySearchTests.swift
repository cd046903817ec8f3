import NotificationCore
import PostgresClient
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Deliveries of all users")
    struct Searching {
        private static let fill = """
            INSERT INTO deliveries (user_id, notification_id, channel, endpoint, state, type, event, customer_id, created_at, at)
            SELECT 'u' || n % 3, gen_random_uuid(), CASE n % 2 WHEN 0 THEN 'email' ELSE 'sms' END, 'e' || n, CASE n % 5 WHEN 0 THEN 'failed' ELSE 'sent' END,
                   'T', NULL, CASE n % 4 WHEN 0 THEN 'c' END, now() - (n / 7) * interval '1 hour', now()
            FROM generate_series(0, 69) n
            """

        private func query(_ change: (inout DeliveryQuery) -> Void = { _ in }) -> DeliveryQuery {
            var query = DeliveryQuery(since: .now() + -3 * 86_400, until: .now() + 3600)
            query.limit = 500
            change(&query)
            return query
        }

        @Test("pages show every delivery once, the last ones first, and filters leave out the others")
        func pages() async throws {
            try await Database.migrated().withNode { node async throws in
                _ = try await node.rows(Self.fill)
                let search = DeliverySearch(pool: node.pool)
                var seen: [DeliveryRecord] = []
                var after: DeliveryQuery.Cursor?
                repeat {
                    let page = try await search.page(query { $0.limit = 4; $0.after = after })
                    seen += page
                    after = page.last?.cursor
                } while after != nil
                #expect(Set(seen.map(\.cursor.endpoint)).count == 70 && seen.count == 70)
                #expect(zip(seen, seen.dropFirst()).allSatisfy { $0.cursor.createdAt >= $1.cursor.createdAt })
                #expect(try await search.page(query { $0.user = user("u1") }).count == 23)
                #expect(try await search.page(query { $0.state = "failed" }).count == 14)
                #expect(try await search.page(query { $0.channel = "sms"; $0.state = "failed" }).count == 7)
                #expect(try await search.page(query { $0.customer = "c" }).count == 18)
                #expect(try await search.page(query { $0.customers = ["c", "d"] }).allSatisfy { $0.customer == "c" })
                #expect(try await search.page(query { $0.customers = [] }).isEmpty)
                #expect(try await search.page(query { $0.since = .now() + -5400 }).count == 14)
            }
        }

        @Test("totals follow the state that deliveries have now")
        func totals() async throws {
            try await Database.migrated().withNode { node async throws in
                _ = try await node.rows(Self.fill)
                let store = TotalsStore(pool: node.pool)
                let today = try await node.rows("SELECT ((now() AT TIME ZONE 'UTC')::date - 2)::text, ((now() AT TIME ZONE 'UTC')::date + 1)::text")[0]
                let query = TotalsQuery(since: try today.text(0), until: try today.text(1), dimensions: [.channel, .state])
                func counts() async throws -> [String: Int64] {
                    try await store.countDeliveries()
                    return Dictionary(uniqueKeysWithValues: try await store.read(query).rows.map { ($0.values.joined(separator: " "), $0.count) })
                }
                #expect(try await counts() == ["email failed": 7, "email sent": 28, "sms failed": 7, "sms sent": 28])
                #expect(try await counts() == ["email failed": 7, "email sent": 28, "sms failed": 7, "sms sent": 28])
                _ = try await node.rows("UPDATE deliveries SET state = 'delivered' WHERE state = 'sent'")
                #expect(try await counts() == ["email failed": 7, "email delivered": 28, "sms failed": 7, "sms delivered": 28])
                // What is counted of inboxes stays.
                try await node.create(user("u"))
                while try await store.advance().isMore {}
                #expect(try await counts()["in_app created"] == 1)
            }
        }

        @Test("an erased user has no preferences, no contact and no deliveries, an exported one has all of them")
        func oneUser() async throws {
            try await Database.migrated().withNode { node async throws in
                _ = try await node.rows(Self.fill)
                _ = try await node.rows(
                    "INSERT INTO preferences SELECT u, c, '{\"channels\":{\"sms\":false}}', now() FROM unnest(ARRAY['u0', 'u1']) u, unnest(ARRAY['', 'c']) c")
                _ = try await node.rows("INSERT INTO contacts (user_id, email, updated_at) SELECT u, u || '@example.com', now() FROM unnest(ARRAY['u0', 'u1']) u")
                var walk = UserExport(pool: node.pool).walk(user("u0"))
                var kinds: [String: Int] = [:]
                var text = ""
                while let portion = try await walk.next() {
                    text += String(decoding: portion.bytes, as: UTF8.self)
                }
                for line in text.split(separator: "\n") { kinds[try #require(JSONParser.parse(Array(line.utf8))["kind"]?.string), default: 0] += 1 }
                #expect(kinds == ["preferences": 2, "contact": 1, "delivery": 24])
                #expect(text.contains("u0@example.com") && !text.contains("u1"))
                #expect(try await UserErasure(pool: node.pool, writer: node.writer).erase(user("u0")) == 27)
                for table in ["preferences", "contacts", "deliveries"] {
                    #expect(try await node.number("SELECT count(*) FROM \(table) WHERE user_id = 'u0'") == 0)
                    #expect(try await node.number("SELECT count(*) FROM \(table) WHERE user_id = 'u1'") > 0)
                }
            }
        }

        @Test("queues are counted where they are, jobs among them")
        func queues() async throws {
            try await Database.migrated().withNode { node async throws in
                try await node.create(user("u")) { $0.deliverAt = .now() + 3600 }
                try await node.create(user("u")) { $0.expiresAt = .now() + -60 }
                _ = try await node.rows(
                    """
                    INSERT INTO jobs (id, body, told, state, created_at, ended_at)
                    SELECT gen_random_uuid(), '', false, s, now() - interval '90 seconds', CASE WHEN s = 'done' THEN now() END
                    FROM unnest(ARRAY['loading', 'queued', 'queued', 'done']) s
                    """)
                let found = try await QueueDepths(pool: node.pool).read()
                func depth(_ queue: String, _ state: String) -> QueueDepths.Depth? { found.first { $0.queue == queue && $0.state == state } }
                #expect(depth("scheduled", "waiting")?.depth == 1 && depth("scheduled", "due")?.depth == 0)
                #expect(depth("expiry", "due")?.depth == 1 && (depth("expiry", "due")?.oldestSeconds ?? 0) >= 60)
                #expect(depth("jobs", "queued")?.depth == 2 && (depth("jobs", "queued")?.oldestSeconds ?? 0) >= 90)
                #expect(depth("jobs", "running")?.depth == 0 && depth("jobs", "running")?.oldestSeconds == nil)
            }
        }
    }
}
