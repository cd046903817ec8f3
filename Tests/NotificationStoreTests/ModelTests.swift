import NotificationCore
import PostgresClient
import SeededRandom
import TestServers
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Inboxes against a model")
    struct Models {
        @Test("thousands of random writes give the lists, counts and numbers that a plain model gives", arguments: [11, 12] as [UInt64])
        func random(seed: UInt64) async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                var walk = Walk(seed: seed, node: node)
                for _ in 0..<70 {
                    try await walk.turn()
                    if walk.failed { break }
                }
                try await walk.compareLogs()
                #expect(try await node.audit() == [])
                #expect(node.writer.counters.queuedBytes == 0)
            }
        }
    }
}

/// A random walk through all actions, beside the models.
private struct Walk {
    private static let customers: [String?] = [nil, nil, "a", "b", "ü/{}%:", "🚢"]
    private static let types = ["T1", "T2", "T3"]
    private static let events: [String?] = [nil, "e1", "e2"]

    private var random: SeededGenerator
    private let node: Node
    private var models: [InboxModel]
    private var known: [[NotificationID]]
    private(set) var failed = false

    init(seed: UInt64, node: Node) {
        self.random = SeededGenerator(seed: seed)
        self.node = node
        // Byte order is not the order of Swift's strings, nor of any language.
        self.models = ["z", "Ä", "a b", "{}/%:", "🧭"].map { InboxModel(user: user($0)) }
        self.known = self.models.map { _ in [] }
    }

    /// One round of writes and of looking at what they made.
    mutating func turn() async throws {
        try await self.passTime()
        if self.random.chance(50) { try await self.oneRequest() } else { try await self.manyRequests() }
        for model in self.models { try await self.compareHead(model) }
        for _ in 0..<4 { try await self.comparePages(self.models[self.random.below(self.models.count)]) }
        try await self.compareOne()
    }

    // MARK: Writing

    /// Many users in one batch.
    private mutating func oneRequest() async throws {
        var commands: [InboxCommand] = []
        var expected: [InboxModel.Outcome] = []
        for _ in 0..<self.random.pick([1, 3, 20, 80, 250]) {
            let (index, command) = try self.command()
            commands.append(command)
            expected.append(self.models[index].apply(command.action))
        }
        let outcomes = try await self.node.writer.write(commands)
        #expect(outcomes.count == commands.count)
        for (index, outcome) in outcomes.enumerated() {
            let model = self.models.first { $0.user == commands[index].user }!
            try self.check(outcome, expected[index], commands[index])
            // It is the head after the whole batch.
            self.expect(outcome.head.position.seq == model.seq && outcome.head.unread == model.unread && outcome.head.unseen == model.unseen)
            self.expect(try decodeCounts(outcome.head.counts) == model.counts)
        }
    }

    /// Many requests of one user each, that the writer batches as it likes.
    private mutating func manyRequests() async throws {
        var commands: [InboxCommand] = []
        var expected: [InboxModel.Outcome] = []
        let writer = self.node.writer
        let outcomes = try await withThrowingTaskGroup(of: (Int, InboxOutcome).self) { group in
            for index in 0..<self.random.pick([2, 10, 60]) {
                let (who, command) = try self.command()
                commands.append(command)
                expected.append(self.models[who].apply(command.action))
                // Submitted here, one after the other; only the answers are waited for together.
                let (answers, continuation) = AsyncThrowingStream<InboxOutcome, any Error>.makeStream()
                writer.submit([command]) { result in
                    continuation.yield(with: result.map { $0[0] }.mapError { $0 as any Error })
                    continuation.finish()
                }
                group.addTask {
                    for try await outcome in answers { return (index, outcome) }
                    throw StoreError(code: .failed, message: "no answer")
                }
            }
            var outcomes: [(Int, InboxOutcome)] = []
            for try await outcome in group { outcomes.append(outcome) }
            return outcomes
        }
        for (index, outcome) in outcomes { try self.check(outcome, expected[index], commands[index]) }
    }

