import NotificationCore
import PostgresClient
import SeededRandom
import TestServers
import Testing

@testable import NotificationStore

/// What a write was answered with.
func failure<Value>(_ body: () async throws(StoreError) -> Value) async -> StoreError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error
    }
}

extension Store {
    @Suite("The writer")
    struct Writing {
        private let u = user("u")

        @Test("all of a large inbox is read by one number; with a filter it goes in chunks, each numbered, each exactly what its bound says")
        func chunks() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                // 4,500 of the filter's type, and every tenth of another one between them.
                var ids: [NotificationID] = []
                for batch in 0..<10 {
                    let commands = (0..<495).map { index in
                        InboxCommand(user: u, action: .create(notification { $0.type = index % 11 == 10 ? "other" : "T"; $0.customer = batch < 5 ? "a" : nil }))
                    }
                    for outcome in try await node.writer.write(commands) { ids.append(outcome.changes[0].notification!) }
                }
                var outcome = try await node.write(u, .readAll(customer: nil, type: "T", upTo: ids[4899], scope: nil))
                #expect(outcome.updated == 2000 && outcome.more)
                var bounds = [outcome.changes[0].upToSeq]
                var unread = 4950 - 2000
                #expect(outcome.changes.map(\.unread) == [Int32(unread)])
                var updated = 2000
                while outcome.more {
                    outcome = try await node.write(u, .readAll(customer: nil, type: "T", upTo: ids[4899], scope: nil))
                    updated += outcome.updated
                    unread -= outcome.updated
                    #expect(outcome.changes.map(\.unread) == [Int32(unread)])
                    bounds.append(outcome.changes[0].upToSeq)
                }
                // Of 4,900 rows, 4,455 have the type. The last chunk goes up to the bound that was asked for.
                #expect(updated == 4455)
                #expect(bounds.count == 3 && bounds[2] == 4900)
                #expect(bounds[0] == 2199 && bounds[1] == 4399)
                #expect(try await node.audit() == [])
                #expect(try await node.write(u, .readAll(customer: nil, type: "T", upTo: ids[4899], scope: nil)).status == .unchanged)

