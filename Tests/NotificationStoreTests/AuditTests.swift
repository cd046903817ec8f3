import NotificationCore
import PostgresClient
import TestServers
import Testing

@testable import NotificationStore

/// A request at a time.
private func entry(
    _ seconds: Double = 0, subject: RequestSubject? = .user(UserID("alice")!), method: String = "POST", route: String? = "/v1/notifications/seen", status: Int = 200,
    address: String = "192.0.2.1", id: String = "r"
) -> AuditEntry {
    AuditEntry(
        at: Timestamp(microseconds: 1_700_000_000_000_000 + Int64(seconds * 1_000_000)), subject: subject, method: method, route: route, status: status,
        address: address, requestID: id)
}

private func at(_ seconds: Double) -> Timestamp { entry(seconds).at }

@Suite("What waits to be written to the audit log")
struct AuditQueueTests {
    @Test("it comes out in order, in portions, and each has an id of its time, which it keeps")
    func order() {
        var queue = AuditQueue(bound: 100, sumsBound: 10)
        for number in 0..<5 { queue.add(entry(Double(number), id: "\(number)")) }
        let first = queue.take(upTo: 3, now: at(9))
        #expect(first.map(\.requestID) == ["0", "1", "2"])
        #expect(first.allSatisfy { $0.id.map { id in id.high >> 16 } == UInt64($0.at.microseconds / 1000) })
        queue.putBack(first)
        let again = queue.take(upTo: 10, now: at(9))
        #expect(again.map(\.requestID) == ["0", "1", "2", "3", "4"])
        #expect(again.prefix(3).map(\.id) == first.map(\.id))
        #expect(queue.waiting == 0)
        #expect(queue.dropped == 0)
    }

    @Test("past the bound the oldest are dropped and counted, also when what was taken comes back")
    func bound() {
        var queue = AuditQueue(bound: 3, sumsBound: 10)
        for number in 0..<5 { queue.add(entry(id: "\(number)")) }
        #expect(queue.dropped == 2)
        let taken = queue.take(upTo: 2, now: at(9))
        #expect(taken.map(\.requestID) == ["2", "3"])
        queue.add(entry(id: "5"))
        queue.putBack(taken)
        #expect(queue.dropped == 3)
        #expect(queue.take(upTo: 10, now: at(9)).map(\.requestID) == ["3", "4", "5"])
    }

    @Test("what is alike within a second is one row, once the second is over")
    func sums() {
        var queue = AuditQueue(bound: 100, sumsBound: 10)
        for number in 0..<100 { queue.addUp(entry(0.1, id: "\(number)")) }
        queue.addUp(entry(0.1, status: 503))
        queue.addUp(entry(0.1, subject: .user(UserID("bob")!)))
        queue.addUp(entry(0.1, method: "PUT"))
        queue.addUp(entry(0.1, route: nil))
        // Of whom it was, not from where.
        queue.addUp(entry(0.2, address: "192.0.2.2"))
        #expect(queue.take(upTo: 100, now: at(0.9)).isEmpty)
        queue.addUp(entry(1.1))
        let first = queue.take(upTo: 100, now: at(1.2))
        #expect(first.map(\.count).sorted() == [1, 1, 1, 1, 101])
        #expect(first.first { $0.count == 101 }?.requestID == "0")
        #expect(queue.take(upTo: 100, now: at(2)).map(\.count) == [1])
        #expect(queue.waiting == 0)
    }

    @Test("who has no name is told by address; of too many addresses the rest is one row for each kind of request")
    func flood() {
        var queue = AuditQueue(bound: 1000, sumsBound: 10)
        for number in 0..<500 {
            for _ in 0..<2 { queue.addUp(entry(0.1, subject: nil, status: 401, address: "192.0.2.\(number)")) }
        }
        #expect(queue.waiting == 11)
        let rows = queue.take(upTo: 100, now: at(5))
        #expect(rows.reduce(0) { $0 + $1.count } == 1000)
        #expect(rows.first { $0.address == AuditQueue.manyAddresses }?.count == 980)
    }

