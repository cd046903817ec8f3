import NotificationCore
import PostgresClient
import Testing

@testable import NotificationStore

private func ids(_ commands: [InboxCommand]) -> Set<NotificationID> {
    Set(
        commands.map {
            switch $0.action {
            case .comeDue(let id), .expire(let id), .retire(let id): id
            default: .make()
            }
        })
}

extension Store {
    @Suite("Housekeeping")
    struct Keeping {
        private let u = user("u")

        @Test("what is due, over, or old is found by its time, and what was done about it is not found again")
        func find() async throws {
            try await Database.migrated().withNode { node async throws in
                let keeping = Housekeeping(pool: node.pool)
                var due: Set<NotificationID> = []
                var expired: Set<NotificationID> = []
                var old: Set<NotificationID> = []
                for index in 0..<12 {
                    let user = user("u\(index % 4)")
                    try await node.create(user)
                    due.insert(try await node.create(user) { $0.deliverAt = .now() + 3600 })
                    try await node.create(user) { $0.deliverAt = .now() + 7200 }
                    expired.insert(try await node.create(user) { $0.expiresAt = .now() + 3600 })
                    try await node.create(user) { $0.expiresAt = .now() + 7200 }
                    old.insert(try await node.create(user) { $0.createdAt = .now() + -91 * 86_400 })
                    old.insert(try await node.create(user) { $0.createdAt = .now() + -91 * 86_400; $0.inApp = false })
                    // Long planned, not yet due.
                    try await node.create(user) { $0.createdAt = .now() + -91 * 86_400; $0.deliverAt = .now() + 7200 }
                }
                #expect(try await keeping.timely().isEmpty)
                _ = try await node.rows(
                    "UPDATE notifications SET deliver_at = deliver_at - interval '3601 seconds', expires_at = expires_at - interval '3601 seconds'")
                let commands = [try await keeping.timely(), try await keeping.old(days: 90)]
                #expect(commands.map(ids) == [due.union(expired), old])
                #expect(commands[0].count == 24)
                #expect(try await keeping.old(days: 92).isEmpty)
                let before = try await node.number("SELECT count(*) FROM notifications")
                for batch in commands {
                    let outcomes = try await node.writer.write(batch)
                    #expect(outcomes.allSatisfy { $0.status == .changed || $0.status == .unchanged })
                }
                #expect(try await keeping.timely().isEmpty)
                #expect(try await keeping.old(days: 90).isEmpty)
                #expect(try await node.number("SELECT count(*) FROM notifications") == before - 36)
                #expect(try await node.number("SELECT count(*) FROM changes WHERE kind = 6") == 12)
                #expect(try await node.number("SELECT count(*) FROM changes WHERE kind = 3") == 12)
                #expect(try await node.audit() == [])
            }
        }

        @Test("an answer is bounded")
        func bounded() async throws {
            try await Database.migrated().withNode { node async throws in
                _ = try await node.writer.write((0..<600).map { _ in InboxCommand(user: u, action: .create(notification { $0.expiresAt = .now() + -1 })) })
                let keeping = Housekeeping(pool: node.pool)
                #expect(try await keeping.timely().count == Housekeeping.batch)
                _ = try await node.writer.write(try await keeping.timely())
                #expect(try await keeping.timely().count == 100)
            }
        }

        @Test("what is due is found by its index, also when nothing was there at first")
        func plan() async throws {
            try await Database.migrated().withNode { node async throws in
                let keeping = Housekeeping(pool: node.pool)
                let scans = """
                    SELECT (SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'notifications_due') + seq_scan FROM pg_stat_user_tables
                    WHERE relname = 'notifications'
                    """
                // Sessions tell of what they did some seconds later.
                func look() async throws {
                    let before = try await node.number(scans)
                    for _ in 0..<8 { _ = try await keeping.timely() }
                    try await until { try await node.number(scans) >= before + 8 }
                }
                try await look()
                _ = try await node.rows(
                    """
                    INSERT INTO notifications (user_id, id, seq, state_seq, level, priority, type, created_at, body)
                    SELECT 'u', gen_random_uuid(), i, i, 1, 1, 't', now(), '' FROM generate_series(1, 20000) i
                    """)
                try await look()
                #expect(try await node.number("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'notifications'") < 20_000)
            }
        }

        @Test("commits are forgotten after ten minutes")
        func commits() async throws {
            try await Database.migrated().withNode { node async throws in
                for _ in 0..<4 { try await node.create(u) }
                _ = try await node.rows("UPDATE commits SET at = now() - interval '11 minutes' WHERE last_seqs[1] <= 3")
                let keeping = Housekeeping(pool: node.pool)
                #expect(try await keeping.forgetCommits() == 3)
                #expect(try await keeping.forgetCommits() == 0)
                #expect(try await node.number("SELECT count(*) FROM commits") == 1)
            }
        }

        private static let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'changes'::regclass"