    private mutating func command() throws -> (Int, InboxCommand) {
        let index = self.random.below(self.models.count)
        let action: InboxCommand.Action =
            switch self.random.below(100) {
            case 0..<36: .create(self.new(index))
            case 42..<62:
                .setFlags(
                    self.id(index), read: self.random.pick([nil, true, true, false]), seen: self.random.pick([nil, nil, true, false]),
                    archived: self.random.pick([nil, nil, nil, true, false]), scope: self.scope())
            case 36..<42, 62..<65: try .correct(self.id(index), self.correction())
            case 65..<74: .delete(self.id(index), scope: self.scope())
            case 74..<77: .readAll(customer: nil, type: nil, upTo: nil, scope: nil)
            case 77..<82:
                .readAll(
                    customer: self.random.pick([nil, "", "a", "b", "unknown"]), type: self.random.pick([nil] + Self.types),
                    upTo: self.random.chance(50) ? self.id(index) : nil, scope: self.scope())
            case 82..<85: .seenAll(customer: self.random.pick([nil, nil, "", "a", "🚢"]))
            case 85..<90: .comeDue(self.id(index))
            case 90..<95: .expire(self.id(index))
            default: .retire(self.id(index))
            }
        return (index, InboxCommand(user: self.models[index].user, action: action))
    }

    private mutating func new(_ index: Int) -> NewNotification {
        var random = self.random
        let new = notification {
            $0.type = random.pick(Self.types)
            $0.event = random.pick(Self.events)
            $0.level = random.pick(Level.allCases)
            $0.priority = random.pick(Priority.allCases)
            $0.customer = random.pick(Self.customers)
            $0.collapseKey = random.pick([nil, nil, nil, "k1", "k2"])
            $0.createdAt = .now() + Int64(random.below(100))
            if random.chance(15) { $0.deliverAt = .now() + (random.chance(50) ? 3600 : -3600) }
            if random.chance(15) { $0.expiresAt = .now() + (random.chance(50) ? 3600 : -3600) }
            $0.inApp = !random.chance(6)
            let data = random.pick(["null", "{\"a\":1.50,\"ü\":\"\\u0000\\\\\",\"deep\":[{},null]}"])
            $0.body = "\"level\":\"\($0.level.name)\",\"title\":\"grüße, 世界 \\\" \(random.below(1000))\",\"data\":\(data),\"expires_at\":null"
        }
        self.random = random
        self.known[index].append(new.id)
        return new
    }

    /// Mostly one that there is, sometimes one that is gone, another user's, or nobody's.
    private mutating func id(_ index: Int) -> NotificationID {
        if self.random.chance(4) { return .make() }
        let from = self.random.chance(4) ? self.random.below(self.models.count) : index
        if self.random.chance(80), !self.models[from].rows.isEmpty { return self.random.pick(self.models[from].rows.keys.sorted()) }
        return self.known[from].isEmpty ? .make() : self.random.pick(self.known[from])
    }

    private mutating func correction() throws -> NotificationCorrection {
        var members: [(name: String, value: JSONValue)] = []
        while members.isEmpty {
            if self.random.chance(50) { members.append(("title", .string("corrected \"🧭\"\\ \(self.random.below(3))"))) }
            if self.random.chance(30) { members.append(("level", .string(self.random.pick(Level.allCases).name))) }
            if self.random.chance(30) { members.append(("priority", .string(self.random.pick(Priority.allCases).name))) }
            if self.random.chance(30) { members.append(("data", self.random.pick([.null, .object([("x", .number("1e3")), ("\0", .string("a\0b"))])]))) }
            if self.random.chance(30) { members.append(("expires_at", self.random.pick([.null, .string("2099-01-02T03:04:05Z")]))) }
        }
        return try NotificationCorrection(json: .object(members), now: .now())
    }

    private mutating func scope() -> [String]? { self.random.pick([nil, nil, nil, [], ["a"], ["a", "🚢", "\"quoted\""]]) }

    /// Some scheduled ones come due, some that expire later are over.
    private mutating func passTime() async throws {
        for index in self.models.indices {
            for (id, row) in self.models[index].rows.sorted(by: { $0.key < $1.key }) {
                if row.seq == nil, row.new.inApp, !row.isDue, self.random.chance(20) {
                    self.models[index].rows[id]!.isDue = true
                    try await self.move(row, of: index, "deliver_at")
                }
                if row.new.expiresAt != nil, !row.isExpired, self.random.chance(10) {
                    self.models[index].rows[id]!.isExpired = true
                    try await self.move(row, of: index, "expires_at")
                }
            }
        }
    }

