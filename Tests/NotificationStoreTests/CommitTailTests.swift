import NotificationCore
import PostgresClient
import Testing

@testable import NotificationStore

/// A call of the writing function as another program would make it.
private func create(_ user: String) -> String {
    """
    SELECT count(*) FROM apply_changes(gen_random_uuid(), false, ARRAY['\(user)'], ARRAY[1]::smallint[], ARRAY[gen_random_uuid()], ARRAY['T'],
        ARRAY[NULL]::text[], ARRAY[0]::smallint[], ARRAY[0]::smallint[], ARRAY[NULL]::text[], ARRAY[NULL]::text[], ARRAY[NULL]::text[], ARRAY[NULL]::text[],
        ARRAY['"title":"t"'], ARRAY[1], ARRAY[now()], ARRAY[NULL]::timestamptz[], ARRAY[NULL]::timestamptz[], ARRAY[true], ARRAY[NULL]::boolean[],
        ARRAY[NULL]::boolean[], ARRAY[NULL]::boolean[], ARRAY[NULL]::jsonb[], ARRAY[0],
        '{}'::uuid[], '{}'::text[], '{}'::text[], '{}'::bytea[], '{}'::text[],
        '{}'::integer[], '{}'::text[], '{}'::text[], '{}'::text[], '{}'::text[], '{}'::timestamptz[], '{}'::text[], '{}'::uuid[], '{}'::integer[],
        '{}'::integer[])
    """
}

extension CommitTail {
    /// user to the numbers that this reading has.
    fileprivate mutating func users(reaching back: Double = 5) async throws -> [String: [Int64]] {
        var found: [String: [Int64]] = [:]
        for commit in try await self.read(firstReaches: back).commits {
            for (user, seq) in zip(commit.users, commit.lastSeqs) { found[user.value, default: []].append(seq) }
        }
        return found
    }
}

extension Store {
    @Suite("The commit tail")
    struct Tail {
        private let u = user("u")

        @Test("a reading has what was committed since the one before, once, and nothing when idle")
        func readings() async throws {
            try await Database.migrated().withNode { node async throws in
                var tail = CommitTail(pool: node.pool)
                #expect(try await tail.users().isEmpty)
                try await node.create(u)
                _ = try await node.writer.write([u, user("v"), u].map { InboxCommand(user: $0, action: .create(notification())) })
                #expect(try await tail.users() == ["u": [1, 3], "v": [1]])
                for _ in 0..<3 { #expect(try await tail.users().isEmpty) }
                let id = try await node.create(u)
                try await node.write(u, .setFlags(id, read: false, seen: nil, archived: nil, scope: nil))
                let reading = try await tail.read()
                #expect(reading.commits.map(\.lastSeqs) == [[4]] && reading.epoch == 1 && reading.commits[0].ageMilliseconds >= 0)
                #expect(try await tail.users().isEmpty)
            }
        }

        @Test("that something is kept of a user is told once, by the tail and with the user's log")
        func known() async throws {
            try await Database.migrated().withNode { node async throws in
                var tail = CommitTail(pool: node.pool)
                let feed = FeedReader(pool: node.pool)
                try await node.create(u)
                _ = try await tail.read()
                #expect(try await !feed.answer(u, after: nil).isKnown)
                for user in [u, user("nobody yet")] {
                    #expect(try await tail.read().known.isEmpty)
                    let store = ContactStore(pool: node.pool)
                    _ = try await store.put(Contact(phone: "+12345"), of: user)
                    let reading = try await tail.read()
                    #expect(reading.known == [user] && reading.commits.isEmpty)
                    _ = try await store.put(Contact(phone: "+123456"), of: user)
                    _ = try await store.delete(of: user)
                    #expect(try await tail.read().known.isEmpty)
                    #expect(try await feed.answer(user, after: nil).isKnown)
                }
            }
        }

        @Test("a new reader finds what the last seconds left behind, and one that rewinds has it again")
        func restart() async throws {
            try await Database.migrated().withNode { node async throws in
                try await node.create(u)
                _ = try await node.rows("UPDATE commits SET at = now() - interval '100 seconds'")
                try await node.create(user("v"))
                var tail = CommitTail(pool: node.pool)
                #expect(try await tail.users(reaching: 50) == ["v": [1]])
                #expect(try await tail.users().isEmpty)
                tail.rewind()
                #expect(try await tail.users(reaching: 200) == ["u": [1], "v": [1]])
                var late = CommitTail(pool: node.pool)
                #expect(try await late.users(reaching: 0).isEmpty)
                try await node.create(u)
                #expect(try await late.users() == ["u": [2]])
            }
        }

        @Test("a transaction that stays open while others commit is found once it commits, whenever the reader began")
        func longTransaction() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                var early = CommitTail(pool: node.pool)
                #expect(try await early.users().isEmpty)
                let open = try await OpenTransaction(database, create("slow"))
                try await node.create(u)
                #expect(try await early.users() == ["u": [1]])
                var amid = CommitTail(pool: node.pool)
                #expect(try await amid.users() == ["u": [1]])
                var without = CommitTail(pool: node.pool)
                #expect(try await without.users(reaching: 0) == ["u": [1]])
                for seq in 2...4 as ClosedRange<Int64> {
                    try await node.create(u)
                    #expect(try await early.users() == ["u": [seq]])
                }
                try await open.commit()
                #expect(try await early.users() == ["slow": [1]])
                #expect(try await amid.users() == ["u": [2, 3, 4], "slow": [1]])
                #expect(try await without.users() == ["u": [2, 3, 4], "slow": [1]])
                #expect(try await early.users().isEmpty)
                #expect(try await amid.users().isEmpty)
            }
        }