                #expect(try await node.write(u, .seenAll(customer: "a")).updated == 225)
                let before = try await node.reader.head(of: u)
                outcome = try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
                #expect(outcome.updated == Int(before.unread) && !outcome.more && outcome.head.unread == 0)
                #expect(outcome.head.position.seq == before.position.seq + 1)
                #expect(try await node.number("SELECT count(*) FROM marks") == 1)
                #expect(try await node.audit() == [])
            }
        }

        @Test("exactly a chunk says that there may be more, and the next one takes no number")
        func exactChunk() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                _ = try await node.writer.write((0..<2000).map { _ in InboxCommand(user: u, action: .create(notification())) })
                #expect(try await node.write(u, .readAll(customer: "", type: nil, upTo: nil, scope: nil)).more)
                let last = try await node.write(u, .readAll(customer: "", type: nil, upTo: nil, scope: nil))
                #expect(last.status == .unchanged && !last.more && last.updated == 0)
                #expect(last.head.position.seq == 2001 && last.head.unread == 0)
            }
        }

        @Test("what a mark read keeps the time of that mark when later marks come, and is unread again from its own change on")
        func marks() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let (first, second) = (try await node.create(u), try await node.create(u))
                let mark = InboxCommand.Action.readAll(customer: nil, type: nil, upTo: nil, scope: nil)
                try await node.write(u, mark)
                let time = try #require(try await node.reader.notification(first, of: u, scope: nil)?.readAt)
                try await node.write(u, .setFlags(second, read: false, seen: nil, archived: nil, scope: nil))
                let third = try await node.create(u)
                var item = try #require(try await node.reader.notification(second, of: u, scope: nil))
                #expect(item.state == .seen && item.readAt == nil && item.seq == 4 && item.createdSeq == 2)
                var page = try await node.reader.page(InboxQuery(user: u))
                #expect(page.items.map(\.id) == [third, second, first])

                try await node.write(u, mark)
                #expect(try await node.reader.notification(first, of: u, scope: nil)?.readAt == time)
                item = try #require(try await node.reader.notification(second, of: u, scope: nil))
                #expect(item.state == [.read, .seen] && item.readAt! > time)
                // A change that leaves it read keeps the time as well.
                let archived = try await node.write(u, .setFlags(first, read: nil, seen: nil, archived: true, scope: nil))
                #expect(archived.changes[0].readAt == time && archived.changes[0].state == [.read, .seen, .archived])
                #expect(try await node.reader.notification(first, of: u, scope: nil)?.readAt == time)
                #expect(try await node.write(u, mark).status == .unchanged)
                page = try await node.reader.page(InboxQuery(user: u))
                #expect(page.items.map(\.id) == [third, second] && page.head.unread == 0)
                #expect(try await node.number("SELECT count(*) FROM marks") == 2)
            }
        }

        @Test("a scheduled one is in no list, count or log until its time, and then takes the place of an unread one with its key")
        func scheduled() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let old = try await node.create(u) { $0.collapseKey = "k" }
                let later = notification { $0.collapseKey = "k"; $0.deliverAt = .now() + 3600 }
                #expect(try await node.write(u, .create(later)).status == .stored)
                let tracked = notification { $0.inApp = false; $0.deliverAt = .now() + 3600; $0.collapseKey = "k" }
                #expect(try await node.write(u, .create(tracked)).status == .stored)
                for id in [later.id, tracked.id] {
                    #expect(try await node.reader.notification(id, of: u, scope: nil) == nil)
                    #expect(try await node.write(u, .comeDue(id)).status == .notFound)
                    #expect(try await node.write(u, .setFlags(id, read: true, seen: nil, archived: nil, scope: nil)).status == .notFound)
                    #expect(try await node.write(u, .delete(id, scope: nil)).status == .notFound)
                }
                #expect(try await node.reader.head(of: u).position.seq == 1)
                _ = try await node.rows("UPDATE notifications SET deliver_at = now() WHERE deliver_at IS NOT NULL")
                let outcome = try await node.write(u, .comeDue(later.id))
                #expect(outcome.changes.map(\.kind) == [.replaced, .created] && outcome.changes.map(\.seq) == [2, 3])
                #expect(outcome.changes.map(\.notification) == [old, later.id])
                #expect(outcome.changes.map(\.body) == [nil, Array(later.body.utf8)])
                #expect(outcome.head.unread == 1)
                #expect(try await node.write(u, .comeDue(later.id)).status == .notFound)
                #expect(try await node.write(u, .comeDue(tracked.id)).status == .notFound)
            }
        }

        @Test("a scheduled one whose time was over before it came due is never shown")
        func lateAndExpired() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let old = try await node.create(u) { $0.collapseKey = "k" }
                let late = notification { $0.collapseKey = "k"; $0.deliverAt = .now() + 3600; $0.expiresAt = .now() + 3700 }
                #expect(try await node.write(u, .create(late)).status == .stored)
                _ = try await node.rows("UPDATE notifications SET deliver_at = now(), expires_at = now() WHERE deliver_at IS NOT NULL")
                let keeping = Housekeeping(pool: node.pool)
                #expect(try await keeping.timely().map(\.user) == [u])
                #expect(try await node.write(u, .comeDue(late.id)).status == .notFound)
                #expect(try await node.writer.write(try await keeping.timely()).map(\.status) == [.unchanged])
                let page = try await node.reader.page(InboxQuery(user: u))
                #expect(page.items.map(\.id) == [old] && page.head.unread == 1 && page.head.position.seq == 1)
                #expect(try await node.number("SELECT count(*) FROM notifications") == 1)
                #expect(try await node.audit() == [])
            }
        }

        // MARK: Batches

        @Test("what waits while a batch is under way goes together in the next one; a large request has a lane of its own")
        func batches() async throws {
            let database = try await Database.migrated()
            try await database.withNode(lanes: 1) { node async throws in
                let held = try await OpenTransaction.holding(u, in: database)
                let answers = Answers()
                node.writer.submit([InboxCommand(user: u, action: .create(notification()))], completion: answers.add)
                try await node.untilWaiting(1)
                for index in 0..<850 {
                    node.writer.submit([InboxCommand(user: user("w\(index % 7)"), action: .create(notification()))], completion: answers.add)
                }
                let large = try await node.writer.write((0..<401).map { InboxCommand(user: user("l\($0)"), action: .create(notification())) })
                #expect(large.count == 401 && answers.count == 0)
                try await held.commit()
                await until { answers.count == 851 }
                #expect(answers.failures.isEmpty)
                // 1, then 400, 400 and 50, and the large one.
                #expect(node.writer.counters.batches == 5 && node.writer.counters.commands == 1252)
                #expect(try await node.audit() == [])
            }
        }

        @Test("while a batch waits for a lock others are written by other lanes, but for those that were behind it already, and its own users")
        func behind() async throws {
            let database = try await Database.migrated()
            try await database.withNode(lanes: 3) { node async throws in
                let held = try await OpenTransaction.holding(u, in: database)
                let (stuck, others) = (Answers(), Answers())
                node.writer.submit([InboxCommand(user: u, action: .create(notification()))], completion: stuck.add)
                try await node.untilWaiting(1)
                var count = 0
                try await until {
                    // No faster: what waits has a bound.
                    try await Task.sleep(for: .milliseconds(1))
                    node.writer.submit([InboxCommand(user: user("w\(count)"), action: .create(notification()))], completion: others.add)
                    count += 1
                    return others.count > 20
                }
                // Of the same user nothing overtakes.
                node.writer.submit([InboxCommand(user: u, action: .create(notification()))], completion: stuck.add)
                _ = try await node.create(user("last"))
                #expect(stuck.count == 0)
                try await held.commit()
                await until { others.count == count && stuck.count == 2 }
                #expect(others.failures.isEmpty && stuck.failures.isEmpty)
                #expect(try await node.number("SELECT count(*) FROM notifications") == count + 3)
                #expect(try await node.audit() == [])
            }
        }

        @Test("an unknown user's flags, and an empty request, change nothing")
        func nothing() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                #expect(try await node.writer.write([]).isEmpty)
                #expect(try await node.write(u, .setFlags(.make(), read: true, seen: nil, archived: nil, scope: nil)).status == .notFound)
                #expect(try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil)).status == .unchanged)
                #expect(try await node.number("SELECT count(*) FROM commits") == 0)
                #expect(node.recorder.all.isEmpty)
                #expect(try await node.reader.heads(of: [u, user("nobody")]).map(\.head.position.seq) == [0])
            }
        }

        enum Poison: CaseIterable, Sendable {
            /// Refused before it is sent.
            case nul
            /// Refused by the server: class 23, class 22.
            case sameID, unstorableScope
        }

        @Test("one that Postgres refuses does not harm what is in its batch", arguments: Poison.allCases)
        func poison(_ poison: Poison) async throws {
            let database = try await Database.migrated()
            try await database.withNode(lanes: 1) { node async throws in
                let taken = try await node.create(u)
                let bad: InboxCommand.Action =
                    switch poison {
                    case .nul: .create(notification { $0.body = "\"title\":\"\u{0}\"" })
                    case .sameID: .create(notification { $0.id = taken })
                    case .unstorableScope: .delete(taken, scope: ["\u{0}"])
                    }
                let held = try await OpenTransaction.holding(user("first"), in: database)
                let answers = Answers()
                node.writer.submit([InboxCommand(user: user("first"), action: .create(notification()))], completion: answers.add)
                try await node.untilWaiting(1)
                // What is bad takes the whole of its own request with it, and only that.
                for index in 0..<20 {
                    var commands = [InboxCommand(user: user("g\(index)"), action: .create(notification())), InboxCommand(user: u, action: .create(notification()))]
                    if index % 10 == 3 { commands.append(InboxCommand(user: u, action: bad)) }
                    node.writer.submit(commands) { result in answers.add(index, result) }
                }
                try await held.commit()
                await until { answers.count == 21 }
                #expect(answers.failures.map(\.index).sorted() == [3, 13])
                for (_, error) in answers.failures {
                    #expect(error.code == .refused)
                    #expect(error.sqlState == ["nul": "22021", "sameID": "23505", "unstorableScope": "22P05"]["\(poison)"])
                }
                #expect(node.writer.counters.isolated == 1 && node.writer.counters.refused == 2)
                #expect(try await node.reader.head(of: u).position.seq == 19)
                for index in 0..<20 {
                    #expect(try await node.reader.head(of: user("g\(index)")).position.seq == (index % 10 == 3 ? 0 : 1))
                }
                #expect(try await node.audit() == [])
                #expect(node.writer.counters.queuedBytes == 0)
            }
        }

        @Test("a full queue refuses what comes, takes one large request when it is empty, and goes on once there is room")
        func overloaded() async throws {
            let database = try await Database.migrated()
            try await database.withNode(lanes: 2, { $0.queueBytes = 20_000 }) { node async throws in
                let held = try await OpenTransaction.holding(u, in: database)
                let answers = Answers()
                var accepted = 0
                while answers.count == 0 {
                    node.writer.submit([InboxCommand(user: u, action: .create(notification { $0.body = String(repeating: "x", count: 1000) }))], completion: answers.add)
                    accepted += 1
                }
                #expect(answers.failures.map(\.error.code) == [.overloaded])
                #expect((10...20).contains(accepted))
                #expect(node.writer.counters.queuedBytes <= 20_000)
                #expect(await failure { () async throws(StoreError) in try await node.write(user("another lane's"), .create(notification { $0.body = String(repeating: "x", count: 2000) })) }?.code == .overloaded)
                try await held.commit()
                await until { answers.count == accepted }
                #expect(answers.failures.count == 1)
                #expect(try await node.reader.head(of: u).position.seq == Int64(accepted - 1))
                #expect(node.writer.counters.queuedBytes == 0)
                try await node.create(u) { $0.body = String(repeating: "x", count: 100_000) }
                #expect(try await node.reader.head(of: u).unread == Int32(accepted))
            }
        }

        @Test("whatever does not fit the connection's bound is refused, and the lane goes on: also when only the look behind the batch does not fit")
        func connectionBound() async throws {
            let database = try await Database.migrated()
            var configuration = database.configuration
            configuration.maxQueuedBytes = 20_000
            let writer = InboxWriter(
                configuration: configuration, settings: .init(), identity: ClusterIdentity(), observer: Recorder(), logger: silent)
            writer.start()
            await until { writer.isAvailable }
            var written = 0
            var refused = 0
            for size in stride(from: 15_000, through: 20_000, by: 20) {
                do throws(StoreError) {
                    _ = try await writer.write([InboxCommand(user: u, action: .create(notification { $0.body = String(repeating: "x", count: size) }))])
                    written += 1
                } catch {
                    refused += 1
                }
            }
            #expect(written > 10)
            #expect(refused > 10)
            await writer.close()
            #expect(writer.counters.queuedBytes == 0)
        }

        @Test("a large notification for many users holds its body once")
        func sharedBody() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let body = "\"title\":\"\(String(repeating: "y", count: 12_000))\""
                let outcomes = try await node.writer.write(
                    (0..<10_000).map { index in InboxCommand(user: user("many-\(index)"), action: .create(notification { $0.body = body })) })
                #expect(outcomes.allSatisfy { $0.status == .changed })
                let page = try await node.reader.page(InboxQuery(user: user("many-9999")))
                #expect(page.items.map { Array($0.body) } == [Array(body.utf8)])
            }
        }

        @Test("closing answers everything that waits, however much it is")
        func closing() async throws {
            let database = try await Database.migrated()
            try await database.withNode(lanes: 1, { $0.batch = 1 }) { node async throws in
                let held = try await OpenTransaction.holding(u, in: database)
                let answers = Answers()
                let count = 20_000
                for _ in 0..<count { node.writer.submit([InboxCommand(user: u, action: .seenAll(customer: nil))], completion: answers.add) }
                try await node.untilWaiting(1)
                #expect(try await node.terminateWriters() == 1)
                await node.writer.close()
                await until { answers.count == count }
                #expect(answers.failures.count == count)
                #expect(answers.failures.allSatisfy { $0.error.code == .unavailable || $0.error.code == .inDoubt })
                #expect(node.writer.counters.queuedBytes == 0)
                #expect(await failure { () async throws(StoreError) in try await node.write(u, .seenAll(customer: nil)) }?.code == .unavailable)
                try await held.commit()
            }
        }

        @Test("an answer that is not understood fails its own batch, and the lane goes on")
        func notUnderstood() async throws {
            let database = try await Database.migrated()
            try StandIn.put("RETURN QUERY SELECT (NULL::change_result).* FROM nextval('tries');", into: database)
            try await database.withNode(lanes: 1) { node async throws in
                for _ in 0..<3 {
                    #expect(await failure { () async throws(StoreError) in try await node.write(u, .create(notification())) }?.code == .failed)
                }
                try StandIn.remove(from: database)
                try await node.create(u)
                #expect(try await node.reader.head(of: u).position.seq == 1)
                #expect(node.writer.counters.queuedBytes == 0)
            }
        }

        // MARK: Concurrency

        @Test("several nodes write the same users at once: no hole, no number twice, no error, no count wrong")
        func concurrent() async throws {
            let database = try await Database.migrated()
            let nodes = (0..<3).map { _ in Node(configuration: database.configuration, settings: InboxWriter.Settings(), connections: 1) }
            for node in nodes { try await node.start() }
            let users = (0..<6).map { user("u\($0)") }
            let created = try await withThrowingTaskGroup(of: Int.self) { group in
                for task in 0..<24 {
                    group.addTask {
                        var random = SeededGenerator(seed: UInt64(task))
                        let node = nodes[task % 3]
                        var created = 0
                        var mine: [(UserID, NotificationID)] = []
                        for _ in 0..<25 {
                            // Users in any order: the writer sorts them.
                            let commands = (0..<random.pick([1, 1, 4, 12])).map { _ -> InboxCommand in
                                let user = random.pick(users)
                                switch random.below(10) {
                                case 0..<5:
                                    let new = notification { $0.type = random.pick(["a", "b"]); $0.customer = random.pick([nil, "c"]); $0.collapseKey = random.pick([nil, nil, "k"]) }
                                    mine.append((user, new.id))
                                    return InboxCommand(user: user, action: .create(new))
                                case 5..<7 where !mine.isEmpty:
                                    let (owner, id) = random.pick(mine)
                                    return InboxCommand(user: owner, action: .setFlags(id, read: random.chance(50), seen: nil, archived: nil, scope: nil))
                                case 7: return InboxCommand(user: user, action: .readAll(customer: random.pick([nil, "c"]), type: nil, upTo: nil, scope: nil))
                                case 8 where !mine.isEmpty:
                                    let (owner, id) = random.pick(mine)
                                    return InboxCommand(user: owner, action: .delete(id, scope: nil))
                                default: return InboxCommand(user: user, action: .seenAll(customer: nil))
                                }
                            }
                            for outcome in try await node.writer.write(commands) { created += outcome.changes.filter { $0.kind == .created }.count }
                        }
                        return created
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(try await nodes[0].audit() == [])
            #expect(try await nodes[0].number("SELECT count(*) FROM changes WHERE kind = 1") == Int64(created))
            for user in users {
                // What the nodes heard is, together, the log.
                let heard = nodes.flatMap { $0.recorder.changes(of: user) }.sorted { $0.seq < $1.seq }
                #expect(heard.map(\.seq) == Array(1...(try await nodes[0].reader.head(of: user).position.seq)))
            }
            #expect(nodes.allSatisfy { $0.writer.counters.refused == 0 && $0.writer.counters.isolated == 0 })
            for node in nodes { await node.close() }
        }
    }
}