        @Test("the log has partitions ahead of time, loses those that are over, and a replay from before is none")
        func log() async throws {
            try await Database.migrated().withNode { node async throws in
                let keeping = Housekeeping(pool: node.pool)
                #expect(try await node.number(Self.partitions) == 5)
                try await keeping.keepLog(days: 14)
                #expect(try await node.number(Self.partitions) == 5)
                #expect(try await node.number("SELECT count(*) FROM pg_class WHERE relname = 'changes_' || to_char(date_trunc('week', now() AT TIME ZONE 'UTC'), 'YYYYMMDD')") == 1)

                // A partition of a month ago with the user's first two changes.
                try await node.create(u)
                try await node.create(u)
                _ = try await node.rows(
                    """
                    DO $$ DECLARE v date := date_trunc('week', now() AT TIME ZONE 'UTC')::date - 35; BEGIN
                        EXECUTE format('CREATE TABLE %I PARTITION OF changes FOR VALUES FROM (%L) TO (%L)', 'changes_' || to_char(v, 'YYYYMMDD'),
                                       v::text || ' 00:00+00', (v + 7)::text || ' 00:00+00');
                        UPDATE changes SET at = (v + 1)::timestamp AT TIME ZONE 'UTC';
                    END $$
                    """)
                try await node.create(u)
                let feed = FeedReader(pool: node.pool)
                #expect(try await feed.answer(u, after: StreamPosition(epoch: 1, seq: 0)).changes?.count == 3)
                try await keeping.keepLog(days: 60)
                #expect(try await node.number(Self.partitions) == 6)
                try await keeping.keepLog(days: 14)
                #expect(try await node.number(Self.partitions) == 5)
                #expect(try await feed.answer(u, after: StreamPosition(epoch: 1, seq: 0)).changes == nil)
                #expect(try await feed.answer(u, after: StreamPosition(epoch: 1, seq: 2)).changes?.count == 1)
            }
        }

        @Test("after weeks without housekeeping the changes that had no partition get theirs, while nodes write")
        func late() async throws {
            try await Database.migrated().withNode { node async throws in
                // As it is when nobody made partitions: all that is new is in the one for the rest.
                _ = try await node.rows(
                    """
                    DO $$ DECLARE v text; BEGIN
                        FOR v IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'changes'::regclass AND inhrelid <> 'changes_other'::regclass LOOP
                            EXECUTE 'DROP TABLE ' || v;
                        END LOOP;
                    END $$
                    """)
                for _ in 0..<5 { try await node.create(u) }
                _ = try await node.rows("UPDATE changes SET at = now() - interval '30 days' WHERE seq <= 2")
                #expect(try await node.number("SELECT count(*) FROM changes_other") == 5)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for task in 0..<4 {
                        group.addTask { for _ in 0..<30 { try await node.create(user("w\(task)")) } }
                    }
                    group.addTask { try await Housekeeping(pool: node.pool).keepLog(days: 14) }
                    group.addTask { try await Housekeeping(pool: node.pool).keepLog(days: 14) }
                    try await group.waitForAll()
                }
                #expect(try await node.number(Self.partitions) == 5)
                #expect(try await node.number("SELECT count(*) FROM changes_other") == 0)
                #expect(try await FeedReader(pool: node.pool).answer(u, after: StreamPosition(epoch: 1, seq: 2)).changes?.count == 3)
                #expect(try await FeedReader(pool: node.pool).answer(user("w0"), after: StreamPosition(epoch: 1, seq: 0)).changes?.count == 30)
            }
        }

        @Test("marks are forgotten with the notifications that they read")
        func marks() async throws {
            try await Database.migrated().withNode { node async throws in
                for _ in 0..<2 {
                    try await node.create(u)
                    try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
                }
                _ = try await node.rows("UPDATE marks SET at = now() - interval '92 days' WHERE seq = 2")
                try await Retention(pool: node.pool).run(days: 90)
                #expect(try await node.number("SELECT count(*) FROM marks") == 1)
            }
        }

        @Test("the cluster's secret is made with it, and the settings that durability depends on are the server's")
        func cluster() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = ClusterStore(pool: node.pool)
                let secret = try await store.secret()
                #expect(secret.count == 48)
                #expect(try await store.secret() == secret)
                let settings = Dictionary(uniqueKeysWithValues: try await store.settings().map { ($0.name, $0.value) })
                #expect(settings["fsync"] == "on" && settings["full_page_writes"] == "on" && settings["synchronous_commit"] == "on")
                #expect(settings["server_version"] != nil)
            }
        }
    }

    @Suite("API keys")
    struct Keys {
        @Test("a key is shown once, found by its hash, listed, and dead once it is revoked")
        func life() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = APIKeyStore(pool: node.pool)
                #expect(try await store.list().isEmpty)
                let first = try await store.create(name: "shop \"north\"", scopes: [.notify, .direct])
                let second = try await store.create(name: "admin", scopes: Set(Scope.allCases))
                #expect(first.key.wholeMatch(of: /ck_[A-Za-z0-9_-]{43}/) != nil && first.key != second.key)

                let found = try #require(try await store.find(hash: APIKeyStore.hash(first.key)))
                #expect(found.id == first.id && found.name == "shop \"north\"" && found.scopes == [.notify, .direct] && found.revokedAt == nil)
                #expect(try await store.find(hash: APIKeyStore.hash(second.key))?.scopes == Set(Scope.allCases))
                #expect(try await store.find(hash: APIKeyStore.hash(first.key + "x")) == nil)
                #expect(try await store.find(hash: []) == nil)
                #expect(try await store.list().map(\.id) == [first.id, second.id])
                // Nothing of it is kept but the hash.
                #expect(try await node.number("SELECT count(*) FROM apikeys WHERE apikeys::text LIKE '%\(first.key)%'") == 0)

                #expect(try await store.revoke(first.id))
                #expect(try await !store.revoke(first.id))
                #expect(try await !store.revoke(.make()))
                #expect(try await store.find(hash: APIKeyStore.hash(first.key))?.revokedAt != nil)
                #expect(try await store.find(hash: APIKeyStore.hash(second.key))?.revokedAt == nil)
            }
        }
    }
}
