import NotificationCore
import Testing
@testable import NotificationStore
extension Store { @Suite struct Scratch { @Test func s() async throws {
 let d = try await Database.alone(settings: ["max_wal_size": "2GB"])
 try await d.withNode { node async throws in
   for sql in ["INSERT INTO heads (user_id, epoch, seq, unread, unseen) SELECT 'u', 1, 400000, 5, 5", """
    INSERT INTO notifications (user_id, id, seq, state_seq, level, priority, type, created_at, body, read, seen)
    SELECT 'u', gen_random_uuid(), i, i+200000, 0, 0, 'T', now(), '"title":"one of the large inbox of this user"', i > 5, i > 5 FROM generate_series(1, 200000) i
   """, "ANALYZE"] { _ = try await node.rows(sql) }
   let c = ContinuousClock()
   for s in InboxQuery.Status.allCases { var q = InboxQuery(user: user("u")); q.status = s
     for _ in 0..<3 { let t = try await c.measure { let p = try await node.reader.page(q); #expect(p.items.count >= 5) }; print("list", s, t) } }
   let t = try await c.measure { try await node.write(user("u"), .readAll(customer: "", type: "T", upTo: nil, scope: nil)) }
   print("filtered read-all", t)
   let t2 = try await c.measure { _ = try await Housekeeping(pool: node.pool).old(days: 90) }
   print("old", t2)
 } } } }
