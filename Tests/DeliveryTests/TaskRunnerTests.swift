import Foundation
import Logging
import NotificationCore
import NotificationStore
import PostgresClient
import Synchronization
import Testing

@testable import Delivery

private let catalogue = try! Catalogue([
    Catalogue.Kind(
        name: "chat",
        events: [
            "said": Catalogue.Event(channels: [.inApp, .email, .sms]),
            "gathered": Catalogue.Event(digest: .hourly),
            "mentioned": Catalogue.Event(channels: [.inApp, .email], email: Catalogue.EmailPolicy(delaySeconds: 1, unlessRead: true)),
        ])
])

/// Until it is so.
private func until(_ condition: () async throws -> Bool) async throws {
    while try await !condition() {
        try Task.checkCancellation()
        try await Task.sleep(for: .milliseconds(5))
    }
}

/// A node's store, and what it takes to send.
private struct Bench: Sendable {
    let pool: PostgresPool
    let writer: InboxWriter
    let recipients: RecipientReader
    let notifier: Notifier

    static func run(_ body: (Bench) async throws -> Void) async throws {
        let configuration = try await migratedDatabase()
        let identity = ClusterIdentity()
        let pool = PostgresPool(configuration: configuration, size: 3, name: "pool", logger: silent)
        let writer = InboxWriter(configuration: configuration, identity: identity, observer: Nobody(), logger: silent)
        let recipients = RecipientReader(configuration: configuration, identity: identity, logger: silent)
        pool.start()
        writer.start()
        recipients.start()
        try await pool.waitUntilConnected()
        try await until { writer.isAvailable && recipients.isAvailable }
        let planner = NotifyPlanner(recipients: recipients, configured: [.inApp, .email, .sms])
        let bench = Bench(pool: pool, writer: writer, recipients: recipients, notifier: Notifier(planner: planner, writer: writer))
        let result: Result<Void, any Error>
        do { result = .success(try await body(bench)) } catch { result = .failure(error) }
        await writer.close()
        await recipients.close()
        await pool.close()
        try result.get()
    }

    func contact(_ users: [String]) async throws {
        for name in users {
            let contact = Contact(email: "\(name)@example.org", phone: "+4912345")
            _ = try await ContactStore(pool: self.pool).put(contact, of: UserID(name)!)
        }
    }

    @discardableResult
    func notify(_ users: [String], _ members: String = "") async throws -> [NotificationID] {
        let list = users.map { "\"\($0)\"" }.joined(separator: ",")
        let json = try JSONParser.parse(Array("{\"user_ids\":[\(list)],\"type\":\"chat\",\"event\":\"said\",\"title\":\"Hello\"\(members)}".utf8))
        let request = try NotifyRequest(json: json, catalogue: catalogue, now: .now())
        return try await withCheckedThrowingContinuation { continuation in
            self.notifier.notify(request, now: .now()) { continuation.resume(with: $0.map { $0.plan.entries.map(\.id) }) }
        }
    }

    func runner(
        _ channel: DeliveryChannel, _ sender: any ChannelSender, source: (any TaskSource)? = nil, _ change: (inout TaskRunnerSettings) -> Void = { _ in }
    ) -> TaskRunner<DeliveryHandler> {
        var settings = TaskRunnerSettings()
        settings.poll = .milliseconds(50)
        settings.retry = RetryPolicy(attempts: 3, base: .milliseconds(1))
        change(&settings)
        let handler = DeliveryHandler(channel, sender: sender, pool: self.pool, catalogue: { catalogue }, logger: silent)
        return TaskRunner(TaskQueue(channel), handler: handler, store: TaskStore(pool: self.pool), source: source, settings: settings, logger: silent)
    }

    /// `email sent 3`: how many deliveries of that channel are in that state.
    func states() async throws -> [String] {
        let statement = PostgresStatement(
            "SELECT concat_ws(' ', channel, state, reason, count(*)) FROM deliveries GROUP BY channel, state, reason ORDER BY 1", prepared: false)
        return try await self.pool.execute(statement).map { try $0.text(0) }
    }

    /// While the runners run.
    func with(_ runners: [any TaskWorker], _ body: () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for runner in runners { group.addTask { await runner.run() } }
            let result: Result<Void, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            group.cancelAll()
            try await group.waitForAll()
            try result.get()
        }
    }
}

private struct Nobody: CommitObserver {
    func committed(_ users: [CommittedChanges], done: @escaping @Sendable () -> Void) { done() }
}

/// Answers as it is told, and keeps what it was given.
private final class Script: ChannelSender {
    private let answers: @Sendable (OutgoingMessage, Int) async -> SendResult
    private let heard = Mutex<[OutgoingMessage]>([])

