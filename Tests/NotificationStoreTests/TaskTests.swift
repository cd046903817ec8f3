import Foundation
import NotificationCore
import PostgresClient
import TestServers
import Testing

@testable import NotificationStore

private let queue = TaskQueue.email

private func claim(_ owner: NotificationID, _ limit: Int, _ change: (inout TaskStore.Claim) -> Void = { _ in }) -> TaskStore.Claim {
    var claim = TaskStore.Claim(queue: queue, owner: owner, lease: 60, limit: limit)
    change(&claim)
    return claim
}

extension Node {
    /// Ready tasks of one key. `created_at` tells them apart: their order.
    fileprivate func fill(_ key: String, _ count: Int, priority: Priority = .medium) async throws {
        _ = try await self.rows(
            """
            INSERT INTO tasks (id, queue, key, priority, state, run_at, created_at)
            SELECT gen_random_uuid(), 'email', $1, $2, 0, now() - interval '1 hour' + i * interval '1 millisecond', now() FROM generate_series(1, $3) i
            """, [.text(key), .int2(priority.rawValue), .int4(Int32(count))])
    }
}

extension Store {
    @Suite("The queue")
    struct Tasks {
        @Test("many who claim at once get each task once, and none is left")
        func races() async throws {
            let database = try await Database.migrated()
            try await database.withNode(connections: 8) { node async throws in
                let store = TaskStore(pool: node.pool)
                for key in 0..<7 { try await node.fill("k\(key)", 300) }
                let all = try await withThrowingTaskGroup(of: [NotificationID].self) { group in
                    for claimer in 0..<8 {
                        group.addTask {
                            let owner = NotificationID.make()
                            var mine: [NotificationID] = []
                            while true {
                                let tasks = try await store.claim(claim(owner, 20 + claimer))
                                mine += tasks.map(\.id)
                                #expect(try await store.finish(tasks.map { TaskResult(task: $0.id, outcome: .over(.sent)) }, owner: owner) == tasks.count)
                                let left = try await node.number("SELECT count(*) FROM tasks")
                                if left == 0 { return mine }
                            }
                        }
                    }
                    return try await group.reduce(into: []) { $0 += $1 }
                }
                #expect(all.count == 2100 && Set(all).count == 2100)
            }
        }