    @Test("while nothing can be written, sums of past seconds count among what waits and is bounded")
    func sumsAreBounded() {
        var queue = AuditQueue(bound: 20, sumsBound: 5)
        var all = 0
        for second in 0..<100 {
            for number in 0..<50 {
                queue.addUp(entry(Double(second) + 0.1, subject: .user(UserID("user-\(number)")!)))
                queue.addUp(entry(Double(second) + 0.2, subject: nil, status: 401, address: "192.0.2.\(number)"))
                all += 2
                #expect(queue.waiting <= 20 + 5 + 5 + 1)
            }
        }
        let rows = queue.take(upTo: 100, now: at(200))
        #expect(rows.count == 20)
        #expect(queue.dropped + rows.reduce(0) { $0 + $1.count } == all)
    }

    @Test("at the end sums of the current second are taken too, and what is dropped counts all that it stood for")
    func end() {
        var queue = AuditQueue(bound: 1, sumsBound: 10)
        for _ in 0..<7 { queue.addUp(entry(0.1)) }
        queue.addUp(entry(0.2, status: 401))
        #expect(queue.take(upTo: 100, now: at(0.5), all: true).map(\.status) == [401])
        #expect(queue.dropped == 7)
    }
}

extension Store {
    @Suite("The audit log", .serialized)
    struct Audit {
        private func filled(_ store: AuditStore) async throws {
            var queue = AuditQueue(bound: 100, sumsBound: 10)
            let key = RequestSubject.key(NotificationID("01930000-0000-7000-8000-000000000001")!, name: "Käufer \"1\"")
            for number in 0..<10 { queue.add(entry(Double(number), subject: number % 2 == 0 ? .user(UserID("e\u{301}\n{}".filter { $0 != "\n" })!) : key, id: "\(number)")) }
            queue.add(entry(10, subject: nil, route: nil, status: 401, id: "10"))
            try await store.write(queue.take(upTo: 100, now: at(20)), again: false)
        }