    private func move(_ row: InboxModel.Row, of index: Int, _ column: String) async throws {
        let id = UUIDBytes(high: row.new.id.high, low: row.new.id.low)
        let rows = try await self.node.rows(
            "UPDATE notifications SET \(column) = now() - interval '1 second' WHERE user_id = $1 AND id = $2", [.text(self.models[index].user.value), .uuid(id)])
        #expect(rows.affectedRows == 1)
    }

    // MARK: Comparing

    private mutating func expect(_ condition: Bool, _ comment: @autoclosure () -> String = "", location: SourceLocation = #_sourceLocation) {
        if condition { return }
        self.failed = true
        let text = comment()
        Issue.record("\(text)", sourceLocation: location)
    }

    private mutating func check(_ outcome: InboxOutcome, _ expected: InboxModel.Outcome, _ command: InboxCommand) throws {
        self.expect(outcome.status == expected.status, "\(command.action): \(outcome.status) instead of \(expected.status)")
        self.expect(outcome.updated == expected.updated && !outcome.more, "\(command.action): updated \(outcome.updated), not \(expected.updated)")
        self.expect(outcome.changes.count == expected.changes.count, "\(command.action): \(outcome.changes)")
        for (change, model) in zip(outcome.changes, expected.changes) { try self.same(change, model, times: nil) }
    }

    /// - Parameter times: of the changes, from their log; nil compares only whether there is a time of reading.
    private mutating func same(_ change: InboxChange, _ model: InboxModel.Change, times: [Int64: Timestamp]?, isLogged: Bool = false) throws {
        var left = change
        var right = model.change
        self.expect((left.readAt == nil) == (model.readBy == nil), "read_at of \(left): \(String(describing: model.readBy))")
        if let times { self.expect(left.readAt == model.readBy.flatMap { times[$0] }, "read_at of \(left)") }
        self.expect(try left.customerCounts.map(decodeCounts) == model.customers, "customers of \(left)")
        // Of the state before only the log knows.
        self.expect(try left.customerCountsBefore.map(decodeCounts) == (isLogged ? model.customersBefore : nil), "customers before \(left)")
        (left.readAt, left.customerCounts, right.customerCounts, left.customerCountsBefore) = (nil, nil, nil, nil)
        // The log is read with the bodies of what is there now.
        if isLogged { (left.body, right.body) = (nil, nil) }
        self.expect(left == right, "\(left)\ninstead of\n\(right)")
    }

    private mutating func compareHead(_ model: InboxModel) async throws {
        let head = try await self.node.reader.head(of: model.user)
        self.expect(
            head.position == StreamPosition(epoch: 1, seq: model.seq) && head.unread == model.unread && head.unseen == model.unseen,
            "head \(head) instead of \(model.seq), \(model.unread), \(model.unseen)")
        self.expect(try decodeCounts(head.counts) == model.counts, "\(head.counts) instead of \(model.counts)")
    }

    private mutating func query(_ model: InboxModel) -> InboxQuery {
        var query = InboxQuery(user: model.user)
        query.status = self.random.pick(InboxQuery.Status.allCases)
        query.archived = self.random.pick(InboxQuery.Archived.allCases)
        query.order = self.random.pick(InboxQuery.Order.allCases)
        if self.random.chance(15) { query.customer = self.random.pick(["a", "b", "unknown"]) }
        if self.random.chance(15) { query.type = self.random.pick(Self.types) }
        if self.random.chance(10) { query.event = self.random.pick(["e1", "e2"]) }
        if self.random.chance(10) { query.level = self.random.pick(Level.allCases) }
        if self.random.chance(10) { query.priority = self.random.pick(Priority.allCases) }
        if self.random.chance(10) { query.since = .now() + Int64(self.random.below(100)) }
        if self.random.chance(10) { query.until = .now() + Int64(self.random.below(100)) }
        if self.random.chance(20) { query.scope = self.random.pick([[], ["a"], ["a", "🚢"]]) }
        return query
    }