    init(_ answers: @escaping @Sendable (OutgoingMessage, Int) async -> SendResult = { _, _ in .sent(reference: nil) }) {
        self.answers = answers
    }

    var messages: [OutgoingMessage] { self.heard.withLock { $0 } }

    func send(_ message: OutgoingMessage) async -> SendResult {
        let attempt = self.heard.withLock { heard in
            heard.append(message)
            return heard.count { $0.deliveryID == message.deliveryID }
        }
        return await self.answers(message, attempt)
    }
}

/// Postgres's tasks, with a say in when its runner hears of what.
private final class Paced: TaskSource {
    private struct State {
        var calls = 0
        /// How often each was brought, and in which call last.
        var brought: [NotificationID: (times: Int, call: Int)] = [:]
    }

    private let store: TaskStore
    private let state = Mutex(State())
    private let claimed: @Sendable (Paced, [QueuedTask]) async -> Void
    private let settled: @Sendable (Paced, NotificationID) async -> Void

    init(
        _ store: TaskStore, claimed: @escaping @Sendable (Paced, [QueuedTask]) async -> Void = { _, _ in },
        settled: @escaping @Sendable (Paced, NotificationID) async -> Void = { _, _ in }
    ) {
        self.store = store
        self.claimed = claimed
        self.settled = settled
    }

    func times(_ task: NotificationID) -> Int { self.state.withLock { $0.brought[task]?.times ?? 0 } }

    /// Whether the runner has dealt with the claim that brought it last: it asks for one at a time.
    func isDealtWith(_ task: NotificationID) -> Bool { self.state.withLock { state in state.brought[task].map { state.calls > $0.call } ?? false } }

    func claim(_ claim: TaskStore.Claim) async throws(StoreError) -> [QueuedTask] {
        let call = self.state.withLock { state in
            state.calls += 1
            return state.calls
        }
        let tasks = try await self.store.claim(claim)
        self.state.withLock { state in
            for task in tasks { state.brought[task.id] = ((state.brought[task.id]?.times ?? 0) + 1, call) }
        }
        await self.claimed(self, tasks)
        return tasks
    }

    func settle(_ task: NotificationID) async { await self.settled(self, task) }
    func poke() {}
    func extend(_ tasks: [NotificationID]) async {}
    func run(_ wake: @escaping @Sendable () -> Void) async {}
    func drain() {}
    func close() async {}
}

/// Everything that talks to a real server, one after the other.
@Suite("sending", .serialized, .timeLimit(.minutes(1)))
struct TaskRunnerTests {
    @Test("a sender that hangs delays neither the inbox nor another channel")
    func hangs() async throws {
        try await Bench.run { bench in
            let users = (0..<40).map { "u\($0)" }
            try await bench.contact(users)
            let hanging = Script { _, _ in
                do { try await Task.sleep(for: .seconds(3600)) } catch { return .later("stopped", after: nil) }
                return .sent(reference: nil)
            }
            let quick = Script()
            let runners = [bench.runner(.email, hanging) { $0.concurrency = 8; $0.grace = .milliseconds(10) }, bench.runner(.sms, quick)]
            try await bench.with(runners) {
                for round in 1...3 {
                    try await bench.notify(users)
                    // In the inbox by now; the texts follow, whatever the e-mails do.
                    let read = PostgresStatement("SELECT count(*) FROM changes WHERE kind = 1", prepared: false)
                    #expect(try await bench.pool.execute(read)[0].int8(0) == Int64(40 * round))
                    for runner in runners { runner.poke() }
                    try await until { quick.messages.count == 40 * round }
                    try await until { hanging.messages.count == 8 }
                }
                try await until { try await bench.states().contains("sms sent 120") }
                #expect(try await bench.states() == ["email queued 112", "email sending 8", "sms sent 120"])
                #expect(runners[0].counters.underWay == 8)
            }
        }
    }