        @Test("rows are read as they were written, and one that is written again is there once")
        func roundTrip() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let store = AuditStore(pool: node.pool)
                var queue = AuditQueue(bound: 100, sumsBound: 10)
                var first = entry(0.25, method: "PATCH", route: "/v1/notifications/{id}/read", status: 404, id: "a.b_c-1")
                first.ids = [AuditEntry.Parameter(name: "id", value: "{}\"/🔔"), AuditEntry.Parameter(name: "other", value: "x")]
                queue.add(first)
                queue.add(entry(1, subject: .key(NotificationID.make(), name: "n"), status: 503))
                queue.add(entry(2, subject: nil, route: nil, status: 401))
                for _ in 0..<3 { queue.addUp(entry(3, status: 429)) }
                let taken = queue.take(upTo: 10, now: at(9))
                try await store.write(taken, again: false)
                try await store.write(taken, again: true)
                let rows = try await store.page(AuditQuery())
                #expect(rows.map(\.id) == taken.reversed().compactMap(\.id))
                for (row, written) in zip(rows, taken.reversed()) {
                    var expected = written
                    expected.id = nil
                    #expect(row.entry == expected)
                }
            }
        }

        @Test("pages are cut by subject, time and cursor, the newest first")
        func pages() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let store = AuditStore(pool: node.pool)
                try await self.filled(store)
                func ids(_ change: (inout AuditQuery) -> Void) async throws -> [String] {
                    var query = AuditQuery()
                    change(&query)
                    return try await store.page(query).map(\.entry.requestID)
                }
                #expect(try await ids { _ in } == (0...10).reversed().map(String.init))
                #expect(try await ids { $0.subject = "e\u{301}{}" } == ["8", "6", "4", "2", "0"])
                // Another string, though it looks the same.
                #expect(try await ids { $0.subject = "é{}" } == [])
                #expect(try await ids { $0.subject = "01930000-0000-7000-8000-000000000001" } == ["9", "7", "5", "3", "1"])
                #expect(try await ids { $0.since = at(7) } == ["10", "9", "8", "7"])
                #expect(try await ids { $0.until = at(3) } == ["2", "1", "0"])
                #expect(
                    try await ids {
                        $0.since = at(2)
                        $0.until = at(7)
                        $0.subject = "e\u{301}{}"
                    } == ["6", "4", "2"])
                var seen: [String] = []
                var query = AuditQuery()
                query.limit = 4
                while case let page = try await store.page(query), let last = page.last {
                    seen += page.map(\.entry.requestID)
                    query.after = last.id
                }
                #expect(seen == (0...10).reversed().map(String.init))
            }
        }

        @Test("both lists are read by an index that ends where the page does")
        func plans() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                _ = try await node.rows(
                    """
                    INSERT INTO audit SELECT gen_random_uuid(), now(), 'user', 'user-' || n % 10, NULL, 'POST', '/x', NULL, 200, 1, '192.0.2.1', 'r'
                    FROM generate_series(1, 20000) n
                    """)
                _ = try await node.rows("ANALYZE audit")
                let bounds = "id >= '00000000-0000-0000-0000-000000000000' AND id < 'ffffffff-ffff-ffff-ffff-ffffffffffff'"
                for (condition, index) in [(bounds, "audit_pkey"), (bounds + " AND subject = 'user-7'", "audit_subject")] {
                    let plan = try await node.rows("EXPLAIN SELECT * FROM audit WHERE \(condition) ORDER BY id DESC LIMIT 50").map { try $0.text(0) }
                    #expect(plan.contains { $0.contains("Index Scan Backward using \(index) ") }, "\(plan)")
                    #expect(!plan.contains { $0.contains("Sort") }, "\(plan)")
                }
            }
        }

        @Test("old rows go in portions, and no younger ones")
        func retention() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let store = AuditStore(pool: node.pool)
                try await self.filled(store)
                #expect(try await store.forget(before: at(5), limit: 3) == 3)
                #expect(try await store.page(AuditQuery()).map(\.entry.requestID) == (3...10).reversed().map(String.init))
                #expect(try await store.forget(before: at(5), limit: 3) == 2)
                #expect(try await store.forget(before: at(5), limit: 3) == 0)
                #expect(try await store.page(AuditQuery()).map(\.entry.requestID) == (5...10).reversed().map(String.init))
            }
        }

        @Test("what is recorded while the database is away is written when it is back, and what is left when a node stops is written then")
        func away() async throws {
            let database = try await Database.alone()
            try await database.withNode { node async throws in
                let log = AuditLog(pool: node.pool, logger: silent)
                let run = Task { await log.run() }
                log.record(entry(0, id: "before"), isOneOfMany: false)
                await until { log.counters.written == 1 }
                database.server.kill()
                for number in 0..<2500 { log.record(entry(1 + Double(number) / 1000, id: "\(number)"), isOneOfMany: false) }
                await until { !node.pool.isAvailable }
                #expect(log.counters.waiting + log.counters.written == 2501)
                try database.server.start()
                await until { log.counters.written == 2501 }
                run.cancel()
                await run.value
                log.record(entry(9, id: "last"), isOneOfMany: false)
                // Its second is not over.
                log.record(AuditEntry(at: .now(), subject: nil, method: "POST", route: nil, status: 401, address: "192.0.2.1", requestID: "sum"), isOneOfMany: true)
                await log.close()
                #expect(log.counters.dropped == 0)
                #expect(log.counters.waiting == 0)
                #expect(try await node.number("SELECT count(*) FROM audit") == 2503)
                #expect(try await node.number("SELECT count(DISTINCT request_id) FROM audit") == 2503)
            }
            database.server.kill()
        }
    }
}