        @Test("a reader begins at the oldest open transaction, also when a younger one has committed")
        func beginning() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let open = try await OpenTransaction(database, create("slow"))
                try await node.create(u)
                // The first half of a first reading, as it is done, and the commit right after it.
                let start = try #require(try await node.pool.execute(CommitTail.start, [.float8(5)]).first).xid8(0)
                try await open.commit()
                #expect(try await node.number("SELECT count(*) FROM commits WHERE xid >= '\(start)'::xid8") == 2)
            }
        }

        @Test("nothing is missed or given twice while nodes write and transactions of all lengths are open")
        func random() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let over = Counter()
                let found = try await withThrowingTaskGroup(of: [String: [Int64]].self) { group in
                    group.addTask {
                        var tail = CommitTail(pool: node.pool)
                        var all: [String: [Int64]] = [:]
                        var last = false
                        while true {
                            for (user, seqs) in try await tail.users(reaching: 60) { all[user, default: []] += seqs }
                            if last { return all }
                            last = over.value > 0
                        }
                    }
                    try await withThrowingTaskGroup(of: Void.self) { writers in
                        for task in 0..<6 {
                            writers.addTask {
                                for index in 0..<40 { try await node.create(user("w\(task)-\(index % 5)")) }
                            }
                        }
                        for task in 0..<3 {
                            writers.addTask {
                                for index in 0..<6 {
                                    let open = try await OpenTransaction(database, create("open\(task)"))
                                    for _ in 0..<(index * 3) { try await node.create(user("beside\(task)")) }
                                    try await open.commit()
                                }
                            }
                        }
                        try await writers.waitForAll()
                    }
                    over.add()
                    return try await group.next() ?? [:]
                }
                var expected: [String: [Int64]] = [:]
                for row in try await node.rows("SELECT u, s FROM commits, unnest(users, last_seqs) AS t(u, s) ORDER BY u, s") {
                    expected[try row.text(0), default: []].append(try row.int8(1))
                }
                #expect(found.mapValues { $0.sorted() } == expected)
            }
        }
    }
}
