import NotificationCore
import PostgresClient
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Totals")
    struct Counting {
        private let u = user("u")

        private func day(_ node: Node, _ days: Int = 0) async throws -> String {
            try await node.rows("SELECT ((now() AT TIME ZONE 'UTC')::date + \(days))::text")[0].text(0)
        }

        private func query(_ node: Node, _ dimensions: [TotalsQuery.Dimension]) async throws -> TotalsQuery {
            // Also when midnight comes in between.
            TotalsQuery(since: try await day(node, -1), until: try await day(node, 2), dimensions: dimensions)
        }

        private func count(_ node: Node) async throws {
            while try await TotalsStore(pool: node.pool).advance().isMore {}
        }

        private func states(_ node: Node, _ change: (inout TotalsQuery) -> Void = { _ in }) async throws -> [String: Int64] {
            try await count(node)
            var query = try await query(node, [.state])
            change(&query)
            return Dictionary(uniqueKeysWithValues: try await TotalsStore(pool: node.pool).read(query).rows.map { ($0.values[0], $0.count) })
        }

        @Test("what was created, read and gone is counted once by type, event, state and customer, however it came about")
        func kinds() async throws {
            try await Database.migrated().withNode { node async throws in
                var ids: [NotificationID] = []
                for index in 0..<12 {
                    ids.append(
                        try await node.create(u) {
                            $0.type = index < 8 ? "A" : "B"
                            $0.event = index < 4 ? "e" : nil
                            $0.customer = index % 2 == 0 ? "c" : nil
                        })
                }
                // One by one, again, and back.
                try await node.write(u, .setFlags(ids[0], read: true, seen: nil, archived: nil, scope: nil))
                try await node.write(u, .setFlags(ids[0], read: nil, seen: nil, archived: true, scope: nil))
                try await node.write(u, .setFlags(ids[1], read: true, seen: nil, archived: nil, scope: nil))
                try await node.write(u, .setFlags(ids[2], read: nil, seen: true, archived: nil, scope: nil))
                #expect(try await states(node) == ["created": 12, "read": 2])
                // With a filter: 8 and 10; then the rest.
                try await node.write(u, .readAll(customer: "c", type: "B", upTo: nil, scope: nil))
                #expect(try await states(node) == ["created": 12, "read": 4])
                try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
                #expect(try await states(node) == ["created": 12, "read": 12])
                #expect(try await states(node) { $0.filters[.type] = "A" } == ["created": 8, "read": 8])
                #expect(try await states(node) { $0.filters[.event] = "e" } == ["created": 4, "read": 4])
                #expect(try await states(node) { $0.customers = ["c", "d"] } == ["created": 6, "read": 6])
                #expect(try await states(node) { $0.customers = [] } == [:])
                // A second mark reads only what came after the first.
                let last = try await node.create(u) { $0.type = "C" }
                try await node.write(u, .setFlags(ids[3], read: false, seen: nil, archived: nil, scope: nil))
                try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
                #expect(try await states(node) == ["created": 13, "read": 14])
                // Those that are gone keep their names, also when they went before they were counted.
                try await node.write(u, .delete(last, scope: nil))
                let short = try await node.create(u) { $0.type = "S"; $0.event = "s" }
                try await node.write(u, .delete(short, scope: nil))
                for _ in 0..<2 { try await node.create(u) { $0.type = "K"; $0.collapseKey = "k" } }
                #expect(try await states(node) == ["created": 16, "read": 14, "deleted": 2, "replaced": 1])
                #expect(try await states(node) { $0.filters[.event] = "s" } == ["created": 1, "deleted": 1])
                #expect(try await states(node) { $0.filters[.type] = "K" } == ["created": 2, "replaced": 1])
            }
        }

        @Test("a read is counted once though the same notification is changed again in the same batch, and again when it was unread in between")
        func sameBatch() async throws {
            try await Database.migrated().withNode { node async throws in
                let (once, twice) = (try await node.create(u), try await node.create(u))
                func flags(_ id: NotificationID, read: Bool? = nil, archived: Bool? = nil) -> InboxCommand {
                    InboxCommand(user: u, action: .setFlags(id, read: read, seen: nil, archived: archived, scope: nil))
                }
                let outcomes = try await node.writer.write([
                    flags(once, read: true), flags(twice, read: true), flags(once, archived: true), flags(twice, read: false), flags(twice, read: true),
                    flags(once, archived: false),
                ])
                #expect(outcomes.allSatisfy { $0.status == .changed })
                #expect(try await node.number("SELECT count(DISTINCT at) FROM changes WHERE kind = 2") == 1)
                #expect(try await states(node) == ["created": 2, "read": 3])
            }
        }

        @Test("a read's time since the creation is counted, since it was due where it was planned")
        func latency() async throws {
            try await Database.migrated().withNode { node async throws in
                let ages: [Int64] = [10, 1800, 7200, 200_000]
                for age in ages { try await node.create(u) { $0.createdAt = .now() + -age } }
                let planned = try await node.create(u) { $0.createdAt = .now() + -500_000; $0.deliverAt = .now() + 3600 }
                _ = try await node.rows("UPDATE notifications SET deliver_at = now() - interval '5 seconds' WHERE deliver_at IS NOT NULL")
                try await node.write(u, .comeDue(planned))
                try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
                try await count(node)
                var query = try await query(node, [.state])
                query.filters[.state] = "read"
                let row = try #require(try await TotalsStore(pool: node.pool).read(query).rows.first)
                #expect(row.count == 5)
                let latency = row.latency
                #expect(latency.timed == 5 && latency.withinMinute == 2 && latency.withinHour == 3 && latency.withinDay == 4)
                #expect(latency.seconds > 209_010 && latency.seconds < 209_400)
            }
        }

        @Test("a change that is committed late is counted after it, once")
        func late() async throws {
            let database = try await Database.migrated()
            try await database.withNode(connections: 4) { node async throws in
                let holder = try await OpenTransaction.holding(u, in: database)
                let waiting = Task { try await node.create(u) }
                try await node.untilWaiting(1)
                for _ in 0..<3 { try await node.create(user("v")) }
                // The transaction that holds the head began before these.
                #expect(try await states(node) == [:])
                try await holder.commit()
                _ = try await waiting.value
                #expect(try await states(node) == ["created": 4])
                #expect(try await states(node) == ["created": 4])
            }
        }

        @Test("what piled up is counted minute by minute, by one worker at a time")
        func many() async throws {
            let database = try await Database.migrated()
            try await database.withNode(connections: 4) { node async throws in
                for index in 0..<30 { try await node.create(user("u\(index % 7)")) }
                _ = try await node.rows("UPDATE changes SET at = at - seq * interval '61 seconds'")
                _ = try await node.rows("UPDATE totals_progress SET until = now() - interval '20 minutes'")
                #expect(try await TotalsStore(pool: node.pool).advance().isMore)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<4 { group.addTask { try await count(node) } }
                    try await group.waitForAll()
                }
                #expect(try await states(node) == ["created": 30])
            }
        }

        @Test("the log is read by an index on its time, and partitions to come have that index as well")
        func index() async throws {
            try await Database.migrated().withNode { node async throws in
                // One of block ranges would have each look read what was written in the last minute.
                #expect(try await node.number("SELECT count(*) FROM pg_indexes WHERE indexname = 'changes_age' AND indexdef LIKE '%USING btree (at)'") == 1)
                #expect(
                    try await node.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'changes_age'::regclass")
                        == node.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'changes'::regclass"))
                _ = try await node.rows("DO $$ BEGIN EXECUTE (SELECT 'DROP TABLE ' || max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'changes'::regclass AND inhrelid <> 'changes_other'::regclass); END $$")
                try await Housekeeping(pool: node.pool).keepLog(days: 14)
                #expect(
                    try await node.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'changes_age'::regclass")
                        == node.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'changes'::regclass"))
            }
        }
    }

    @Suite("Retention")
    struct Retaining {
        private let u = user("u")

        @Test("rows go by their age, in portions, and tables that are not there are left out")
        func ages() async throws {
            try await Database.migrated().withNode { node async throws in
                _ = try await node.rows(
                    """
                    INSERT INTO marks SELECT 'u', n, now() - interval '91 days 1 hour' FROM generate_series(1, 5001) n
                    UNION ALL SELECT 'u', n, now() - interval '90 days 23 hours' FROM generate_series(6001, 6003) n
                    """)
                _ = try await node.rows(
                    """
                    INSERT INTO idempotency (owner, route, key, digest, answer, at)
                    SELECT gen_random_uuid(), 'r', 'k', '', '', now() - n * interval '1 hour' FROM generate_series(1, 30) n
                    """)
                _ = try await node.rows(
                    """
                    INSERT INTO totals SELECT (now() - n * interval '1 day')::date, '', 'in_app', 'T', '', 'created', 1, 0, 0, 0, 0, 0
                    FROM generate_series(80, 100) n
                    """)
                let rules = Retention.rules + [Retention.Rule(table: "nothing_of_the_kind", age: .retention(), index: "none")]
                let gone = try await Retention(pool: node.pool, rules: rules).run(days: 90)
                #expect(try await node.number("SELECT count(*) FROM marks") == 3)
                #expect(try await node.number("SELECT count(*) FROM idempotency") == 23)
                #expect(try await node.number("SELECT count(*) FROM totals") == 10)
                #expect(gone == 5001 + 7 + 11)
                #expect(try await Retention(pool: node.pool).run(days: 90) == 0)
            }
        }

        @Test("every rule's table has the index that it names")
        func indexes() async throws {
            try await Database.migrated().withNode { node async throws in
                for rule in Retention.rules where try await node.number("SELECT count(*) FROM pg_class WHERE relname = '\(rule.table)'") > 0 {
                    let found = try await node.number(
                        "SELECT count(*) FROM pg_indexes WHERE tablename = '\(rule.table)' AND indexname = '\(rule.index)' AND indexdef ~ '[( ]\(rule.column)[,) ]'")
                    #expect(found == 1, "\(rule.table)")
                }
            }
        }
    }
}
