import Foundation
import NotificationCore
import PostgresClient
import Synchronization
import TestServers
import Testing

@testable import NotificationStore

private func claim(_ owner: NotificationID, _ limit: Int = 100, lease: Double = 60, _ change: (inout TaskStore.Claim) -> Void = { _ in }) -> TaskStore.Claim {
    var claim = TaskStore.Claim(queue: .email, owner: owner, lease: lease, limit: limit)
    change(&claim)
    return claim
}

extension Node {
    /// Ready tasks of one key.
    fileprivate func fill(_ key: String, _ count: Int) async throws {
        _ = try await self.rows(
            """
            INSERT INTO tasks (id, queue, key, priority, state, run_at, user_id, created_at)
            SELECT gen_random_uuid(), 'email', $1, 1, 0, now() - interval '1 hour' + i * interval '1 millisecond', $1, now() FROM generate_series(1, $2) i
            """, [.text(key), .int4(Int32(count))])
    }

    /// `state count`
    fileprivate func states() async throws -> [String] {
        try await self.rows("SELECT concat_ws(' ', state, count(*)) FROM tasks GROUP BY state ORDER BY state").map { try $0.text(0) }
    }
}

extension Store {
    @Suite("Handing tasks over")
    struct HandOver {
        @Test("a task that is handed over is nobody else's, until its message comes: then it is taken once, whoever has it")
        func once() async throws {
            try await Database.migrated().withNode { node async throws in
                let (store, queue) = (HandOverStore(pool: node.pool), TaskStore(pool: node.pool))
                let (sender, first, second) = (NotificationID.make(), NotificationID.make(), NotificationID.make())
                try await node.fill("a", 10)
                let tasks = try await store.next(claim(sender)).map(\.task)
                #expect(tasks.count == 10)
                #expect(try await store.next(claim(second)).isEmpty)
                #expect(try await queue.claim(claim(second)).isEmpty)
                try await store.note(tasks.map { ($0, true) }, of: .email, owner: sender, window: 300, pause: 2)
                #expect(try await node.states() == ["4 10"])
                #expect(try await queue.depths(of: [.email])[0].handedOver == 10)

                let taken = try await store.take(Array(tasks[0..<6]) + [NotificationID.make()], claim(first))
                #expect(Set(taken.tasks.map(\.id)) == Set(tasks[0..<6]) && taken.busy.isEmpty && taken.tasks.allSatisfy { $0.attempts == 1 && $0.key == "a" })
                let again = try await store.take(Array(tasks[4..<8]), claim(second))
                #expect(Set(again.tasks.map(\.id)) == Set(tasks[6..<8]) && Set(again.busy.keys) == Set(tasks[4..<6]))
                #expect(again.busy.values.allSatisfy { (50...60).contains($0) })
                // What was noted late matters no more.
                try await store.note([(tasks[0], false)], of: .email, owner: sender, window: 300, pause: 2)
                #expect(try await queue.finish([TaskResult(task: tasks[0], outcome: .over(.sent)), TaskResult(task: tasks[1], outcome: .again(after: 60)), TaskResult(task: tasks[2], outcome: .dead)], owner: first) == 3)
                // Gone, waiting for its time, and dead: an old message of them is good for nothing.
                let stale = try await store.take(Array(tasks[0..<3]), claim(second))
                #expect(stale.tasks.isEmpty && stale.busy.isEmpty)
                #expect(try await node.states() == ["1 1", "2 5", "3 1", "4 2"])
            }
        }

        @Test("what was not sent waits for a moment; what was not noted, and what nobody brought, is ready again when its time is over")
        func again() async throws {
            try await Database.migrated().withNode { node async throws in
                let (store, queue) = (HandOverStore(pool: node.pool), TaskStore(pool: node.pool))
                let owner = NotificationID.make()
                try await node.fill("a", 3)
                let tasks = try await store.next(claim(owner)).map(\.task)
                try await store.note([(tasks[0], true), (tasks[1], false)], of: .email, owner: owner, window: 300, pause: 300)
                #expect(try await node.states() == ["1 1", "4 2"])
                _ = try await node.rows("UPDATE tasks SET run_at = now() - interval '1 second'")
                #expect(Set(try await store.next(claim(owner)).map(\.task)) == Set(tasks))
                _ = try await node.rows("UPDATE tasks SET run_at = now() - interval '1 second'")
                // Also for a worker that takes from Postgres.
                #expect(try await queue.claim(claim(owner)).count == 3)
            }
        }

