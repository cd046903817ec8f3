import NotificationCore
import PostgresClient
import TestServers
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Flat cost")
    struct FlatCost {
        /// What is read of the numbers 1 to `rows`, as SQL.
        private static let states = [
            ("all unread", "false"), ("all read", "true"), ("newer half read", "s > rows / 2"), ("older half read", "s <= rows / 2"),
            ("every other read", "s % 2 = 0"), ("after all read", "false"),
        ]
        private static let sizes = [("small", 200), ("large", 60_000)]

        private func fill(_ node: Node) async throws {
            for (size, rows) in Self.sizes {
                for (index, (_, isRead)) in Self.states.enumerated() {
                    _ = try await node.rows(
                        """
                        INSERT INTO notifications (user_id, id, seq, state_seq, level, priority, type, created_at, body, read, seen)
                        SELECT '\(size)-\(index)', gen_random_uuid(), s, s, 0, 0, 'T', now() - make_interval(secs => rows - s), '"title":"one"', \(isRead), \(isRead)
                        FROM (SELECT s, \(rows) AS rows FROM generate_series(1, \(rows)) s) t
                        """)
                    _ = try await node.rows(
                        """
                        INSERT INTO heads (user_id, epoch, seq, unread, unseen)
                        SELECT '\(size)-\(index)', 1, rows, count(*) FILTER (WHERE NOT (\(isRead))), count(*) FILTER (WHERE NOT (\(isRead)))
                        FROM (SELECT s, \(rows) AS rows FROM generate_series(1, \(rows)) s) t GROUP BY rows
                        """)
                }
                try await node.write(user("\(size)-\(Self.states.count - 1)"), .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
            }
            // Most users have a few.
            _ = try await node.rows(
                """
                INSERT INTO notifications (user_id, id, seq, state_seq, level, priority, type, created_at, body)
                SELECT 'other-' || i, gen_random_uuid(), s, s, 0, 0, 'T', now(), '"title":"one"' FROM generate_series(1, 2000) i, generate_series(1, 5) s
                """)
            _ = try await node.rows("VACUUM ANALYZE")
        }

        /// Pages of tables and indexes that a statement looks at.
        private func pages(_ node: Node, _ query: InboxQuery) async throws -> Int {
            var sql = InboxPageSQL(query: query, columns: InboxReader.columns)
            let text = sql.build()
            let values = sql.values.map { value in
                switch value {
                case .text(let text): (type: "text", literal: "'\(text)'")
                case .int8(let number): (type: "int8", literal: "\(number)")
                default: preconditionFailure("a page without filters has no such value")
                }
            }
            _ = try await node.rows("PREPARE page(\(values.map(\.type).joined(separator: ", "))) AS " + text)
            var plan = ""
            for row in try await node.rows("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) EXECUTE page(\(values.map(\.literal).joined(separator: ", ")))") {
                plan += try row.text(0) + "\n"
            }
            _ = try await node.rows("DEALLOCATE page")
            // The outermost node comes first, with the sums.
            let match = try #require(plan.firstMatch(of: /Buffers: shared(?: hit=([0-9]+))?(?: read=([0-9]+))?/))
            let (hit, read) = (match.output.1.flatMap { Int($0) } ?? 0, match.output.2.flatMap { Int($0) } ?? 0)
            #expect(hit >= 0 && read >= 0 && hit + read > 0)
            return hit + read
        }

        @Test("a page costs the same in a large inbox as in a small one: all unread, all read, half, after all read; first and later pages", arguments: ["auto", "force_generic_plan"])
        func pages(planning: String) async throws {
            let database = try await Database.migrated()
            try await database.withNode(lanes: 1, connections: 1) { node async throws in
                try await self.fill(node)
                _ = try await node.rows("SET plan_cache_mode = \(planning)")
                for (index, (state, _)) in Self.states.enumerated() {
                    for order in InboxQuery.Order.allCases {
                        for status in InboxQuery.Status.allCases {
                            for archived in InboxQuery.Archived.allCases {
                                var counts: [Int] = []
                                for (size, rows) in Self.sizes {
                                    var query = InboxQuery(user: user("\(size)-\(index)"))
                                    query.limit = 30
                                    query.order = order
                                    query.status = status
                                    query.archived = archived
                                    counts.append(try await self.pages(node, query))
                                    // Deep in the inbox, among the unread ones where there are any.
                                    query.after = InboxQuery.Cursor(unread: state != "all read" && state != "after all read", seq: Int64(rows) * 2 / 5)
                                    counts.append(try await self.pages(node, query))
                                }
                                // A larger index has a level or two more, in each of five ranges.
                                let isFlat = counts[2] <= counts[0] * 3 / 2 + 40 && counts[3] <= max(counts[0], counts[1]) * 3 / 2 + 40
                                #expect(isFlat, "\(state), \(order), \(status), archived \(archived), \(planning): \(counts)")
                            }
                        }
                    }
                }
            }
        }
    }
}
