import NotificationCore
import PostgresClient
import TestServers
import Testing

@testable import NotificationStore

private let catalogue = try! Catalogue([
    Catalogue.Kind(name: "chat", events: Dictionary(uniqueKeysWithValues: (0..<40).map { ("e\($0)", Catalogue.Event()) })), Catalogue.Kind(name: "task"),
])

private func patch(_ text: String) throws -> PreferencesPatch {
    try PreferencesPatch(JSONParser.parse(Array(text.utf8)), catalogue: catalogue)
}

private func makeRequest(_ users: [String], _ members: String = "") throws -> NotifyRequest {
    let list = users.map { "\"\($0)\"" }.joined(separator: ",")
    let json = try JSONParser.parse(Array("{\"user_ids\":[\(list)],\"type\":\"chat\",\"title\":\"t\"\(members)}".utf8))
    return try NotifyRequest(json: json, catalogue: catalogue, now: .now())
}

extension Store {
    @Suite("What is known of recipients")
    struct RecipientTests {
        private let u = user("u")

        private func say(_ text: String, _ node: Node, _ user: UserID, customer: String? = nil) async throws {
            let patch = try patch(text)
            _ = try await PreferencesStore(pool: node.pool).change(of: user, customer: customer.flatMap { CustomerID($0) }) { stored throws(ValidationError) in
                try patch.applied(to: stored)
            }
        }

        @Test("changes that many make at the same time all count, and preferences that say nothing leave no row")
        func concurrent() async throws {
            let database = try await Database.migrated()
            try await database.withNode(connections: 4) { node async throws in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for index in 0..<12 {
                        group.addTask { try await self.say("{\"types\":{\"chat\":{\"events\":{\"e\(index)\":{\"sms\":true}}}}}", node, u) }
                    }
                    try await group.waitForAll()
                }
                let store = PreferencesStore(pool: node.pool)
                #expect(try await store.preferences(of: u, customer: nil).types["chat"]?.events.count == 12)
                #expect(try await store.preferences(of: u, customer: CustomerID("c")).isEmpty)
                #expect(try await store.preferences(of: user("U"), customer: nil).isEmpty)
                try await self.say("{\"types\":null}", node, u)
                #expect(try await node.number("SELECT count(*) FROM preferences") == 0)
                try await self.say("{}", node, u)
                #expect(try await node.number("SELECT count(*) FROM preferences") == 0)
            }
        }