    @Test("what fails is tried again until the last attempt, what is refused is not, and each says so")
    func fails() async throws {
        try await Bench.run { bench in
            let users = ["good", "flaky", "broken", "refused"]
            try await bench.contact(users)
            let sender = Script { message, attempt in
                switch message.userID.value {
                case "flaky": attempt < 3 ? .later("busy", after: nil) : .delivered(reference: "r")
                case "broken": .later("no answer", after: nil)
                case "refused": .refused("no such mailbox")
                default: .sent(reference: "m-1")
                }
            }
            let runner = bench.runner(.email, sender)
            try await bench.with([runner]) {
                try await bench.notify(users, ",\"channels\":[\"email\"]")
                try await until { try await bench.states().allSatisfy { !$0.contains("queued") && !$0.contains("sending") } }
            }
            #expect(try await bench.states() == ["email dead no answer 1", "email delivered 1", "email failed no such mailbox 1", "email sent 1"])
            #expect(Dictionary(grouping: sender.messages, by: \.userID.value).mapValues(\.count) == ["good": 1, "flaky": 3, "broken": 3, "refused": 1])
            // The same over all attempts.
            #expect(Set(sender.messages.map(\.deliveryID)).count == 4)
            #expect(runner.counters == TaskCounters(attempts: 8, states: ["sent": 1, "delivered": 1, "failed": 1, "dead": 1, "queued": 4], underWay: 0))
            #expect(try await TaskStore(pool: bench.pool).deadLetters(.init()).map(\.task.user?.value) == ["broken"])
            let message = try #require(sender.messages.first { $0.userID.value == "good" })
            #expect(message.subject == "Hello" && message.text == "Hello" && message.address == "good@example.org" && message.html == nil)
        }
    }

