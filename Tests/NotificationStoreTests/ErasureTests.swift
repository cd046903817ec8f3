import NotificationCore
import PostgresClient
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Erasure")
    struct Erasing {
        private let u = user("u")
        private let v = user("v")

        /// Rows of a user by table.
        private func rows(_ user: UserID, _ node: Node) async throws -> [Int64] {
            var counts: [Int64] = []
            for table in ["heads", "notifications", "changes", "marks"] {
                counts.append(try await node.number("SELECT count(*) FROM \(table) WHERE user_id = '\(user.value)'"))
            }
            return counts
        }

        private func erasure(_ node: Node) -> UserErasure { UserErasure(pool: node.pool, writer: node.writer) }

        @Test("an erased user has an epoch of the own, the next number, nothing to read, and no rows but the head and the log's last line")
        func all() async throws {
            try await Database.migrated().withNode { node async throws in
                for user in [u, v] {
                    for index in 0..<6 {
                        try await node.create(user) {
                            $0.customer = index % 2 == 0 ? "c" : nil
                            if index == 4 { $0.inApp = false }
                            if index == 5 { $0.deliverAt = .now() + 3600 }
                        }
                    }
                    try await node.write(user, .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
                    try await node.create(user)
                }
                #expect(try await rows(u, node) == [1, 7, 6, 1])
                let erased = try await erasure(node).erase(u)
                #expect(erased == 7 + 6 + 1)
                let head = try await node.reader.head(of: u)
                #expect(head == InboxHead(position: StreamPosition(epoch: 2, seq: 7), unread: 0, unseen: 0, counts: "{}"))
                #expect(try await rows(u, node) == [1, 0, 1, 0])
                #expect(try await node.reader.page(InboxQuery(user: u)).items.isEmpty)
                // Nobody else's.
                #expect(try await rows(v, node) == [1, 7, 6, 1])
                #expect(try await node.reader.head(of: v).position == StreamPosition(epoch: 1, seq: 6))
                #expect(try await node.number("SELECT epoch FROM cluster") == 1)

                // The numbers go on.
                let next = try await node.write(u, .create(notification()))
                #expect(next.head.position == StreamPosition(epoch: 2, seq: 8) && next.head.unread == 1)
                let feed = FeedReader(pool: node.pool)
                let replay = try await feed.answer(u, after: StreamPosition(epoch: 2, seq: 7))
                #expect(replay.changes?.map(\.seq) == [8] && replay.countsAtStart?.unread == 0)
                // No position of before leads anywhere, whether it is behind or ahead.
                for seq in [0, 3, 6, 7, 8] as [Int64] {
                    #expect(try await feed.answer(u, after: StreamPosition(epoch: 1, seq: seq)).changes == nil)
                }
            }
        }

        @Test("erasing again, or somebody whom nobody ever wrote to, changes nothing and takes no number")
        func again() async throws {
            try await Database.migrated().withNode { node async throws in
                try await node.create(u)
                _ = try await erasure(node).erase(u)
                let head = try await node.reader.head(of: u)
                let heard = node.recorder.all.count
                #expect(try await erasure(node).erase(u) == 0)
                #expect(try await erasure(node).erase(v) == 0)
                #expect(try await node.reader.head(of: u) == head)
                #expect(node.recorder.all.count == heard)
                #expect(try await rows(v, node) == [0, 0, 0, 0])
                // After the next notification there is something again.
                try await node.create(u)
                _ = try await erasure(node).erase(u)
                #expect(try await node.reader.head(of: u).position == StreamPosition(epoch: 3, seq: head.position.seq + 2))
            }
        }

        @Test("an inbox that is empty, but was not, is erased as well")
        func emptied() async throws {
            try await Database.migrated().withNode { node async throws in
                let id = try await node.create(u)
                try await node.write(u, .delete(id, scope: nil))
                _ = try await erasure(node).erase(u)
                #expect(try await node.reader.head(of: u).position == StreamPosition(epoch: 2, seq: 3))
                #expect(try await rows(u, node) == [1, 0, 1, 0])
            }
        }

        @Test("a large inbox goes in portions, after each of which the counts are what is left")
        func large() async throws {
            try await Database.migrated().withNode { node async throws in
                for round in 0..<11 {
                    _ = try await node.writer.write(
                        (0..<200).map { index in
                            InboxCommand(
                                user: u,
                                action: .create(
                                    notification {
                                        $0.customer = index % 3 == 0 ? "c" : nil
                                        $0.type = index % 2 == 0 ? "A" : "B"
                                    }))
                        })
                    if round == 4 { try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil)) }
                    if round == 6 { try await node.write(u, .seenAll(customer: nil)) }
                    if round == 7 { try await node.write(u, .readAll(customer: "c", type: nil, upTo: nil, scope: nil)) }
                }
                let counted = """
                    SELECT count(*) FROM heads h WHERE
                        unread = (SELECT count(*) FROM notifications n WHERE n.user_id = h.user_id AND NOT read AND state_seq > h.mark_seq)
                        AND unseen = (SELECT count(*) FROM notifications n WHERE n.user_id = h.user_id AND NOT read AND NOT seen
                                      AND state_seq > GREATEST(h.mark_seq, h.seen_seq))
                        AND unread = (SELECT COALESCE(sum((value ->> 0)::integer), 0) FROM jsonb_each(counts) WHERE right(key, 1) = E'\\x1f')
                        AND unread = (SELECT COALESCE(sum((value ->> 0)::integer), 0) FROM jsonb_each(counts) WHERE right(key, 1) <> E'\\x1f')
                    """
                #expect(try await node.number(counted) == 1)
                var left: [Int64] = []
                var more = true
                while more {
                    let outcome = try await node.write(u, .erase)
                    #expect(outcome.status == .changed)
                    #expect(try await node.number(counted) == 1)
                    left.append(try await node.number("SELECT count(*) FROM notifications"))
                    more = outcome.more
                }
                #expect(left == [1200, 200, 0])
                #expect(try await node.write(u, .erase).status == .unchanged)
                // Each portion is told, so that no stream shows what is gone for long.
                #expect(node.recorder.changes(of: u).filter { $0.kind == .erased }.map(\.seq) == [2204, 2205, 2206])
                #expect(try await node.reader.head(of: u).position.epoch == 4)
                #expect(try await erasure(node).erase(u) == 2205 + 1)
                #expect(try await rows(u, node) == [1, 0, 1, 0])
            }
        }

        @Test("an inbox of 30,000 is all read by its type, and erased, in portions that do not compare each row with each")
        func portions() async throws {
            try await Database.migrated().withNode { node async throws in
                for _ in 0..<150 {
                    _ = try await node.writer.write((0..<200).map { _ in InboxCommand(user: u, action: .create(notification { $0.type = "A" })) })
                }
                var updated = 0
                var more = true
                while more {
                    let outcome = try await node.write(u, .readAll(customer: nil, type: "A", upTo: nil, scope: nil))
                    updated += outcome.updated
                    more = outcome.more
                }
                #expect(updated == 30_000)
                #expect(try await node.reader.head(of: u).unread == 0)
                #expect(try await erasure(node).erase(u) >= 30_000)
                #expect(try await node.number("SELECT count(*) FROM notifications") == 0)
            }
        }

        @Test("what is created while a user is erased is there as a whole, or gone as a whole")
        func race() async throws {
            try await Database.migrated().withNode { node async throws in
                for round in 0..<10 {
                    let w = user("w\(round)")
                    for _ in 0..<20 { try await node.create(w) }
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for _ in 0..<3 {
                            group.addTask { for _ in 0..<10 { try await node.create(w) } }
                        }
                        group.addTask { _ = try await erasure(node).erase(w) }
                        group.addTask { _ = try await erasure(node).erase(w) }
                        try await group.waitForAll()
                    }
                    let head = try await node.reader.head(of: w)
                    let rows = try await node.number("SELECT count(*) FROM notifications WHERE user_id = '\(w.value)'")
                    #expect(Int64(head.unread) == rows && head.position.epoch > 1)
                    // Every number was given once, and what follows the last erasure is whole.
                    let changes = node.recorder.changes(of: w)
                    #expect(changes.map(\.seq).sorted() == Array(1...head.position.seq))
                    let last = try #require(changes.filter { $0.kind == .erased }.map(\.seq).max())
                    let replay = try await FeedReader(pool: node.pool).answer(w, after: StreamPosition(epoch: head.position.epoch, seq: last))
                    #expect(replay.changes?.count == Int(head.position.seq - last))
                    #expect(head.position.seq - last == rows)
                }
            }
        }

        @Test("jobs that are to come lose the user, and one whose chunk has the user is waited for")
        func jobs() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = JobStore(pool: node.pool)
                let users = (100..<500).map { user("user \($0)") }
                let waiting = Job(body: "{\"title\":\"Hello\"}", isTold: false, createdAt: .now())
                _ = try await store.add(waiting, users: users, owner: nil)
                #expect(try await erasure(node).erase(users[10]) == 1)
                #expect(try await erasure(node).erase(users[10]) == 0)
                #expect(try await store.status(waiting.id)?.total == 399)
                #expect(try await node.number("SELECT count(*) FROM job_users WHERE user_id = 'user 110'") == 0)

                // Somebody holds it: the users that come next may be on their way.
                let owner = NotificationID.make()
                _ = try await node.rows("DELETE FROM jobs")
                let held = Job(body: "{\"title\":\"Hello\"}", isTold: false, createdAt: .now())
                _ = try await store.add(held, users: users, owner: owner)
                #expect(try await erasure(node).erase(users[200]) == 1)
                #expect(try await store.status(held.id)?.total == 399)
                // Each look at the job leaves its mark there.
                let locked = "SELECT xmax::text::bigint FROM jobs"
                let before = try await node.number(locked)
                async let erased = erasure(node).erase(users[20])
                while try await node.number(locked) == before {}
                // What the holder of the chunk does.
                try await node.create(users[20])
                _ = try await store.advance(held.id, owner: owner, JobStore.Step(from: "", to: "user 125"), limit: 25)
                #expect(try await erased > 0)
                #expect(try await node.number("SELECT count(*) FROM notifications WHERE user_id = 'user 120'") == 0)
                #expect(try await store.status(held.id)?.total == 399)
                // Whoever held it is long gone.
                _ = try await node.rows("UPDATE jobs SET lease_until = now() - interval '2 minutes'")
                #expect(try await erasure(node).erase(users[30]) == 1)
            }
        }

        @Test("the audit log keeps what the user did, and forgets who it was and from where")
        func audit() async throws {
            try await Database.migrated().withNode { node async throws in
                func entry(_ subject: RequestSubject, _ ids: [AuditEntry.Parameter]) -> AuditEntry {
                    var entry = AuditEntry(
                        at: .now(), subject: subject, method: "PUT", route: "/v1/x/{id}", ids: ids, status: 200, address: "192.0.2.7", requestID: "r")
                    entry.id = NotificationID.make()
                    return entry
                }
                let store = AuditStore(pool: node.pool)
                let key = NotificationID.make()
                try await store.write([
                    entry(.user(u), []), entry(.user(u), []), entry(.user(v), []), entry(.key(key, name: "k"), [.init(name: "user_id", value: "u")]),
                ], again: false)
                _ = try await erasure(node).erase(u)
                let rows = try await store.page(AuditQuery()).map(\.entry)
                #expect(rows.count == 4)
                #expect(rows.filter { $0.subject == nil && $0.address.isEmpty && $0.status == 200 }.count == 2)
                #expect(rows.filter { $0.subject == .user(v) && $0.address == "192.0.2.7" }.count == 1)
                #expect(rows.filter { $0.ids.first?.value == "u" && $0.address == "192.0.2.7" }.count == 1)
            }
        }

        @Test("the commit tail tells of an erasure that nobody published")
        func tail() async throws {
            try await Database.migrated().withNode { node async throws in
                for _ in 0..<3 { try await node.create(u) }
                var tail = CommitTail(pool: node.pool)
                _ = try await tail.read()
                _ = try await erasure(node).erase(u)
                let commits = try await tail.read().commits.filter { $0.users == [u] }
                #expect(commits.last?.lastSeqs == [4])
            }
        }

        @Test("after a restore to before an erasure the next epoch is higher than the one that the user was given")
        func restored() async throws {
            try await Database.migrated().withNode { node async throws in
                try await node.create(u)
                for _ in 0..<3 {
                    _ = try await erasure(node).erase(u)
                    try await node.create(u)
                }
                #expect(try await node.reader.head(of: u).position.epoch == 4)
                // As it was before, and as if the log were far enough to have it all.
                _ = try await node.rows("UPDATE cluster SET epoch_counter = 1")
                _ = try await node.rows("UPDATE heads SET epoch = 1")
                let row = try #require(try await node.rows("SELECT epoch FROM observe_cluster('0/0', 1, 1, 4)").first)
                let epoch = try row.int8(0)
                #expect(epoch > 4)
                #expect(try await node.reader.head(of: u).position.epoch == epoch)
                // Those who know of it, too, find it so, and make no further one.
                #expect(try await node.rows("SELECT epoch FROM observe_cluster('0/0', 1, 1, 4)").first?.int8(0) == epoch)
            }
        }
    }

    @Suite("Export")
    struct Exporting {
        private let u = user("u")

        private func lines(_ user: UserID, _ node: Node) async throws -> [JSONValue] {
            var walk = UserExport(pool: node.pool).walk(user)
            var lines: [JSONValue] = []
            while let portion = try await walk.next() {
                let texts = String(decoding: portion.bytes, as: UTF8.self).split(separator: "\n")
                #expect(texts.count == portion.lines)
                for text in texts { lines.append(try JSONParser.parse(Array(text.utf8))) }
            }
            return lines
        }

        @Test("an export holds every notification, with or without a number, every change, and nobody else's")
        func all() async throws {
            try await Database.migrated().withNode { node async throws in
                var ids: Set<String> = []
                for index in 0..<1203 {
                    ids.insert(try await node.create(u) { if index % 400 == 0 { $0.inApp = false } }.description)
                    if index % 300 == 0 { try await node.create(user("other")) }
                }
                try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
                let lines = try await lines(u, node)
                let found = lines.filter { $0["kind"]?.string == "notification" }.compactMap { $0["notification"] }
                #expect(Set(found.compactMap { $0["id"]?.string }) == ids && found.count == ids.count)
                #expect(found.filter { $0["read"] == .bool(true) }.count == 1199)
                #expect(found.filter { $0["seq"] == .null }.count == 4)
                #expect(lines.filter { $0["kind"]?.string == "change" }.count == 1200)
                let head = try #require(lines.first { $0["kind"]?.string == "inbox" })
                #expect(head["last_event_id"]?.string == "1-1200" && head["unread"] == .number("0"))
                #expect(try await self.lines(user("nobody"), node).isEmpty)
            }
        }
    }
}
