import NotificationCore
import PostgresClient
import TestServers
import Testing

@testable import NotificationStore

private let catalogue = try! Catalogue([Catalogue.Kind(name: "chat", events: ["e": Catalogue.Event()])])

private func request(_ users: String..., channels: String = "") throws -> NotifyRequest {
    let list = users.map { "\"\($0)\"" }.joined(separator: ",")
    let json = try JSONParser.parse(Array("{\"user_ids\":[\(list)],\"type\":\"chat\",\"title\":\"t\"\(channels)}".utf8))
    return try NotifyRequest(json: json, catalogue: catalogue, now: .now())
}

extension Notifier {
    fileprivate func notify(_ request: NotifyRequest, claim: IdempotencyClaim? = nil) async throws -> Notified {
        try await withCheckedContinuation { continuation in
            self.notify(request, claim: claim, now: .now()) { continuation.resume(returning: $0) }
        }.get()
    }
}

extension Store {
    @Suite("Notifying one user, of whom something may be known")
    struct NotifierTests {
        private func withNotifier(_ body: (Node, Notifier) async throws -> Void) async throws {
            let database = try await Database.migrated()
            try await database.withNode(lanes: 1) { node async throws in
                try await body(node, Notifier(planner: NotifyPlanner(recipients: node.recipients, configured: [.inApp, .sms]), writer: node.writer))
            }
        }

        private func prefer(_ text: String, _ node: Node, _ name: String) async throws {
            let patch = try PreferencesPatch(JSONParser.parse(Array(text.utf8)), catalogue: catalogue)
            _ = try await PreferencesStore(pool: node.pool).change(of: user(name), customer: nil) { stored throws(ValidationError) in try patch.applied(to: stored) }
        }

        @Test("nobody is asked about a user of whom nothing is known")
        func unknown() async throws {
            try await self.withNotifier { node, notifier in
                for seq in 1...3 {
                    let notified = try await notifier.notify(request("a"))
                    #expect(notified.outcomes.map(\.status) == [.changed] && notified.outcomes[0].head.position.seq == Int64(seq))
                }
                #expect(node.recipients.counters.queries == 0)
                #expect(notifier.counters.guesses == 3 && notifier.counters.wrongGuesses == 0)
            }
        }

        @Test("what is preferred, and where one is reached, holds for the next notification, and is asked for at once from then on")
        func known() async throws {
            try await self.withNotifier { node, notifier in
                _ = try await notifier.notify(request("a"))
                try await self.prefer("{\"in_app\":false}", node, "a")
                for _ in 0..<2 {
                    let notified = try await notifier.notify(request("a"))
                    #expect(notified.plan.entries.isEmpty && notified.plan.skipped.map(\.reason) == [.preference])
                }
                #expect(notifier.counters.guesses == 2 && notifier.counters.wrongGuesses == 1 && notifier.counters.known == 1)
                _ = try await ContactStore(pool: node.pool).put(Contact(phone: "+12345"), of: user("b"))
                let notified = try await notifier.notify(request("b", channels: ",\"channels\":[\"in_app\",\"sms\"]"))
                #expect(notified.outcomes.map(\.status) == [.changed])
                // What the guess would have written, that there was no contact, is not there.
                let rows = try await node.rows("SELECT user_id, channel, state FROM deliveries ORDER BY user_id, channel")
                let written = try rows.map { try [$0.text(0), $0.text(1), $0.text(2)].joined(separator: " ") }
                #expect(written == ["a in_app suppressed", "a in_app suppressed", "b sms queued"])
                #expect(try await node.number("SELECT count(*) FROM notifications") == 2)
                #expect(try await node.audit() == [])
            }
        }

        @Test("a guess that is left out leaves its claim behind for nobody; the answer that is remembered is the one that was given")
        func claimed() async throws {
            try await self.withNotifier { node, notifier in
                try await self.prefer("{\"in_app\":false}", node, "a")
                let claim = IdempotencyClaim(owner: .make(), route: "notify", key: "k", digest: [1], answer: "")
                let first = try await notifier.notify(request("a"), claim: claim)
                #expect(first.plan.skipped.count == 1 && first.outcomes.map(\.status) == [.unchanged])
                #expect(try await node.number("SELECT count(*) FROM idempotency") == 1)
                let stored = try #require(try await IdempotencyStore(pool: node.pool).find(claim))
                #expect(stored.answer == String(decoding: NotifyAnswer(first.plan).encode(), as: UTF8.self))
                let again = try await notifier.notify(request("a"), claim: claim)
                #expect(again.outcomes.map(\.status) == [.claimed])
                #expect(try await node.number("SELECT count(*) FROM deliveries") == 1)
            }
        }

        @Test("of many requests in one batch only those for known users are left out and planned again")
        func batch() async throws {
            try await self.withNotifier { node, notifier in
                for index in 0..<40 where index % 2 == 0 { try await self.prefer("{\"in_app\":false}", node, "u\(index)") }
                let owner = NotificationID.make()
                let skipped = try await withThrowingTaskGroup(of: (Int, Notifier.Notified).self) { group in
                    for index in 0..<40 {
                        let claim = index % 4 < 2 ? IdempotencyClaim(owner: owner, route: "notify", key: "k\(index)", digest: [1], answer: "") : nil
                        group.addTask { (index, try await notifier.notify(request("u\(index)"), claim: claim)) }
                    }
                    var skipped: Set<Int> = []
                    for try await (index, notified) in group {
                        #expect(notified.outcomes.map(\.status) == [index % 2 == 0 ? .unchanged : .changed])
                        if notified.plan.skipped.count == 1 { skipped.insert(index) }
                    }
                    return skipped
                }
                #expect(skipped == Set((0..<40).filter { $0 % 2 == 0 }))
                #expect(try await node.number("SELECT count(*) FROM notifications") == 20)
                #expect(try await node.number("SELECT count(*) FROM idempotency") == 20)
                #expect(try await node.number("SELECT count(*) FROM idempotency WHERE answer LIKE '%preference%'") == 10)
                #expect(try await node.audit() == [])
            }
        }

        @Test("a request that has nothing for the inbox, or not yet, or for several users, is never guessed", arguments: [
            ",\"channels\":[\"sms\"]", ",\"deliver_at\":\"2999-01-01T00:00:00Z\"",
        ])
        func noGuess(_ members: String) async throws {
            try await self.withNotifier { node, notifier in
                let plan = NotifyPlanner(recipients: node.recipients, configured: [.inApp, .sms]).guess(try request("a", channels: members), user: user("a"), now: .now())
                #expect(plan == nil)
                _ = try await notifier.notify(request("a", "b"))
                #expect(node.recipients.counters.queries == 1 && notifier.counters.guesses == 0)
            }
        }
    }
}