    @Test("what is gone, expired, read in time, or has no address any more is not sent, and it is said why")
    func suppressed() async throws {
        try await Bench.run { bench in
            let users = ["gone", "late", "reader", "sleeper", "moved", "nowhere"]
            try await bench.contact(users)
            let gone = try await bench.notify(["gone"], ",\"channels\":[\"in_app\",\"email\"]")[0]
            try await bench.notify(["late", "moved", "nowhere"], ",\"channels\":[\"in_app\",\"email\"],\"expires_at\":\"2100-01-01T00:00:00Z\"")
            let mention = ",\"channels\":[\"in_app\",\"email\"],\"event\":\"mentioned\""
            let read = try await bench.notify(["reader"], mention)[0]
            try await bench.notify(["sleeper"], mention)
            _ = try await bench.writer.write([
                InboxCommand(user: UserID("gone")!, action: .delete(gone, scope: nil)),
                InboxCommand(user: UserID("reader")!, action: .setFlags(read, read: true, seen: nil, archived: nil, scope: nil)),
            ])
            _ = try await bench.pool.execute(
                PostgresStatement("UPDATE notifications SET expires_at = now() - interval '1 second' WHERE user_id = 'late'", prepared: false))
            let contacts = ContactStore(pool: bench.pool)
            _ = try await contacts.put(Contact(phone: "+4912345"), of: UserID("nowhere")!)
            _ = try await contacts.put(Contact(email: "new@example.org"), of: UserID("moved")!)
            let sender = Script()
            try await bench.with([bench.runner(.email, sender)]) {
                try await until { try await bench.states().allSatisfy { !$0.contains("queued") && !$0.contains("sending") } }
            }
            #expect(
                try await bench.states() == [
                    "email sent 2", "email suppressed expired 1", "email suppressed gone 1", "email suppressed no_contact 1", "email suppressed read 1",
                ])
            #expect(Set(sender.messages.map(\.address)) == ["new@example.org", "sleeper@example.org"])
        }
    }

    @Test("what was turned off meanwhile is not sent, and what is tried again in quiet hours waits for their end; what is urgent does neither")
    func preferences() async throws {
        try await Bench.run { bench in
            let users = ["off", "other", "quiet", "urgent"]
            try await bench.contact(users)
            let preferences = PreferencesStore(pool: bench.pool)
            let clock = (Timestamp.now().seconds / 60 + 1439) % 1440
            let quiet = try Preferences(stored: "{\"quiet_hours\":{\"start\":\"\(Self.clock(clock))\",\"end\":\"\(Self.clock(clock + 120))\"}}")
            let sender = Script { message, attempt in attempt < 2 ? .later("busy", after: nil) : .sent(reference: nil) }
            // By the customer that is not this one's, it is off for nobody.
            try await bench.notify(Array(users.dropLast()), ",\"channels\":[\"email\"]")
            try await bench.notify(["urgent"], ",\"channels\":[\"email\"],\"priority\":\"URGENT\"")
            _ = try await preferences.change(of: UserID("off")!, customer: nil) { UnsubscribeScope(user: UserID("off")!, channel: .email, types: ["chat"], customers: []).applied(to: $0) }
            _ = try await preferences.change(of: UserID("other")!, customer: CustomerID("c")) { var changed = $0; changed.channels[.email] = false; return changed }
            for user in ["quiet", "urgent"] { _ = try await preferences.change(of: UserID(user)!, customer: nil) { _ in quiet } }
            try await bench.with([bench.runner(.email, sender)]) {
                try await until { try await bench.states() == ["email queued 1", "email sent 2", "email suppressed preference 1"] }
            }
            #expect(Set(sender.messages.map(\.userID.value)) == ["other", "urgent"])
            // No attempt; and it is said until when it waits.
            let waiting = PostgresStatement(
                "SELECT t.attempts, d.not_before = t.run_at AND t.run_at BETWEEN now() + interval '117 min' AND now() + interval '119 min' FROM tasks t JOIN deliveries d USING (user_id, notification_id)", prepared: false)
            #expect(try await bench.pool.execute(waiting).map { "\(try $0.int2(0)) \(try $0.bool(1))" } == ["0 true"])
        }
    }

    private static func clock(_ minutes: Int64) -> String {
        func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return two(minutes / 60 % 24) + ":" + two(minutes % 60)
    }

    @Test("a lease that is lost and comes back to the same worker begins no second attempt beside the first")
    func lostLease() async throws {
        try await Bench.run { bench in
            try await bench.contact(["u"])
            let (gate, open) = AsyncStream.makeStream(of: Void.self)
            let sender = Script { _, _ in
                for await _ in gate { break }
                return .sent(reference: nil)
            }
            let runner = bench.runner(.email, sender) { $0.lease = 3600 }
            try await bench.with([runner]) {
                try await bench.notify(["u"], ",\"channels\":[\"email\"]")
                runner.poke()
                try await until { sender.messages.count == 1 }
                // A promoted server's clock is an hour ahead, and again: its first worker to ask is this one.
                _ = try await bench.pool.execute(PostgresStatement("UPDATE tasks SET run_at = now(), in_doubt = true", prepared: false))
                try await until {
                    try await bench.pool.execute(PostgresStatement("SELECT count(*) FROM tasks WHERE losses = 1 AND state = 2", prepared: false))[0].int8(0) == 1
                }
                open.yield()
                try await until { try await bench.states() == ["email sent 1"] }
            }
            #expect(sender.messages.count == 1)
        }
    }

    @Test("what is claimed again at the very moment at which its attempt ends is attempted then, and is nobody's at no time")
    func claimedAtItsEnd() async throws {
        try await Bench.run { bench in
            try await bench.contact(["u"])
            let sender = Script { _, attempt in attempt < 2 ? .later("busy", after: nil) : .sent(reference: nil) }
            // It is noted that it is to be tried again, and the runner has not forgotten its first attempt when it has it again.
            let source = Paced(
                TaskStore(pool: bench.pool),
                settled: { source, task in
                    if source.times(task) > 1 { return }
                    while source.times(task) < 2 || !source.isDealtWith(task) {
                        do { try await Task.sleep(for: .milliseconds(5)) } catch { return }
                    }
                })
            let runner = bench.runner(.email, sender, source: source) {
                $0.retry = RetryPolicy(attempts: 3, base: .zero)
                $0.lease = 3600
            }
            try await bench.with([runner]) {
                try await bench.notify(["u"], ",\"channels\":[\"email\"]")
                runner.poke()
                try await until { try await bench.states() == ["email sent 1"] && runner.counters.underWay == 0 }
            }
            #expect(sender.messages.count == 2)
        }
    }

    @Test("a claim that brings what has ended since it was asked for begins nothing")
    func endedMeanwhile() async throws {
        try await Bench.run { bench in
            try await bench.contact(["u"])
            let (gate, open) = AsyncStream.makeStream(of: Void.self)
            let sender = Script { _, _ in
                for await _ in gate { break }
                return .sent(reference: nil)
            }
            let isEnded = Atomic(false)
            let source = Paced(
                TaskStore(pool: bench.pool),
                claimed: { source, tasks in
                    guard let task = tasks.first, source.times(task.id) == 2 else { return }
                    while !isEnded.load(ordering: .acquiring) {
                        do { try await Task.sleep(for: .milliseconds(5)) } catch { return }
                    }
                })
            let runner = bench.runner(.email, sender, source: source) { $0.lease = 3600 }
            try await bench.with([runner]) {
                try await bench.notify(["u"], ",\"channels\":[\"email\"]")
                runner.poke()
                try await until { sender.messages.count == 1 }
                let task = try #require(NotificationID(sender.messages[0].deliveryID))
                _ = try await bench.pool.execute(PostgresStatement("UPDATE tasks SET state = 0, lease_owner = NULL", prepared: false))
                try await until { source.times(task) == 2 }
                open.yield()
                try await until { runner.counters.states["sent"] == 1 }
                isEnded.store(true, ordering: .releasing)
                try await until { source.isDealtWith(task) && runner.counters.underWay == 0 }
                #expect(try await bench.states() == ["email sent 1"])
            }
            #expect(sender.messages.count == 1)
        }
    }

    @Test("a shutdown waits for what is being sent, and leaves the rest to others at once")
    func drains() async throws {
        try await Bench.run { bench in
            let users = (0..<30).map { "u\($0)" }
            try await bench.contact(users)
            let (gate, opener) = AsyncStream<Void>.makeStream()
            let first = Script { _, _ in
                for await _ in gate {}
                return .sent(reference: nil)
            }
            let second = Script()
            let runner = bench.runner(.email, first) { $0.concurrency = 5 }
            try await bench.notify(users, ",\"channels\":[\"email\"]")
            let running = Task { await runner.run() }
            try await until { first.messages.count == 5 }
            running.cancel()
            let other = bench.runner(.email, second)
            try await bench.with([other]) {
                try await until { try await bench.states() == ["email sending 5", "email sent 25"] }
                opener.finish()
                await running.value
                #expect(try await bench.states() == ["email sent 30"])
            }
            #expect(second.messages.count == 25 && first.messages.count == 5)
        }
    }

    @Test("two workers send each once, however many there are")
    func many() async throws {
        try await Bench.run { bench in
            let users = (0..<300).map { "u\($0)" }
            try await bench.contact(users)
            let sender = Script()
            try await bench.with([bench.runner(.email, sender), bench.runner(.email, sender)]) {
                for customer in ["a", "b", "c"] { try await bench.notify(users, ",\"channels\":[\"email\"],\"customer_id\":\"\(customer)\"") }
                try await until { try await bench.states() == ["email sent 900"] }
            }
            #expect(sender.messages.count == 900 && Set(sender.messages.map(\.deliveryID)).count == 900)
        }
    }

    @Test("what was gathered for a user goes in one e-mail, a single one as it would by itself; they fail and are tried again together")
    func digests() async throws {
        try await Bench.run { bench in
            let users = ["many", "one", "flaky"]
            try await bench.contact(users)
            let member = ",\"channels\":[\"email\"],\"event\":\"gathered\",\"content\":\"<b> & c\""
            for number in 1...3 { try await bench.notify(["many", "flaky"], member + ",\"customer_id\":\"c\",\"link_url\":\"https://example.org/\(number)\"") }
            let single = try await bench.notify(users, member)
            let gone = try await bench.notify(["many"], member)[0]
            _ = try await bench.writer.write([InboxCommand(user: UserID("many")!, action: .retire(gone))])
            #expect(try await bench.states() == ["email queued 10"])
            _ = try await bench.pool.execute(PostgresStatement("UPDATE tasks SET run_at = now()", prepared: false))
            let sender = Script { message, attempt in message.userID.value == "flaky" && attempt < 3 ? .later("busy", after: nil) : .sent(reference: nil) }
            let runners = (0..<2).map { _ in
                var settings = TaskRunnerSettings()
                settings.takesWholeKeys = true
                settings.poll = .milliseconds(50)
                settings.retry = RetryPolicy(attempts: 3, base: .milliseconds(1))
                let handler = DigestHandler(sender: sender, pool: bench.pool, catalogue: { catalogue }, logger: silent) {
                    $0.types.joined(separator: ",") + " for " + $0.customers.joined(separator: ",")
                }
                return TaskRunner(.digest, handler: handler, store: TaskStore(pool: bench.pool), settings: settings, logger: silent)
            }
            try await bench.with(runners) {
                try await until { try await bench.states() == ["email sent 9", "email suppressed gone 1"] }
            }
            #expect(Dictionary(grouping: sender.messages, by: \.userID.value).mapValues(\.count) == ["many": 1, "one": 1, "flaky": 3])
            let one = try #require(sender.messages.first { $0.userID.value == "one" })
            #expect(one.subject == "Hello" && one.text == "<b> & c" && one.html == nil && single.contains(one.notificationID))
            let many = try #require(sender.messages.first { $0.userID.value == "many" })
            #expect(many.subject == "Hello (+3)" && many.text?.contains("Hello\n<b> & c\n\nhttps://example.org/2") == true)
            #expect(many.html?.components(separatedBy: "<li>").count == 5 && many.html?.contains("&lt;b&gt; &amp; c<br>") == true)
            #expect(Set(sender.messages.filter { $0.userID.value == "flaky" }.map(\.deliveryID)).count == 1)
            // What goes out as one is one attempt.
            #expect(runners.reduce(0) { $0 + $1.counters.attempts } == sender.messages.count)
            // It unsubscribes from what is in it.
            #expect(many.unsubscribeURL == "chat for c" && one.unsubscribeURL == "chat for ")
        }
    }
}