        @Test("what a worker that fell silent had taken is had by who receives its message, once its lease is over and not in doubt any more")
        func silent() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = HandOverStore(pool: node.pool)
                try await node.fill("a", 1)
                let task = try await store.next(claim(.make())).map(\.task)
                #expect(try await store.take(task, claim(.make(), lease: 0.001)).tasks.count == 1)
                var taken = HandOverStore.Taken()
                repeat {
                    _ = try await store.next(claim(.make(), lease: 0.001))
                    taken = try await store.take(task, claim(.make()))
                } while taken.tasks.isEmpty && !Task.isCancelled
                // The attempt of which nobody heard does not count.
                #expect(taken.tasks.map(\.attempts) == [1])
            }
        }

        @Test("only so many are there at once, of all and of a key; keys take turns")
        func bounded() async throws {
            try await Database.migrated().withNode { node async throws in
                let store = HandOverStore(pool: node.pool)
                try await node.fill("flood", 3000)
                try await node.fill("z", 5)
                var keys = try await store.next(claim(.make(), 10) { $0.perKey = 4 }).map(\.key)
                #expect(keys.count { $0 == "flood" } == 4 && keys.count { $0 == "z" } == 4)
                keys = try await store.next(claim(.make(), 10) { $0.perKey = 4 }).map(\.key)
                #expect(keys.isEmpty)
                // Two of each key count: with both of these a bound of four is reached, and not one of five, however much there is of one of them.
                #expect(try await store.next(claim(.make(), 900), bound: 4).isEmpty)
                try await node.fill("urgent", 1)
                #expect(try await store.next(claim(.make(), 900) { $0.perKey = 4 }, bound: 5).map(\.key) == ["urgent"])
                #expect(try await node.states() == ["0 2997", "4 9"])
            }
        }

        @Test("of a key that has enough under way no more is taken, and all that is gathered for a user is taken with one of it")
        func keys() async throws {
            try await Database.migrated().withNode { node async throws in
                let (store, queue) = (HandOverStore(pool: node.pool), TaskStore(pool: node.pool))
                let owner = NotificationID.make()
                for key in ["a", "b"] { try await node.fill(key, 4) }
                let all = try await store.next(claim(owner))
                let busy = try await store.take(all.map(\.task), claim(owner) { $0.perKey = 3; $0.busy = ["a"] })
                #expect(busy.tasks.map(\.key) == ["b", "b", "b"] && busy.busy.count == 5)
                #expect(Set(busy.busy.values) == [2])
                try await queue.finish(busy.tasks.map { TaskResult(task: $0.id, outcome: .over(.sent)) }, owner: owner)
                let whole = try await store.take([all.first { $0.key == "a" }!.task], claim(owner) { $0.whole = true })
                #expect(whole.tasks.map(\.key) == ["a", "a", "a", "a"])
                // While some of it is under way, none.
                try await node.fill("a", 1)
                let later = try await store.next(claim(owner)).map(\.task)
                #expect(try await store.take(later, claim(owner) { $0.whole = true }).tasks.isEmpty)
            }
        }

        @Test("what is noted of a digest meanwhile tears none in two: who takes it waits, and has all of it")
        func torn() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let store = HandOverStore(pool: node.pool)
                try await node.fill("u", 2)
                _ = try await node.rows("UPDATE tasks SET queue = 'digest'")
                let sender = NotificationID.make()
                let tasks = try await store.next(claim(sender) { $0.queue = .digest }).map(\.task)
                #expect(tasks.count == 2)
                try await database.withConnection { other in
                    func execute(_ sql: String) async throws { _ = try await other.execute(PostgresStatement(sql, prepared: false)) }
                    try await execute("BEGIN")
                    try await execute("SELECT note_hand_over('digest', '\(sender)', ARRAY['\(tasks[0])'::uuid], ARRAY[true], '300 s', '2 s')")
                    let isTaken = Atomic(false)
                    async let taken = Task {
                        defer { isTaken.store(true, ordering: .relaxed) }
                        return try await store.take(tasks, claim(.make()) { $0.queue = .digest; $0.whole = true }).tasks
                    }.value
                    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                    while try await node.number(waiting) == 0, !isTaken.load(ordering: .relaxed) { await Task.yield() }
                    try await execute("COMMIT")
                    #expect(Set(try await taken.map(\.id)) == Set(tasks))
                }
            }
        }

        @Test("many who send and receive at once, with every message twice, carry each task out once")
        func races() async throws {
            try await Database.migrated().withNode(connections: 8) { node async throws in
                let (store, queue) = (HandOverStore(pool: node.pool), TaskStore(pool: node.pool))
                for key in 0..<5 { try await node.fill("k\(key)", 100) }
                let done = try await withThrowingTaskGroup(of: [NotificationID].self) { group in
                    for _ in 0..<6 {
                        group.addTask {
                            let owner = NotificationID.make()
                            var done: [NotificationID] = []
                            while try await node.number("SELECT count(*) FROM tasks") > 0 {
                                let tasks = try await store.next(claim(owner, 30)).map(\.task)
                                try await store.note(tasks.map { ($0, true) }, of: .email, owner: owner, window: 300, pause: 1)
                                async let other = store.take(tasks, claim(owner))
                                let taken = try await store.take(tasks.reversed(), claim(owner)).tasks + other.tasks
                                done += taken.map(\.id)
                                try await queue.finish(taken.map { TaskResult(task: $0.id, outcome: .over(.sent)) }, owner: owner)
                                // Passed over by both, since each held a part for a moment: such messages come again.
                                let rest = try await store.take(tasks, claim(owner)).tasks
                                done += rest.map(\.id)
                                try await queue.finish(rest.map { TaskResult(task: $0.id, outcome: .over(.sent)) }, owner: owner)
                            }
                            return done
                        }
                    }
                    return try await group.reduce(into: []) { $0 += $1 }
                }
                #expect(done.count == 500 && Set(done).count == 500)
            }
        }
    }
}
