import Foundation
import NotificationCore
import PostgresClient
import SeededRandom
import TestServers
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Writes in doubt", .serialized)
    struct Doubt {
        private static let result = Task { try await Database.alone() }
        private let u = user("u")

        /// This suite's own server, back in order, with empty tables.
        private func database() async throws -> Database {
            let database = try await Self.result.value
            if database.server.pid == nil { try database.server.start() }
            try database.server.psql("TRUNCATE heads, notifications, marks, changes, commits")
            return database
        }

        @Test("cut while it waits for a lock: it was not committed, and is written once by itself")
        func cutBefore() async throws {
            let database = try await self.database()
            try await database.withNode(lanes: 1) { node async throws in
                let held = try await OpenTransaction.holding(u, in: database)
                let answers = Answers()
                let new = notification()
                node.writer.submit([InboxCommand(user: u, action: .create(new))], completion: answers.add)
                try await node.untilWaiting(1)
                // What comes meanwhile does not overtake it.
                node.writer.submit([InboxCommand(user: u, action: .delete(new.id, scope: nil))], completion: answers.add)
                for _ in 0..<3 {
                    #expect(try await node.terminateWriters() == 1)
                    try await node.untilWaiting(1)
                }
                try await held.commit()
                await until { answers.count == 2 }
                #expect(try answers.all.map { try $0.result.get()[0].changes.map(\.kind) } == [[.created], [.deleted]])
                #expect(try await node.reader.head(of: u).position.seq == 2)
                #expect(node.writer.counters.recovered == 0)
                #expect(try await node.audit() == [])
            }
        }

        enum Written: CaseIterable, Sendable {
            case created, scheduled, tracked, retiredTracked
        }

        @Test("cut after its commit, before the answer: it is found out, and nothing is written twice", arguments: Written.allCases)
        func cutAfter(_ written: Written) async throws {
            let database = try await self.database()
            try await database.withNode(lanes: 1) { node async throws in
                let new = notification {
                    if written == .scheduled { $0.deliverAt = .now() + 3600 }
                    if written == .tracked || written == .retiredTracked { $0.inApp = false }
                }
                let create = InboxCommand.Action.create(new)
                if written == .retiredTracked { #expect(try await node.write(u, create).status == .stored) }
                // A commit is on disk and waits for a standby that there is not; who is cut off then has committed.
                try database.server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
                try database.server.psql("SELECT pg_reload_conf()")
                let probe = try await Commits.untilTheyWait(database, node)
                let answers = Answers()
                let action = written == .retiredTracked ? InboxCommand.Action.retire(new.id) : create
                node.writer.submit([InboxCommand(user: u, action: action), InboxCommand(user: user("v"), action: .seenAll(customer: nil))], completion: answers.add)
                try await node.untilWaiting(1, for: "wait_event = 'SyncRep'")
                #expect(try await node.terminateWriters() == 1)
                await until { answers.count == 1 }
                try database.server.psql("ALTER SYSTEM RESET synchronous_standby_names")
                try database.server.psql("SELECT pg_reload_conf()")
                await probe.stop()
                #expect(try answers.all[0].result.get().map(\.status) == [.recovered, .recovered])
                #expect(node.writer.counters.recovered == 1)
                #expect(try await node.number("SELECT count(*) FROM notifications") == (written == .retiredTracked ? 0 : 1))
                #expect(try await node.reader.head(of: u).position.seq == (written == .created ? 1 : 0))
                // Nobody heard of it but the tail.
                #expect(node.recorder.all.isEmpty)
                var tail = CommitTail(pool: node.pool)
                let reading = try await tail.read(firstReaches: 60)
                #expect(reading.commits.flatMap(\.users) == (written == .created ? [u] : []))
                #expect(try await node.audit() == [])
            }
        }

        enum Said: CaseIterable, Sendable {
            case preferences, contact, noContact
        }

        private func say(_ said: Said, _ node: Node) async throws(StoreError) {
            let contacts = ContactStore(pool: node.pool)
            switch said {
            case .preferences:
                do throws(PreferencesError) {
                    _ = try await PreferencesStore(pool: node.pool).change(of: u, customer: nil) { stored throws(ValidationError) in
                        var changed = stored
                        changed.channels[.sms] = true
                        return changed
                    }
                } catch {
                    guard case .store(let failure) = error else { preconditionFailure("\(error)") }
                    throw failure
                }
            case .contact: _ = try await contacts.put(Contact(email: "a@b.c"), of: u)
            case .noContact: _ = try await contacts.delete(of: u)
            }
        }

        @Test("preferences and contacts whose connection breaks while they are written are said to be in doubt, not to be unwritten", arguments: Said.allCases)
        func said(_ said: Said) async throws {
            let database = try await self.database()
            try await database.withNode(connections: 4) { node async throws in
                // Reads go on.
                let held = try await OpenTransaction(database, "LOCK TABLE preferences, contacts IN SHARE MODE")
                async let outcome = failure { () async throws(StoreError) in try await say(said, node) }
                try await until {
                    try await node.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'relation'") == 1
                }
                database.server.kill()
                #expect(await outcome?.code == .inDoubt)
                try database.server.start()
                _ = try? await held.commit()
                await until { node.pool.isAvailable }
            }
        }

        @Test("whatever else the repetition meets, nobody is told that nothing was written until that is known")
        func otherErrors() async throws {
            let database = try await self.database()
            try await database.withNode(lanes: 1) { node async throws in
                try database.server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
                try database.server.psql("SELECT pg_reload_conf()")
                let probe = try await Commits.untilTheyWait(database, node)
                let answers = Answers()
                node.writer.submit([InboxCommand(user: u, action: .create(notification()))], completion: answers.add)
                try await node.untilWaiting(1, for: "wait_event = 'SyncRep'")
                // Out of memory, each time.
                try StandIn.put("PERFORM nextval('tries'); RAISE SQLSTATE '53200';", into: database)
                #expect(try await node.terminateWriters() == 1)
                try await until { try await node.number("SELECT last_value FROM tries") >= 3 }
                #expect(answers.count == 0)
                try StandIn.remove(from: database)
                await until { answers.count == 1 }
                try database.server.psql("ALTER SYSTEM RESET synchronous_standby_names")
                try database.server.psql("SELECT pg_reload_conf()")
                await probe.stop()
                #expect(try answers.all[0].result.get().map(\.status) == [.recovered])
                #expect(try await node.audit() == [])
            }
        }

        @Test("what cannot be found out in time is said to be in doubt, what waited behind it was not written, and the writer goes on by itself")
        func givenUp() async throws {
            let database = try await self.database()
            try await database.withNode(lanes: 1, { $0.doubt = .zero }) { node async throws in
                let held = try await OpenTransaction.holding(u, in: database)
                let answers = Answers()
                node.writer.submit([InboxCommand(user: u, action: .create(notification()))], completion: answers.add)
                try await node.untilWaiting(1)
                for _ in 0..<500 { node.writer.submit([InboxCommand(user: u, action: .create(notification()))], completion: answers.add) }
                database.server.kill()
                await until { answers.count == 501 }
                #expect(answers.failures.map(\.error.code) == [.inDoubt] + Array(repeating: .unavailable, count: 500))
                #expect(await failure { () async throws(StoreError) in try await node.write(u, .create(notification())) }?.code == .unavailable)
                try database.server.start()
                _ = try? await held.commit()
                await until { node.writer.isAvailable && node.pool.isAvailable }
                try await node.create(u)
                #expect(try await node.reader.head(of: u).unread == 1)
                #expect(node.writer.counters.queuedBytes == 0)
            }
        }

        @Test("the server is killed again and again under load: what was answered with success is there once, what was refused is not there")
        func killed() async throws {
            let database = try await self.database()
            try await database.withNode(lanes: 4) { node async throws in
                struct Attempt: Sendable {
                    var ids: [NotificationID]
                    var error: StoreError.Code?
                }
                let finished = Counter()
                let over = Counter()
                let attempts = try await withThrowingTaskGroup(of: [Attempt].self) { group in
                    for task in 0..<16 {
                        group.addTask {
                            var random = SeededGenerator(seed: UInt64(task))
                            var attempts: [Attempt] = []
                            while over.value == 0 {
                                // All or nothing also across users.
                                let commands = (0..<random.pick([1, 2, 5])).map { _ in
                                    InboxCommand(user: user("u\(random.below(8))"), action: .create(notification { if random.chance(10) { $0.inApp = false } }))
                                }
                                var attempt = Attempt(ids: commands.map { if case .create(let new) = $0.action { new.id } else { .make() } })
                                do throws(StoreError) {
                                    let outcomes = try await node.writer.write(commands)
                                    #expect(outcomes.count == commands.count)
                                } catch {
                                    attempt.error = error.code
                                }
                                if attempt.error == nil { finished.add() }
                                attempts.append(attempt)
                                await Task.yield()
                            }
                            return attempts
                        }
                    }
                    for round in 1...4 {
                        let before = finished.value
                        await until { finished.value > before + 100 * round }
                        database.server.kill()
                        try database.server.start()
                    }
                    let before = finished.value
                    await until { finished.value > before + 50 }
                    over.add()
                    return try await group.reduce(into: []) { $0 += $1 }
                }
                await until { node.pool.isAvailable }
                var stored: [NotificationID: Int] = [:]
                for row in try await node.rows("SELECT id FROM notifications") {
                    let id = try row.uuid(0)
                    stored[NotificationID(high: id.high, low: id.low), default: 0] += 1
                }
                for attempt in attempts {
                    let there = attempt.ids.filter { stored[$0] == 1 }.count
                    switch attempt.error {
                    case nil: #expect(there == attempt.ids.count)
                    case .inDoubt: #expect(there == 0 || there == attempt.ids.count)
                    case .unavailable, .overloaded: #expect(there == 0)
                    case .refused, .failed: Issue.record("\(attempt)")
                    }
                }
                #expect(stored.count <= attempts.reduce(0) { $0 + $1.ids.count })
                #expect(try await node.audit() == [])
                // A server that comes back with all that it had committed is the same life of the data.
                #expect(try await node.reader.head(of: user("u0")).position.epoch == 1)
                #expect(node.writer.counters.queuedBytes == 0)
            }
        }
    }
}

/// Commits of a session of its own, one after the other.
private struct Commits {
    let connection: PostgresConnection
    let task: Task<Void, any Error>

    /// Returns when one of them waits for a standby: a setting is in force some time after it was read anew, and until then commits do not wait.
    static func untilTheyWait(_ database: Database, _ node: Node) async throws -> Commits {
        var configuration = database.configuration
        configuration.responseTimeout = nil
        let connection = PostgresConnection(configuration: configuration, name: "commits", logger: silent)
        connection.start()
        try await connection.waitUntilConnected()
        let commit = PostgresStatement("SELECT pg_logical_emit_message(true, 'nothing', '')", prepared: false)
        let task = Task { while !Task.isCancelled { _ = try await connection.execute(commit) } }
        try await until {
            try await node.number(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%emit_message%' AND wait_event = 'SyncRep'") == 1
        }
        return Commits(connection: connection, task: task)
    }

    func stop() async {
        self.task.cancel()
        await self.connection.close()
    }
}