    /// The pages of a list, one after the other, are the list; so are those cut by offset.
    private mutating func comparePages(_ model: InboxModel) async throws {
        var query = self.query(model)
        let expected = model.list(query)
        query.limit = self.random.pick([1, 3, 10, 50, 200].filter { $0 * 12 > expected.count })
        var items: [InboxItem] = []
        let byOffset = self.random.chance(30)
        while true {
            let page = try await self.node.reader.page(query)
            self.expect(page.head.position.seq == model.seq && page.head.unread == model.unread && page.head.unseen == model.unseen)
            items += page.items
            guard let next = page.next else { break }
            self.expect(page.items.count == query.limit)
            if byOffset { query.offset = items.count } else { query.after = next }
            if items.count > expected.count { break }
        }
        self.expect(items.map(\.id) == expected.map(\.new.id), "\(query): \(items.count) rows, not \(expected.count)")
        for (item, row) in zip(items, expected) { self.same(item, row) }
        let beyond = InboxQuery.Cursor(unread: false, seq: 0)
        query.after = beyond
        query.offset = 0
        let page = try await self.node.reader.page(query)
        self.expect(page.items.isEmpty && page.next == nil)
    }

    private mutating func same(_ item: InboxItem, _ row: InboxModel.Row) {
        self.expect(
            item.id == row.new.id && item.createdSeq == row.seq && item.seq == row.stateSeq && item.state == row.state
                && (item.readAt == nil) == (row.readBy == nil) && item.body == Array(row.new.body.utf8), "\(item) instead of \(row)")
    }

    private mutating func compareOne() async throws {
        let index = self.random.below(self.models.count)
        let id = self.id(index)
        let scope = self.scope()
        let item = try await self.node.reader.notification(id, of: self.models[index].user, scope: scope)
        let row = self.models[index].rows[id].flatMap { row -> InboxModel.Row? in
            if row.seq == nil { return nil }
            if let scope, let customer = row.new.customer, !scope.contains(customer) { return nil }
            return row
        }
        self.expect((item == nil) == (row == nil), "\(String(describing: item)) instead of \(String(describing: row))")
        if let item, let row { self.same(item, row) }
    }

    /// The whole log of everybody, as it was told after the commits, as it is stored, and as an edge reads it; and when everything was read.
    mutating func compareLogs() async throws {
        let feed = FeedReader(pool: self.node.pool)
        for model in self.models {
            self.expect(model.seq > 100)
            var times: [Int64: Timestamp] = [:]
            for row in try await self.node.rows("SELECT seq, at FROM changes WHERE user_id = $1", [.text(model.user.value)]) {
                let seq = try row.int8(0)
                self.expect(times[seq] == nil, "\(seq) twice")
                times[seq] = Timestamp(microseconds: try row.timestamptz(1))
            }
            self.expect(times.keys.sorted() == model.log.map(\.change.seq))

            let heard = self.node.recorder.changes(of: model.user)
            self.expect(heard.count == model.log.count)
            for (change, expected) in zip(heard, model.log) { try self.same(change, expected, times: times) }

            var at: Int64 = 0
            while at < model.seq {
                // In steps, from every so many-th change, each step up to the end or to the bound.
                let answer = try await feed.answer(model.user, after: StreamPosition(epoch: 1, seq: at))
                if model.seq - at > Int64(FeedReader.replayBound) {
                    self.expect(answer.changes == nil)
                } else {
                    self.expect(answer.changes?.count == Int(model.seq - at))
                    for (change, expected) in zip(answer.changes ?? [], model.log[Int(at)...]) {
                        try self.same(change, expected, times: times, isLogged: true)
                        let row = change.notification.flatMap { model.rows[$0] }
                        self.expect(change.body == row.map { Array($0.new.body.utf8) })
                    }
                    let counts = at == 0 ? (0, 0) : (model.log[Int(at) - 1].change.unread, model.log[Int(at) - 1].change.unseen)
                    self.expect(answer.countsAtStart! == counts)
                }
                self.expect(try decodeCounts(answer.customers) == model.customers)
                at += 1 + Int64(self.random.below(200))
            }

            var query = InboxQuery(user: model.user)
            query.limit = 200
            query.archived = .all
            for item in try await self.node.reader.page(query).items {
                self.expect(item.readAt == model.rows[item.id]?.readBy.flatMap { times[$0] }, "read_at of \(item)")
            }
        }
    }
}

extension FeedReader {
    func answer(_ user: UserID, after: StreamPosition?, whole: Bool = true) async throws -> FeedAnswer {
        try await withCheckedContinuation { continuation in
            self.read(FeedRequest(user: user, after: after, whole: whole) { continuation.resume(returning: $0) })
        }.get()
    }
}