        @Test("a user says something about at most a thousand customers, and may still change what was said")
        func manyCustomers() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                _ = try await node.rows("INSERT INTO preferences SELECT 'u', 'c' || i, '{\"channels\":{\"sms\":true}}', now() FROM generate_series(1, 1001) i")
                var isRefused = false
                do {
                    try await self.say("{\"sms\":false}", node, u, customer: "one more")
                } catch PreferencesError.tooManyCustomers {
                    isRefused = true
                }
                #expect(isRefused)
                try await self.say("{\"sms\":false}", node, u, customer: "c7")
                #expect(try await PreferencesStore(pool: node.pool).preferences(of: u, customer: CustomerID("c7")).channels[.sms] == false)
                try await self.say("{\"sms\":false}", node, user("another"), customer: "one more")
            }
        }

        @Test("each request learns of its own users and its own customer, and of nobody else; ids are told apart by their bytes")
        func found() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                let (composed, decomposed) = (user("\u{E9}"), user("e\u{301}"))
                try await self.say("{\"sms\":true}", node, u)
                try await self.say("{\"email\":false}", node, u, customer: "c")
                try await self.say("{\"email\":false}", node, composed)
                let contacts = ContactStore(pool: node.pool)
                let contact = Contact(email: "a@b.c", phone: "+12345", locale: "fr-CA", timezone: TimeZoneName("Europe/Paris"), telegramChatID: "-5")
                _ = try await contacts.put(contact, of: decomposed)
                let found = try await node.recipients.read([u, composed, decomposed, user("nobody")], customer: CustomerID("c"))
                #expect(found.count == 3)
                #expect(found[u]?.own?.channels[.sms] == true && found[u]?.customer?.channels[.email] == false && found[u]?.contact == nil)
                #expect(found[composed]?.own?.channels[.email] == false && found[composed]?.contact == nil)
                #expect(found[decomposed]?.own == nil && found[decomposed]?.contact == contact)
                #expect(try await node.recipients.read([u], customer: CustomerID("C"))[u]?.customer == nil)
                #expect(try await node.recipients.read([u], customer: nil)[u]?.customer == nil)
                #expect(try await contacts.delete(of: decomposed))
                #expect(try await !contacts.delete(of: decomposed))
                #expect(try await contacts.contact(of: decomposed) == nil)
                // One that cannot be read any more keeps nobody from anything.
                _ = try await node.rows("UPDATE preferences SET body = 'no JSON' WHERE user_id = 'u'")
                #expect(try await node.recipients.read([u], customer: nil)[u]?.own == nil)
            }
        }

        @Test("what is asked while a query is under way shares the next one, and too much is turned away")
        func shared() async throws {
            let database = try await Database.migrated()
            var settings = RecipientReader.Settings()
            settings.queue = 400
            let node = Node(configuration: database.configuration, settings: InboxWriter.Settings(), connections: 1, recipients: settings)
            try await node.start()
            try await self.say("{\"sms\":true}", node, user("u7"))
            let held = try await OpenTransaction(database, "LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE")
            let (answers, refusals, found) = (Counter(), Counter(), Counter())
            func ask(_ name: String) {
                node.recipients.read([user(name)], customer: nil) { result in
                    switch result {
                    case .success(let recipients):
                        if recipients[user(name)]?.own?.channels[.sms] == true { found.add() }
                        answers.add()
                    case .failure(let error):
                        #expect(error.code == .overloaded)
                        refusals.add()
                    }
                }
            }
            ask("first")
            await until { node.recipients.counters.waiting == 0 }
            for index in 0..<401 { ask("u\(index)") }
            #expect(refusals.value == 1 && node.recipients.counters.refused == 1 && node.recipients.counters.waiting == 400)
            try await held.commit()
            await until { answers.value == 401 }
            #expect(found.value == 1)
            #expect(node.recipients.counters.queries == 2 && node.recipients.counters.lookups == 401 && node.recipients.counters.waiting == 0)
            // Any number, by the portion.
            let users = (0..<2500).map { user("u\($0)") }
            let all: (users: Int, said: Int) = try await withCheckedContinuation { continuation in
                node.recipients.fold(users[...], customer: nil, into: (users: 0, said: 0), { ($0.users + $1.count, $0.said + $2.count) }) { continuation.resume(returning: $0) }
            }.get()
            #expect(all == (2500, 1) && node.recipients.counters.queries == 5)
            await node.close()
        }

        @Test("a plan gives each user the channels that are left; what was suppressed is written with the notification, also of those left out")
        func planned() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                try await self.say("{\"in_app\":false}", node, user("off"))
                try await self.say("{\"in_app\":false,\"sms\":true}", node, user("sms"))
                try await self.say("{\"sms\":true}", node, user("both"))
                let contacts = ContactStore(pool: node.pool)
                for name in ["sms", "both"] { _ = try await contacts.put(Contact(phone: "+12345", locale: "fr"), of: user(name)) }
                let planner = NotifyPlanner(recipients: node.recipients, configured: [.inApp, .sms])
                let request = try makeRequest(["off", "a", "sms", "both", "b"], ",\"customer_id\":\"c\",\"event\":\"e1\"")
                let plan = try await planner.plan(request)
                #expect(plan.entries.map(\.user.value) == ["a", "sms", "both", "b"])
                #expect(plan.skipped.map(\.user.value) == ["off"] && plan.skipped[0].reason == .preference)
                #expect(zip(plan.commands, plan.entries).allSatisfy { $0.user == $1.user } && plan.commands.count == 5)
                _ = try await node.writer.write(plan.commands)
                let rows = try await node.rows("SELECT user_id, channel, endpoint, state, reason, type, event, customer_id, notification_id FROM deliveries ORDER BY user_id, channel")
                let written = try rows.map { row in
                    try [row.text(0), row.text(1), row.text(2), row.text(3), row.optionalText(4) ?? "-", row.text(5), row.text(6), row.text(7)].joined(separator: " ")
                }
                #expect(written == [
                    "both sms +12345 queued - chat e1 c", "off in_app  suppressed preference chat e1 c", "sms in_app  suppressed preference chat e1 c",
                    "sms sms +12345 queued - chat e1 c",
                ])
                #expect(try await node.number("SELECT count(*) FROM notifications WHERE seq IS NOT NULL") == 3)
                #expect(try await node.number("SELECT count(*) FROM notifications WHERE seq IS NULL AND user_id = 'sms'") == 1)
                #expect(try await node.number("SELECT count(*) FROM notifications WHERE user_id = 'off'") == 0)
                let deliveries = DeliveryStore(pool: node.pool)
                func channels(_ index: Int, scope: [String]? = nil) async throws -> [String]? {
                    try await deliveries.deliveries(of: plan.entries[index].id, user: plan.entries[index].user, scope: scope)?.map { "\($0.channel) \($0.state)" }
                }
                #expect(try await channels(0) == ["in_app delivered"])
                #expect(try await channels(1) == ["in_app suppressed", "sms queued"])
                #expect(try await channels(2, scope: ["c"]) == ["in_app delivered", "sms queued"])
                #expect(try await channels(2, scope: ["d"]) == nil)
                #expect(try await deliveries.deliveries(of: plan.entries[0].id, user: user("b"), scope: nil) == nil)
                #expect(try await node.audit() == [])

                // Quiet hours are in the row; the end of its retention takes it.
                try await self.say("{\"quiet_hours\":{\"start\":\"00:00\",\"end\":\"23:59\"}}", node, user("both"))
                let now = Timestamp("2026-01-15T12:00:00Z")!
                _ = try await node.writer.write(planner.plan(self.request(of: "both"), now: now).commands)
                #expect(try await node.number("SELECT count(*) FROM deliveries WHERE not_before = '2026-01-15T23:59:00Z'") == 1)
                _ = try await node.rows("UPDATE deliveries SET created_at = now() - interval '91 days' WHERE user_id = 'both'")
                // What has still to be sent stays.
                try await Retention(pool: node.pool).run(days: 90)
                #expect(try await node.number("SELECT count(*) FROM deliveries WHERE user_id = 'both' AND state = 'queued'") > 0)
                _ = try await node.rows("UPDATE deliveries SET state = 'sent' WHERE user_id = 'both' AND state = 'queued'")
                try await Retention(pool: node.pool).run(days: 90)
                #expect(try await node.number("SELECT count(*) FROM deliveries") == 3)
            }
        }

        private func request(of user: String) throws -> NotifyRequest { try makeRequest([user]) }

        @Test("a request whose users are all left out is carried out once under its key as well")
        func claimed() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                try await self.say("{\"in_app\":false}", node, u)
                let planner = NotifyPlanner(recipients: node.recipients)
                let claim = IdempotencyClaim(owner: .make(), route: "notify", key: "k", digest: [1], answer: "{}")
                for round in 0..<2 {
                    let plan = try await planner.plan(self.request(of: "u"))
                    #expect(plan.entries.isEmpty && plan.skipped.count == 1 && plan.commands.count == 1)
                    let outcomes = try await withCheckedContinuation { continuation in
                        node.writer.submit(plan.commands, claim: claim) { continuation.resume(returning: $0) }
                    }.get()
                    #expect(outcomes.map(\.status) == [round == 0 ? .unchanged : .claimed])
                }
                #expect(try await node.number("SELECT count(*) FROM deliveries") == 1)
                #expect(try await node.number("SELECT count(*) FROM idempotency") == 1)
                #expect(try await IdempotencyStore(pool: node.pool).find(claim)?.answer == "{}")
                #expect(node.recorder.all.allSatisfy { $0.changes.isEmpty })
            }
        }

        @Test("with the database away nobody is planned for, and all who wait are told")
        func away() async throws {
            let database = try await Database.alone()
            let node = Node(configuration: database.configuration, settings: InboxWriter.Settings(), connections: 1)
            try await node.start()
            let planner = NotifyPlanner(recipients: node.recipients)
            database.server.stop()
            await until { !node.recipients.isAvailable }
            let failures = Counter()
            for _ in 0..<2000 {
                planner.plan(try self.request(of: "u"), users: [u], now: .now()) { result in
                    if case .failure(let error) = result, error.code == .unavailable { failures.add() }
                }
            }
            await until { failures.value == 2000 }
            #expect(node.recipients.counters.waiting == 0)
            await node.close()
        }
    }
}

extension NotifyPlanner {
    fileprivate func plan(_ request: NotifyRequest, now: Timestamp = .now()) async throws -> NotifyPlan {
        try await withCheckedContinuation { continuation in
            self.plan(request, users: request.users, now: now) { continuation.resume(returning: $0) }
        }.get()
    }
}