        @Test("however much waits for one, the others have their turn, whatever its priority")
        func fair() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                try await node.fill("flood", 20_000, priority: .urgent)
                try await node.fill("b", 1, priority: .low)
                try await node.fill("z", 1, priority: .low)
                try await node.fill("", 1)
                let owner = NotificationID.make()
                let first = try await store.claim(claim(owner, 20))
                #expect(Set(first.map(\.key)) == ["", "b", "flood", "z"] && first.count == 8)
                // With nobody else left it has all of it.
                #expect(try await store.claim(claim(owner, 200)).count == 200)
            }
        }

        @Test("with more keys than a claim takes, they have their turns one after the other, and round again")
        func turns() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                let keys = (10..<60).map { "k\($0)" }
                for key in keys { try await node.fill(key, 4) }
                var after = ""
                var served: [String] = []
                for _ in 0..<10 {
                    let tasks = try await store.claim(claim(NotificationID.make(), 10) { $0.after = after })
                    served += tasks.map(\.key).sorted()
                    after = tasks.map(\.key).max() ?? ""
                }
                #expect(served == keys + keys)
                // From the middle it goes round.
                let round = try await store.claim(claim(NotificationID.make(), 20) { $0.after = "k49" }).map(\.key)
                #expect(Set(round) == Set(keys.suffix(10) + keys.prefix(10)) && round.count == 20)
            }
        }

        @Test("of one key the more urgent go first, then the older; no more of it than is wanted, and nothing of a busy one")
        func order() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                for priority in Priority.allCases { try await node.fill("k", 3, priority: priority) }
                try await node.fill("other", 3)
                let owner = NotificationID.make()
                let urgent = try await store.claim(claim(owner, 10) { $0.perKey = 4; $0.busy = ["other"] })
                #expect(urgent.map(\.priority).sorted { $0.rawValue > $1.rawValue } == [.urgent, .urgent, .urgent, .high])
                #expect(try await store.claim(claim(owner, 10) { $0.busy = ["other", "k"] }).isEmpty)
                #expect(try await store.claim(claim(owner, 10) { $0.busy = ["k"] }).map(\.key) == ["other", "other", "other"])
                #expect(try await store.claim(TaskStore.Claim(queue: .sms, owner: owner, lease: 60, limit: 10)).isEmpty)
                let rest = try await store.claim(claim(owner, 100))
                #expect(rest.count == 8 && rest.allSatisfy { $0.attempts == 1 })
            }
        }

        @Test("a claim of whole keys gets all that is ready of a user, or nothing of it, however many claim at once")
        func whole() async throws {
            try await Database.migrated().withNode(connections: 8) { node async throws in
                let store = TaskStore(pool: node.pool)
                _ = try await node.rows(
                    """
                    INSERT INTO tasks (id, queue, key, priority, state, run_at, created_at, user_id)
                    SELECT gen_random_uuid(), 'digest', 'u' || i % 40, 1, i % 2, now() - interval '1 second', now(), 'u' || i % 40 FROM generate_series(0, 1999) i
                    """)
                let shares = try await withThrowingTaskGroup(of: [String: Int].self) { group in
                    for _ in 0..<8 {
                        group.addTask {
                            var mine: [String: Int] = [:]
                            while try await node.number("SELECT count(*) FROM tasks WHERE state < 2") > 0 {
                                var claim = TaskStore.Claim(queue: .digest, owner: .make(), lease: 60, limit: 3)
                                claim.whole = true
                                for task in try await store.claim(claim) { mine[task.key, default: 0] += 1 }
                            }
                            return mine
                        }
                    }
                    return try await group.reduce(into: [[String: Int]]()) { $0.append($1) }
                }
                #expect(shares.flatMap(\.values).allSatisfy { $0 == 50 })
                #expect(shares.flatMap(\.keys).count == 40)
            }
        }

        @Test("a lease that ended gives the task to another, who alone can put it off; that it is over counts from whoever did it")
        func leases() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                try await node.fill("k", 3)
                let (first, second) = (NotificationID.make(), NotificationID.make())
                let mine = try await store.claim(claim(first, 10))
                #expect(mine.count == 3)
                #expect(try await store.claim(claim(second, 10)).isEmpty)
                // It ends; the one that is renewed does not. What nobody has heard of is no attempt.
                _ = try await node.rows("UPDATE tasks SET run_at = now() - interval '1 second'")
                try await store.renew([mine[0].id], owner: first, lease: 60)
                try await store.renew([mine[1].id], owner: second, lease: 60)
                #expect(try await store.claim(claim(second, 10)).isEmpty)
                _ = try await node.rows("UPDATE tasks SET run_at = now() - interval '1 second' WHERE in_doubt")
                let taken = try await store.claim(claim(second, 10))
                #expect(Set(taken.map(\.id)) == Set(mine.dropFirst().map(\.id)) && taken.allSatisfy { $0.attempts == 1 })
                #expect(try await store.finish([TaskResult(task: mine[1].id, outcome: .again(after: 0), reason: "late")], owner: first) == 0)
                #expect(try await store.finish([TaskResult(task: mine[2].id, outcome: .over(.sent))], owner: first) == 1)
                #expect(try await store.finish([TaskResult(task: mine[2].id, outcome: .over(.sent))], owner: second) == 0)
                #expect(try await store.finish([TaskResult(task: mine[1].id, outcome: .back(after: 0))], owner: second) == 1)
                let third = try await store.claim(claim(second, 10))
                #expect(third.map(\.id) == [mine[1].id] && third[0].attempts == 1)
                #expect(try await node.number("SELECT count(*) FROM tasks") == 2)
            }
        }

        @Test("claims one after the other leave the note of when a queue was worked off alone")
        func noted() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                for _ in 0..<2 { #expect(try await store.claim(claim(.make(), 1)).isEmpty) }
                // Neither changed nor locked since it was written.
                #expect(try await node.number("SELECT xmax::text::int8 FROM task_queues WHERE queue = 'email'") == 0)
            }
        }

        @Test("what a provider says may be long, and hold U+0000: it is noted as far as there is room")
        func longResults() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                _ = try await node.rows(
                    """
                    WITH task AS (
                        INSERT INTO tasks (id, queue, key, priority, state, run_at, created_at, user_id, notification_id, endpoint)
                        SELECT gen_random_uuid(), 'email', '', 1, 0, now(), now(), 'u', gen_random_uuid(), 'there' RETURNING *)
                    INSERT INTO deliveries (user_id, notification_id, channel, endpoint, state, type, created_at, at)
                    SELECT user_id, notification_id, queue, endpoint, 'queued', 'SYSTEM', now(), now() FROM task
                    """)
                let owner = NotificationID.make()
                let tasks = try await store.claim(claim(owner, 1))
                let long = "\u{0}" + String(repeating: "ü", count: 100_000)
                #expect(try await store.finish([TaskResult(task: tasks[0].id, outcome: .over(.sent), reason: long, reference: long)], owner: owner) == 1)
                #expect(try await node.number("SELECT length(reason) FROM deliveries") == 1000)
                #expect(try await node.number("SELECT length(reference) FROM deliveries") == 200)
            }
        }

        @Test("leases that are over all at once, by a clock put forward or a server that was away, are in doubt first: who lives keeps its own")
        func doubt() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                try await node.fill("k", 2)
                let (owner, other) = (NotificationID.make(), NotificationID.make())
                let mine = try await store.claim(claim(owner, 2))
                _ = try await node.rows("UPDATE tasks SET run_at = now() - interval '1 day'")
                #expect(try await store.claim(claim(other, 2)).isEmpty)
                #expect(try await node.number("SELECT count(*) FROM tasks WHERE in_doubt AND run_at BETWEEN now() + interval '20 s' AND now() + interval '31 s'") == 2)
                try await store.renew([mine[0].id], owner: owner, lease: 60)
                // Half a lease later.
                _ = try await node.rows("UPDATE tasks SET run_at = run_at - interval '31 s'")
                #expect(try await store.claim(claim(other, 2)).map(\.id) == [mine[1].id])
                #expect(try await node.number("SELECT count(*) FROM tasks WHERE in_doubt") == 0)
            }
        }

        @Test("what each worker falls silent over is dead in the end, and uses up no attempt before that; an attempt that is heard of begins that count anew")
        func losses() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                try await node.fill("k", 1)
                func lose() async throws {
                    for _ in 0..<2 {
                        _ = try await node.rows("UPDATE tasks SET run_at = now() - interval '1 second' WHERE state = 2")
                        #expect(try await store.claim(claim(.make(), 1) { $0.busy = ["k"] }).isEmpty)
                    }
                }
                let owner = NotificationID.make()
                for _ in 0..<9 {
                    #expect(try await store.claim(claim(owner, 1)).map(\.attempts) == [1])
                    try await lose()
                }
                let heard = try await store.claim(claim(owner, 1))
                try await store.finish([TaskResult(task: heard[0].id, outcome: .again(after: 0), reason: "busy")], owner: owner)
                for _ in 0..<10 {
                    #expect(try await store.claim(claim(owner, 1)).map(\.attempts) == [2])
                    try await lose()
                }
                #expect(try await store.claim(claim(owner, 1)).isEmpty)
                #expect(try await store.deadLetters(.init()).map(\.error) == ["busy"])
            }
        }

        @Test("what was given up and is heard to have been sent after all was sent; that it failed, or is to be tried again, changes nothing")
        func sentAfterAll() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                _ = try await node.rows(
                    """
                    WITH task AS (
                        INSERT INTO tasks (id, queue, key, priority, state, run_at, created_at, user_id, notification_id, endpoint, losses)
                        SELECT gen_random_uuid(), 'email', '', 1, 0, now(), now(), 'u', gen_random_uuid(), 'there', 9 RETURNING *)
                    INSERT INTO deliveries (user_id, notification_id, channel, endpoint, state, type, created_at, at)
                    SELECT user_id, notification_id, queue, endpoint, 'queued', 'SYSTEM', now(), now() FROM task
                    """)
                let owner = NotificationID.make()
                let task = try #require(try await store.claim(claim(owner, 1)).first?.id)
                for _ in 0..<2 {
                    _ = try await node.rows("UPDATE tasks SET run_at = now() - interval '1 second'")
                    #expect(try await store.claim(claim(.make(), 1)).isEmpty)
                }
                func state() async throws -> String { try await node.rows("SELECT concat_ws(' ', state, reason, reference) FROM deliveries")[0].text(0) }
                #expect(try await state() == "dead whoever attempted it fell silent each time")
                for outcome in [TaskResult.Outcome.over(.failed), .over(.suppressed), .again(after: 0), .dead, .back(after: 0)] {
                    #expect(try await store.finish([TaskResult(task: task, outcome: outcome)], owner: owner) == 0)
                }
                #expect(try await store.deadLetters(.init()).map(\.task.id) == [task])
                #expect(try await store.finish([TaskResult(task: task, outcome: .over(.sent), reference: "late")], owner: owner) == 1)
                #expect(try await state() == "sent late")
                #expect(try await store.deadLetters(.init()).isEmpty)
            }
        }

        @Test("what is for a channel that no worker has any more ends; what is for one that is worked off, or is not old, stays")
        func unworked() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                for (queue, age) in [("sms", "2 days"), ("sms", "1 hour"), ("telegram", "2 days"), ("email", "2 days"), ("digest", "2 days")] {
                    _ = try await node.rows(
                        """
                        WITH task AS (
                            INSERT INTO tasks (id, queue, key, priority, state, run_at, created_at, user_id, notification_id, endpoint)
                            SELECT gen_random_uuid(), $1, '', 1, 0, now() - $2::interval, now(), 'u', gen_random_uuid(), 'there' RETURNING *)
                        INSERT INTO deliveries (user_id, notification_id, channel, endpoint, state, type, created_at, at)
                        SELECT user_id, notification_id, task_channel(queue), endpoint, 'queued', 'SYSTEM', now(), now() FROM task
                        """, [.text(queue), .text(age)])
                }
                // Somebody works off these.
                _ = try await store.claim(claim(.make(), 1) { $0.busy = [""] })
                #expect(try await store.endUnworked(after: 86_400, except: [.digest]) == 2)
                #expect(try await store.endUnworked(after: 86_400, except: [.digest]) == 0)
                #expect(try await node.number("SELECT count(*) FROM tasks WHERE queue IN ('sms', 'email', 'digest')") == 3)
                #expect(try await node.number("SELECT count(*) FROM deliveries WHERE state = 'suppressed' AND reason = 'not_configured' AND channel IN ('sms', 'telegram')") == 2)
            }
        }

        @Test("a notification's deliveries are queued with it, and follow their tasks to the end")
        func deliveries() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                let u = user("u")
                let later = Timestamp.now() + 3600
                let id = try await node.create(u) {
                    $0.customer = "c"
                    $0.priority = .high
                    $0.deliveries = [
                        NewDelivery(channel: .email, endpoint: "a@b.c", state: .queued, payload: "{\"a\":1}"),
                        NewDelivery(channel: .sms, endpoint: "+1234", state: .queued, notBefore: later),
                        NewDelivery(channel: .telegram, state: .suppressed, reason: .noContact),
                    ]
                }
                try await node.create(user("v"))
                #expect(try await node.number("SELECT count(*) FROM tasks") == 2)
                let owner = NotificationID.make()
                #expect(try await store.claim(TaskStore.Claim(queue: .sms, owner: owner, lease: 60, limit: 10)).isEmpty)
                var tasks = try await store.claim(claim(owner, 10))
                let task = try #require(tasks.first)
                #expect(task.user == u && task.notification == id && task.endpoint == "a@b.c" && task.payload == "{\"a\":1}" && task.key == "c" && task.priority == .high)
                func states() async throws -> [String] {
                    try await node.rows("SELECT concat_ws(' ', channel, state, attempts, reason, reference) FROM deliveries ORDER BY channel").map { try $0.text(0) }
                }
                #expect(try await states() == ["email sending 1", "sms queued 0", "telegram suppressed 0 no_contact"])
                try await store.finish([TaskResult(task: task.id, outcome: .again(after: 0.001), reason: "greylisted")], owner: owner)
                #expect(try await states()[0] == "email queued 1 greylisted")
                // It is ready when its time has come.
                repeat { tasks = try await store.claim(claim(owner, 10)) } while tasks.isEmpty && !Task.isCancelled
                #expect(tasks.map(\.id) == [task.id])
                try await store.finish([TaskResult(task: task.id, outcome: .dead, reason: "no\u{0} answer")], owner: owner)
                #expect(try await states()[0] == "email dead 2 no answer")

                let letters = try await store.deadLetters(.init())
                #expect(letters.map(\.task.id) == [task.id] && letters[0].error == "no answer" && letters[0].task.attempts == 2)
                #expect(try await store.depths() == [
                    .init(queue: .email, ready: 0, waiting: 0, running: 0, dead: 1), .init(queue: .sms, ready: 0, waiting: 1, running: 0, dead: 0),
                    .init(queue: .telegram, ready: 0, waiting: 0, running: 0, dead: 0), .init(queue: .webhook, ready: 0, waiting: 0, running: 0, dead: 0),
                    .init(queue: .digest, ready: 0, waiting: 0, running: 0, dead: 0),
                ])
                #expect(try await store.retry(task.id).queue == .email)
                #expect(try await store.retry(task.id).queue == nil)
                #expect(try await store.drop(task.id) == false)
                #expect(try await states()[0] == "email queued 2 no answer")
                tasks = try await store.claim(claim(owner, 10))
                try await store.finish([TaskResult(task: task.id, outcome: .over(.sent), reference: "id-7")], owner: owner)
                #expect(try await states() == ["email sent 1 id-7", "sms queued 0", "telegram suppressed 0 no_contact"])
                #expect(try await node.number("SELECT count(*) FROM tasks") == 1)
            }
        }

        @Test("what is not written with its request leaves no task: a key that was used, a guess that was wrong")
        func leftOut() async throws {
            try await Database.migrated().withNode { node async throws in
                let mail = NewDelivery(channel: .email, endpoint: "a@b.c", state: .queued)
                let claim = IdempotencyClaim(owner: .make(), route: "notify", key: "k", digest: [1], answer: "{}")
                for _ in 0..<3 {
                    _ = try await node.writer.write([InboxCommand(user: user("u"), action: .create(notification { $0.deliveries = [mail] }))], claim: claim)
                }
                #expect(try await node.number("SELECT count(*) FROM tasks") == 1)
                _ = try await node.rows("UPDATE heads SET is_known = true")
                let guess = try await node.write(user("u"), .create(notification { $0.deliveries = [mail]; $0.isGuess = true }))
                #expect(guess.status == .known)
                #expect(try await node.number("SELECT count(*) FROM tasks") == 1)
            }
        }

        @Test("dead letters come in pages, the last ones first, and go one by one")
        func deadLetters() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = TaskStore(pool: node.pool)
                _ = try await node.rows(
                    """
                    INSERT INTO tasks (id, queue, key, priority, state, run_at, created_at, last_error)
                    SELECT gen_random_uuid(), CASE i % 2 WHEN 0 THEN 'email' ELSE 'sms' END, '', 1, 3, now() - (i / 3) * interval '1 minute', now(), 'e' || i
                    FROM generate_series(0, 24) i
                    """)
                var seen: [DeadLetter] = []
                var query = TaskStore.DeadLetterQuery()
                query.limit = 4
                repeat {
                    let page = try await store.deadLetters(query)
                    seen += page
                    query.after = page.last.map { .init(at: $0.at, id: $0.task.id) }
                } while query.after != nil
                #expect(seen.count == 25 && Set(seen.map(\.task.id)).count == 25)
                #expect(zip(seen, seen.dropFirst()).allSatisfy { $0.at >= $1.at })
                query = .init()
                query.queues = [.sms]
                #expect(try await store.deadLetters(query).count == 12)
                #expect(try await store.drop(seen[3].task.id))
                #expect(try await store.drop(seen[3].task.id) == false)
                #expect(try await store.deadLetters(.init()).count == 24)
            }
        }

        @Test("an erased user's tasks go, and old dead letters go by retention; what is alive stays")
        func erased() async throws {
            try await Database.migrated().withNode { node async throws in
                let mail = NewDelivery(channel: .email, endpoint: "a@b.c", state: .queued)
                for name in ["u", "v"] { try await node.create(user(name)) { $0.deliveries = [mail] } }
                _ = try await UserErasure(pool: node.pool, writer: node.writer).erase(user("u"))
                #expect(try await node.rows("SELECT user_id FROM tasks").map { try $0.text(0) } == ["v"])
                try await node.fill("k", 2)
                _ = try await node.rows("UPDATE tasks SET state = 3, run_at = now() - interval '100 days' WHERE key = 'k'")
                _ = try await node.rows("UPDATE tasks SET created_at = now() - interval '100 days'")
                try await Retention(pool: node.pool).run(days: 90)
                #expect(try await node.rows("SELECT user_id FROM tasks").map { try $0.text(0) } == ["v"])
            }
        }

        @Test("a claim costs the same with 1,000,000 waiting as with 2,000, and no statement reads the table as a whole")
        func flat() async throws {
            let settings = [
                "session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0", "auto_explain.log_nested_statements": "on",
                "max_wal_size": "4GB", "autovacuum": "off",
            ]
            let database = try await Database.alone(settings: settings)
            try await database.withNode(connections: 1) { node async throws in
                let store = TaskStore(pool: node.pool)
                func fill(_ count: Int) throws {
                    // Of each hundred 90 are one customer's, the others of a thousand customers'; a fifth waits for its time.
                    // With the indexes made after the rows it takes a third of the time.
                    try database.server.psql(
                        """
                        DROP INDEX tasks_ready; DROP INDEX tasks_time; DROP INDEX tasks_user;
                        INSERT INTO tasks (id, queue, key, priority, state, run_at, created_at, user_id)
                        SELECT gen_random_uuid(), 'email', CASE WHEN i % 10 > 0 THEN 'flood' ELSE 'c' || i % 1000 END, i % 4, CASE i % 5 WHEN 4 THEN 1 ELSE 0 END,
                               CASE i % 5 WHEN 4 THEN now() + interval '1 day' ELSE now() END, now(), 'u' || i FROM generate_series(1, \(count)) i;
                        CREATE INDEX tasks_ready ON tasks (queue, key, priority DESC, run_at) WHERE state = 0;
                        CREATE INDEX tasks_time ON tasks (queue, state, run_at, id);
                        CREATE INDEX tasks_user ON tasks (user_id, id) WHERE user_id IS NOT NULL
                        """, database: database.name)
                }
                let owner = NotificationID.make()
                func pages() async throws -> Int64 {
                    _ = try await node.rows("SELECT pg_stat_force_next_flush()")
                    return try await node.number("SELECT sum(idx_blks_hit + idx_blks_read + heap_blks_hit + heap_blks_read) FROM pg_statio_user_tables WHERE relname = 'tasks'")
                }
                func cost() async throws -> Int64 {
                    let before = try await pages()
                    for _ in 0..<8 {
                        let tasks = try await store.claim(claim(owner, 100) { $0.lease = 86_400 })
                        #expect(tasks.count >= 100)
                        try await store.renew(tasks.map(\.id), owner: owner, lease: 86_400)
                        try await store.finish(tasks.map { TaskResult(task: $0.id, outcome: .over(.sent)) }, owner: owner)
                    }
                    return try await pages() - before
                }
                try fill(2000)
                let small = try await cost()
                try fill(1_000_000)
                let marker = database.server.logText.count
                let large = try await cost()
                #expect(large < small * 3, "\(large) pages with 1,000,000, \(small) with 2,000")
                _ = try await store.depths()
                _ = try await store.deadLetters(.init())
                _ = try await node.rows("SELECT 'the end'")
                await until { database.server.logText.suffix(5000).contains("SELECT 'the end'") }
                let log = String(database.server.logText.dropFirst(marker))
                #expect(log.contains("tasks_ready") && log.contains("tasks_time"))
                for entry in log.components(separatedBy: "Query Text: ").dropFirst() where !entry.contains("pg_statio") {
                    #expect(!entry.contains("Seq Scan on tasks"), "\(entry.prefix(2000))")
                }
            }
        }
    }
}
