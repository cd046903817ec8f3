import NotificationCore
import PostgresClient
import TestServers
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Jobs")
    struct Jobs {
        private static let catalogue = try! Catalogue([Catalogue.Kind(name: "SYSTEM")])
        private static let body = "{\"title\":\"Hello\",\"collapse_key\":\"k\"}"

        private func runner(_ node: Node) -> JobRunner {
            JobRunner(
                store: JobStore(pool: node.pool), idempotency: IdempotencyStore(pool: node.pool), writer: node.writer, planner: NotifyPlanner(),
                catalogue: { Self.catalogue }, logger: silent)
        }

        private func users(_ count: Int) -> [UserID] { (0..<count).map { user("user \($0) {}/%:🧭Ä") } }

        private func job(_ body: String = Self.body, told: Bool = false) -> Job { Job(body: body, isTold: told, createdAt: .now()) }

        @Test("nodes that take a job from one another all the time write everybody once, and count right")
        func takenOver() async throws {
            let database = try await Database.migrated()
            try await database.withNode { first async throws in
                try await database.withNode { second async throws in
                    let job = self.job(told: true)
                    let users = self.users(2350)
                    let runners = [self.runner(first), self.runner(second), self.runner(second)]
                    #expect(try await runners[0].store.add(job, users: users + users.prefix(70), owner: runners[0].owner) == 2350)
                    let statuses = try await withThrowingTaskGroup(of: JobStatus?.self) { group in
                        for runner in runners { group.addTask { try await runner.finish(job) } }
                        group.addTask {
                            // Nobody's lease holds.
                            while try await runners[0].store.status(job.id)?.state == .running {
                                _ = try await first.rows("UPDATE jobs SET lease_until = now() - interval '1 second'")
                            }
                            return nil
                        }
                        return try await group.reduce(into: [JobStatus?]()) { $0.append($1) }.compactMap { $0 }
                    }
                    #expect(statuses == [JobStatus](repeating: JobStatus(state: .done, total: 2350, done: 2350, skipped: 0, failed: 0), count: 3))
                    #expect(try await first.number("SELECT count(*) FROM changes") == 2350)
                    #expect(try await first.number("SELECT count(*) FROM heads WHERE seq = 1 AND unread = 1") == 2350)
                    let answer = try await runners[1].store.answer(job.id).ordered(by: users)
                    #expect(answer.entries.map(\.user) == users)
                    #expect(answer.entries.allSatisfy { $0.seq == 1 })
                    #expect(try await first.number("SELECT count(*) FROM notifications") == Int64(Set(answer.entries.map(\.id)).count))
                }
            }
        }

        @Test("jobs of a higher priority are taken up before others, small ones and large ones, and before those that came up to hours earlier")
        func priorities() async throws {
            try await Database.migrated().withNode { node async throws in
                let (store, owner, now) = (JobStore(pool: node.pool), NotificationID.make(), Timestamp.now())
                func add(_ priority: Priority, secondsAgo: Int64, users: Int) async throws -> NotificationID {
                    let job = Job(body: Self.body, isTold: false, createdAt: now + -secondsAgo, priority: priority)
                    _ = try await store.add(job, users: self.users(users))
                    return job.id
                }
                for (users, isLarge) in [(1, false), (101, true)] {
                    var jobs: [NotificationID] = []
                    for (priority, age) in [(Priority.low, 60), (.medium, 50), (.medium, 40), (.high, 30), (.urgent, 20), (.low, 86_400)] as [(Priority, Int64)] {
                        jobs.append(try await add(priority, secondsAgo: age, users: users))
                    }
                    var taken: [NotificationID] = []
                    for _ in jobs {
                        taken += try await store.take(1, ofUsers: isLarge ? JobRunner.large : JobRunner.small, byTurns: isLarge, owner: owner).map(\.job.id)
                    }
                    // The last one has waited for longer than priorities weigh.
                    #expect(taken == [5, 4, 3, 1, 2, 0].map { jobs[$0] })
                }
            }
        }

        @Test("a chunk whose place was not noted is known by its claim, whatever the size of the chunks")
        func dies() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let job = self.job()
                let runner = self.runner(node)
                _ = try await runner.store.add(job, users: self.users(330))
                // What dies after a chunk's commit leaves this behind.
                let held = try #require(try await runner.store.take(job.id, owner: runner.owner))
                #expect(held.position == "")
                let sorted = self.users(330).sorted()
                let plan = try await withCheckedContinuation { continuation in
                    let request = try! NotifyRequest(json: JSONParser.parse(Array(Self.body.utf8)), kind: .apart, catalogue: Self.catalogue, now: .now())
                    NotifyPlanner().plan(request, users: Array(sorted[..<77]), now: .now()) { continuation.resume(returning: $0) }
                }.get()
                let claim = IdempotencyClaim(
                    owner: job.id, route: "job", key: "", digest: [], answer: JobChunk(last: sorted[76], plan: plan, isTold: false).encode())
                _ = try await node.writer.write(plan.commands, claim: claim)
                // Users of that chunk who are erased before anybody goes on, the first one among them, change nothing for the others.
                _ = try await node.rows("UPDATE jobs SET lease_until = now() - interval '2 minutes'")
                let erasure = UserErasure(pool: node.pool, writer: node.writer)
                for user in [sorted[0], sorted[40]] { _ = try await erasure.erase(user) }
                #expect(try await runner.finish(job) == JobStatus(state: .done, total: 330, done: 330, skipped: 0, failed: 0))
                #expect(try await node.number("SELECT count(*) FROM changes WHERE kind = 1") == 328)
                #expect(try await node.number("SELECT count(*) FROM notifications") == 328)
                // Those who were erased have a log without its beginning.
                #expect(Set(try await node.audit()) == [sorted[0].value, sorted[40].value])
            }
        }

        @Test("only whom the database refuses is left out")
        func refused() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let users = self.users(250)
                for user in [users[7], users[8], users[249]] {
                    _ = try await node.rows("INSERT INTO heads (user_id, epoch, unread) VALUES ($1, 1, 2147483647)", [.text(user.value)])
                }
                let runner = self.runner(node)
                let job = self.job()
                _ = try await runner.store.add(job, users: users)
                try await runner.carryOutLarge(atMost: 4)
                #expect(try await runner.store.status(job.id) == JobStatus(state: .done, total: 250, done: 247, skipped: 0, failed: 3))
                #expect(try await node.number("SELECT count(*) FROM changes") == 247)
            }
        }

        @Test("a job that did not get to everybody is taken up again for the same request, and writes to those whom it has not written to")
        func reopened() async throws {
            try await Database.migrated().withNode { node async throws in
                let users = self.users(230).sorted()
                let refused = [users[0], users[17], users[18], users[229]]
                for user in refused { _ = try await node.rows("INSERT INTO heads (user_id, epoch, unread) VALUES ($1, 1, 2147483647)", [.text(user.value)]) }
                let runner = self.runner(node)
                let job = self.job(told: true)
                _ = try await runner.store.add(job, users: users)
                #expect(try await runner.store.reopen(job.id, users: users) == false)
                try await runner.carryOutLarge(atMost: 4)
                #expect(try await runner.store.status(job.id) == JobStatus(state: .done, total: 230, done: 226, skipped: 0, failed: 4))
                // Its users have gone meanwhile; one of those who were refused can be written to by now.
                _ = try await node.rows("UPDATE jobs SET ended_at = now() - interval '2 minutes'")
                try await runner.store.forget(days: 7)
                func mend(_ user: UserID) async throws { _ = try await node.rows("DELETE FROM heads WHERE user_id = $1", [.text(user.value)]) }
                try await mend(users[17])
                #expect(try await runner.store.reopen(job.id, users: users.shuffled()))
                #expect(try await runner.store.reopen(job.id, users: users) == false)
                try await runner.carryOutLarge(atMost: 4)
                #expect(try await runner.store.status(job.id) == JobStatus(state: .done, total: 230, done: 227, skipped: 0, failed: 3))
                for user in refused where user != users[17] { try await mend(user) }
                // The users of a request that came line by line.
                let loaded = self.job()
                try await runner.store.open(loaded)
                try await runner.store.load(loaded.id, users: users)
                #expect(try await runner.store.reopen(job.id, usersOf: loaded.id))
                try await runner.store.drop(loaded.id)
                #expect(try await runner.finish(job) == JobStatus(state: .done, total: 230, done: 230, skipped: 0, failed: 0))
                #expect(try await runner.store.reopen(job.id, users: users) == false)
                #expect(try await node.number("SELECT count(*) FROM changes") == 230)
                #expect(try await runner.store.answer(job.id).ordered(by: users).entries.map(\.user) == users)
            }
        }

        @Test("small and large jobs are carried out, the oldest first, and forgotten with what they left")
        func many() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let runner = self.runner(node)
                let people = self.users(700)
                var jobs: [Job] = []
                for size in [1, 100, 101, 650, 3] {
                    jobs.append(self.job())
                    #expect(try await runner.store.add(jobs.last!, users: Array(people.prefix(size))) == size)
                }
                #expect(try await runner.store.queued().jobs == 5)
                #expect(try await runner.carryOutSmall(atMost: 2) == 2)
                #expect(try await runner.carryOutSmall(atMost: 2) == 1)
                try await runner.carryOutLarge(atMost: 4)
                for job in jobs { #expect(try await runner.store.status(job.id)?.state == .done) }
                #expect(try await runner.store.queued().jobs == 0)
                // Each took the place of the one before: they have one key.
                #expect(try await node.number("SELECT count(*) FROM notifications") == 650)
                _ = try await node.rows("UPDATE jobs SET ended_at = now() - interval '2 minutes'")
                try await runner.store.forget(days: 7)
                #expect(try await node.number("SELECT count(*) FROM job_users") == 0)
                #expect(try await node.number("SELECT count(*) FROM jobs") == 5)
                _ = try await node.rows("UPDATE jobs SET ended_at = now() - interval '8 days'")
                try await runner.store.forget(days: 7)
                #expect(try await node.number("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM idempotency)") == 0)
                #expect(try await node.audit() == [])
            }
        }

        @Test("a claim lets one job through; the others' users are gone again")
        func claimed() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let store = JobStore(pool: node.pool)
                let claim = IdempotencyClaim(owner: .make(), route: "trigger", key: "k", digest: [1], answer: "{}")
                let (first, second, third) = (self.job(), self.job(), self.job())
                #expect(try await store.add(first, users: self.users(5), claim: claim) == 5)
                // Who did not hear of it asks again.
                #expect(try await store.add(first, users: self.users(5), claim: claim) == 5)
                #expect(try await store.add(second, users: self.users(5), claim: claim) == nil)
                try await store.open(third)
                try await store.load(third.id, users: self.users(5))
                #expect(try await store.status(third.id) == nil)
                #expect(try await store.queue(third.id, claim: claim) == nil)
                try await store.drop(third.id)
                #expect(try await node.number("SELECT count(*) FROM jobs") == 1)
                #expect(try await node.number("SELECT count(*) FROM job_users") == 5)
                await #expect(throws: StoreError.self) { try await store.load(third.id, users: self.users(1)) }
            }
        }

        @Test("users come in portions, doubles count once; nobody begins before the end, and what is left behind is forgotten")
        func loading() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let runner = self.runner(node)
                let (job, left) = (self.job(), self.job())
                for one in [job, left] {
                    try await runner.store.open(one)
                    try await runner.store.load(one.id, users: self.users(300))
                    try await runner.store.load(one.id, users: self.users(310) + self.users(3))
                }
                try await runner.carryOutLarge(atMost: 4)
                #expect(try await node.number("SELECT count(*) FROM changes") == 0)
                #expect(try await runner.store.queue(job.id, claim: nil) == 310)
                #expect(try await runner.store.queue(job.id, claim: nil) == 310)
                _ = try await node.rows("UPDATE jobs SET lease_until = now() WHERE state = 'loading'")
                try await runner.store.forget(days: 7)
                #expect(try await node.number("SELECT count(*) FROM jobs") == 1)
                #expect(try await node.number("SELECT count(*) FROM job_users") == 310)
                try await runner.carryOutLarge(atMost: 4)
                #expect(try await node.number("SELECT count(*) FROM changes") == 310)
            }
        }

        @Test("a job that no node understands waits for one that does, and has failed after an hour")
        func notUnderstood() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let runner = self.runner(node)
                let job = self.job("{\"title\":\"x\",\"type\":\"unknown here\"}")
                _ = try await runner.store.add(job, users: self.users(200))
                try await runner.carryOutLarge(atMost: 4)
                #expect(try await runner.store.status(job.id)?.state == .queued)
                #expect(try await runner.store.take(1, ofUsers: JobRunner.large, owner: runner.owner).isEmpty)
                _ = try await node.rows("UPDATE jobs SET lease_until = NULL, created_at = now() - interval '2 hours'")
                try await runner.carryOutLarge(atMost: 4)
                #expect(try await runner.store.status(job.id) == JobStatus(state: .failed, total: 200, done: 0, skipped: 0, failed: 200))
            }
        }
    }
}
