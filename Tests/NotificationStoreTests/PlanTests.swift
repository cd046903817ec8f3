import Foundation
import NotificationCore
import PostgresClient
import TestServers
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Plans")
    struct Plans {
        private let u = user("u")

        /// One user with 200,000 notifications and changes, 20,000 users with a few. Not by a node, whose statements have a time limit.
        private func fill(_ database: Database) throws {
            for sql in [
                """
                INSERT INTO heads (user_id, epoch, seq, unread, unseen, counts)
                SELECT 'u', 1, 200000, 100000, 100000, jsonb_build_object(E'\\x1fT', '[100000,100000]'::jsonb, E'\\x1f', '[100000,100000]'::jsonb)
                UNION ALL SELECT 'o' || i, 1, 3, 3, 3, jsonb_build_object(E'\\x1fT', '[3,3]'::jsonb, E'\\x1f', '[3,3]'::jsonb) FROM generate_series(1, 20000) i
                """,
                """
                INSERT INTO notifications (user_id, id, seq, state_seq, level, priority, type, collapse_key, rec_type, rec_id, created_at, body, read, seen)
                SELECT 'u', gen_random_uuid(), i, i, 0, 0, 'T', CASE WHEN i % 1000 = 0 THEN 'k' || i END, NULL, NULL, now() - make_interval(secs => 200000 - i),
                       '"title":"one of the large inbox of this user"', i % 2 = 0, i % 2 = 0
                FROM generate_series(1, 200000) i
                UNION ALL SELECT 'o' || i, gen_random_uuid(), s, s, 0, 0, 'T', NULL, 'order', (i / 10)::text, now() - interval '1 day', '"title":"one of another"', false, false
                FROM generate_series(1, 20000) i, generate_series(1, 3) s
                """,
                """
                INSERT INTO changes (user_id, seq, kind, notification_id, unread, unseen, at)
                SELECT user_id, seq, 1, id, seq, seq, now() - make_interval(secs => (200000 - seq) * 3) FROM notifications
                """,
                """
                INSERT INTO commits (batch_id, xid, at, users, last_seqs)
                SELECT gen_random_uuid(), i::text::xid8, now() - interval '1 minute', '{u}', '{1}' FROM generate_series(1, 100) i
                """,
                "INSERT INTO preferences SELECT 'o' || i, c, '{\"channels\":{\"sms\":true}}', now() FROM generate_series(1, 20000) i, (VALUES (''), ('c')) AS v(c)",
                "INSERT INTO contacts (user_id, email, updated_at) SELECT 'o' || i, 'a@b.c', now() FROM generate_series(1, 20000) i",
                """
                INSERT INTO deliveries (user_id, notification_id, channel, state, type, created_at, at)
                SELECT 'o' || i, gen_random_uuid(), 'sms', 'suppressed', 'T', now(), now() FROM generate_series(1, 20000) i
                """,
                "ANALYZE",
            ] { try database.server.psql(sql, database: database.name) }
        }

        @Test("no statement of the hot ways reads a whole table, also with an inbox of 200,000")
        func noScan() async throws {
            // The plans of what runs inside of functions are seen only in the log.
            let settings = [
                "session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0", "auto_explain.log_nested_statements": "on",
                "max_wal_size": "2GB", "autovacuum": "off",
            ]
            let database = try await Database.alone(settings: settings)
            try await database.withNode(lanes: 1, connections: 1) { node async throws in
                try self.fill(database)
                let before = database.server.logText.count
                let feed = FeedReader(pool: node.pool)
                let keeping = Housekeeping(pool: node.pool)
                var tail = CommitTail(pool: node.pool)
                // More often than it takes for a statement to get its general plan.
                for round in 0..<6 {
                    try await self.write(node, round)
                    try await self.read(node, feed, round)
                    _ = try await tail.read()
                    _ = try await keeping.timely()
                }
                try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
                // The lists after a mark, and what was touched below it.
                let page = try await node.reader.page(InboxQuery(user: u))
                for item in page.items.prefix(10) { try await node.write(u, .setFlags(item.id, read: false, seen: nil, archived: nil, scope: nil)) }
                for round in 0..<2 { try await self.read(node, feed, round) }

                _ = try await node.rows("SELECT 'the end'")
                await until { database.server.logText.suffix(5000).contains("SELECT 'the end'") }
                let log = String(database.server.logText.dropFirst(before))
                #expect(log.contains("Index Scan") && log.contains("INSERT INTO changes") && log.contains("Query Text"))
                var found: Set<String> = []
                for entry in log.components(separatedBy: "Query Text: ").dropFirst() {
                    for table in ["notifications", "changes", "heads", "preferences", "contacts", "deliveries"] where entry.contains(try Regex("Seq Scan on (public\\.)?\(table)")) {
                        found.insert("\(table): \(entry.prefix(3000))")
                    }
                }
                #expect(found.isEmpty, "\(found.joined(separator: "\n----\n"))")
                #expect(try await node.audit() == [])
            }
        }

        private func write(_ node: Node, _ round: Int) async throws {
            for _ in 0..<2 { try await node.create(u) { $0.collapseKey = "k\(round)" } }
            let other = try await node.create(u)
            try await node.write(u, .setFlags(other, read: true, seen: nil, archived: nil, scope: nil))
            try await node.write(u, .setFlags(other, read: false, seen: nil, archived: nil, scope: nil))
            try await node.write(u, .seenAll(customer: nil))
            // With a filter the whole inbox is looked through, which here is most of the table: so that is another's.
            let small = user("o\(round + 1)")
            let last = try await node.create(small)
            try await node.write(small, .readAll(customer: "c", type: "T", upTo: nil, scope: nil))
            try await node.write(small, .readAll(customer: nil, type: nil, upTo: last, scope: nil))
            try await node.write(small, .seenAll(customer: ""))
            try await node.write(u, .delete(other, scope: nil))
            let expiring = try await node.create(u) { $0.expiresAt = .now() + -1 }
            try await node.write(u, .expire(expiring))
            let later = try await node.create(u) { $0.deliverAt = .now() + 3600 }
            try await node.write(u, .comeDue(later))
            try await node.write(u, .retire(later))
            let sent = SentNotifications(pool: node.pool, writer: node.writer)
            let correction = try NotificationCorrection(json: .object([("title", .string("corrected \(round)"))]), now: .now())
            for users in [nil, [u, small]] as [[UserID]?] {
                let mark = SentSelector.Mark.record(type: "order", id: "0")
                #expect(try await sent.correct(SentSelector(mark: mark, users: users), correction).found >= 3)
                #expect(try await sent.correct(SentSelector(mark: .id(last), users: users), correction).found == 1)
                #expect(try await sent.correct(SentSelector(mark: .collapseKey("k\(round)"), users: users), correction).found == 1)
            }
            #expect(try await sent.takeBack(SentSelector(mark: .record(type: "order", id: "\(round + 100)"))).changed == 30)
            _ = try await node.writer.write((0..<40).map { InboxCommand(user: user("o\(round * 200 + $0 + 1)"), action: .create(notification())) })
        }

        private func read(_ node: Node, _ feed: FeedReader, _ round: Int) async throws {
            for order in InboxQuery.Order.allCases {
                for status in InboxQuery.Status.allCases {
                    var query = InboxQuery(user: u)
                    query.order = order
                    query.status = status
                    let page = try await node.reader.page(query)
                    query.after = page.next
                    let second = try await node.reader.page(query)
                    if let item = second.items.first { _ = try await node.reader.notification(item.id, of: u, scope: nil) }
                }
            }
            _ = try await node.reader.page(InboxQuery(user: user("o\(round + 1)")))
            let found = try await node.recipients.read((1...50).map { user("o\($0 + round)") }, customer: CustomerID("c"))
            #expect(found.count == 50 && found.values.allSatisfy { $0.own != nil && $0.customer != nil && $0.contact != nil })
            _ = try await node.recipients.read([user("o\(round + 1)")], customer: nil)
            let deliveries = DeliveryStore(pool: node.pool)
            let tracked = try await node.create(u) { $0.inApp = false; $0.deliveries = [NewDelivery(channel: .sms, state: .suppressed, reason: .noContact)] }
            #expect(try await deliveries.deliveries(of: tracked, user: u, scope: nil)?.count == 1)
            let head = try await node.reader.head(of: u)
            _ = try await node.reader.heads(of: (1...200).map { user("o\($0)") })
            for behind in [0, 1, 50, 1000] as [Int64] {
                let answer = try await feed.answer(u, after: StreamPosition(epoch: head.position.epoch, seq: head.position.seq - behind))
                #expect(answer.changes?.count == Int(behind))
            }
            _ = try await withThrowingTaskGroup(of: FeedAnswer.self) { group in
                for index in 1...100 {
                    group.addTask { try await feed.answer(user("o\(index)"), after: StreamPosition(epoch: 1, seq: Int64(index % 4))) }
                }
                return try await group.reduce(0) { count, _ in count + 1 }
            }
        }
    }
}
