public import Logging
public import NotificationCore
public import NotificationStore
import Synchronization

/// Bounds and times of a queue that goes by way of SQS.
public struct SQSSettings: Sendable {
    /// Messages in this node's hands at once.
    public var concurrency = 64
    /// Tasks of one key that are in SQS at once.
    public var perKey = Int.max
    /// Of all, where two of a key are counted at most.
    public var bound = 2000
    /// Seconds for which nobody else gets a message that was received: the lease of its task.
    public var lease = 15
    /// Seconds after which a task whose message nobody has brought is handed over again.
    public var window = 300

    public init() {}
}

/// Tasks by way of Amazon SQS. Postgres keeps them; this node hands those that are ready over, and takes those whose messages it receives: see
/// `0010_hand_over.sql`.
///
/// Every step may fail, or be done twice: a task that was handed over and not sent is ready again when the lease ends; one that was sent and not noted is sent
/// twice, and taken once; a message whose node died comes again when it is no longer hidden, and by then so is its task's lease over; one that is lost is
/// sent again after the window; one that was not deleted comes again, and finds its task gone.
public final class SQSTasks: TaskSource {
    private struct State {
        var hands: SQSHands
        var counters = SQSCounters()
        var work: Task<Void, Never>?
        var isDraining = false
    }

    /// Tasks that are handed over in one go.
    private static let portion = 200
    /// Calls under way at once, of a kind.
    private static let callsAtOnce = 8
    /// Seconds until what SQS did not take is tried again.
    private static let pause = 2.0
    private static let longestPause = 10.0
    /// Of a receive without messages: the most that SQS knows.
    private static let longPoll = 20
    private static let depthPause: Duration = .seconds(15)

    private let client: SQSClient
    private let store: HandOverStore
    private let queue: TaskQueue
    private let settings: SQSSettings
    private let owner = NotificationID.make()
    private let logger: Logger
    private let state: Mutex<State>
    private let ready = Signal()
    private let room = Signal()
    private let errands = Signal()

    public init(_ queue: TaskQueue, client: SQSClient, store: HandOverStore, settings: SQSSettings, logger: Logger) {
        var logger = logger
        logger[metadataKey: "queue"] = "\(queue.rawValue)"
        self.queue = queue
        self.client = client
        self.store = store
        self.settings = settings
        self.logger = logger
        self.state = Mutex(State(hands: SQSHands(bound: settings.concurrency, hidden: settings.lease)))
    }

    public var counters: SQSCounters { self.state.withLock { $0.counters } }
    public var name: String { self.queue.rawValue }

    // MARK: For the runner

    public func poke() { self.ready.give() }

    public func claim(_ claim: TaskStore.Claim) async throws(StoreError) -> [QueuedTask] {
        while true {
            let batch = self.state.withLock { $0.hands.next(claim.limit, now: .now) }
            // What lay too long has made room.
            self.room.give()
            if batch.isEmpty { return [] }
            let tasks = try await self.take(batch, claim)
            // Duplicates are no reason to wait for the next message.
            if !tasks.isEmpty { return tasks }
        }
    }

    private func take(_ batch: [SQSHands.Received], _ claim: TaskStore.Claim) async throws(StoreError) -> [QueuedTask] {
        let taken: HandOverStore.Taken
        do throws(StoreError) {
            taken = try await self.store.take(batch.map(\.task), claim)
        } catch {
            self.state.withLock { $0.hands.giveBack(batch) }
            throw error
        }
        self.state.withLock { state in
            state.counters.stale += state.hands.took(Set(taken.tasks.map(\.id)), busy: taken.busy, of: batch)
            state.counters.postponed += taken.busy.count
        }
        self.errands.give()
        self.room.give()
        // They are no longer among those that are in SQS: there is room for the next ones of their keys.
        if !taken.tasks.isEmpty { self.ready.give() }
        return taken.tasks
    }

    public func settle(_ task: NotificationID) {
        self.state.withLock { $0.hands.settle(task) }
        self.errands.give()
        self.room.give()
    }

    public func extend(_ tasks: [NotificationID]) async {
        let receipts = self.state.withLock { $0.hands.receipts(of: tasks) }
        await self.inBatches(receipts) { receipts in await self.hide(receipts.map { ($0, self.settings.lease) }) }
    }

    public func run(_ wake: @escaping @Sendable () -> Void) async {
        let work = Task {
            await withDiscardingTaskGroup { group in
                group.addTask { await self.handOver() }
                group.addTask { await self.receive(wake) }
                group.addTask { await self.measure() }
            }
        }
        let isDraining = self.state.withLock { state in
            state.work = work
            return state.isDraining
        }
        if isDraining { work.cancel() }
        while await self.errands.wait() { await self.runErrands() }
        work.cancel()
        await work.value
    }

    public func drain() {
        let work = self.state.withLock { state in
            state.isDraining = true
            return state.work
        }
        work?.cancel()
    }

    public func close() async {
        await self.state.withLock { $0.work }?.value
        self.state.withLock { $0.hands.release() }
        await self.runErrands()
    }

    // MARK: Handing over

    private func handOver() async {
        var after = ""
        var pause = 0.0
        while await self.ready.wait() {
            while !Task.isCancelled {
                var claim = TaskStore.Claim(
                    queue: self.queue, owner: self.owner, lease: Double(self.settings.lease), limit: Self.portion, perKey: self.settings.perKey)
                claim.after = after
                let tasks: [(task: NotificationID, key: String)]
                do throws(StoreError) {
                    tasks = try await self.store.next(claim, bound: self.settings.bound)
                } catch {
                    self.logger.warning("tasks not handed over, tried again", metadata: ["error": "\(error)"])
                    break
                }
                if tasks.isEmpty { break }
                after = TaskSlots.last(of: tasks.map(\.key), after: after)
                let isAnySent = await self.send(tasks.map(\.task))
                if isAnySent {
                    pause = 0
                    continue
                }
                // It does not take any. The tasks wait in Postgres.
                pause = min(max(1, pause * 2), Self.longestPause)
                do { try await Task.sleep(for: .seconds(pause)) } catch { return }
            }
        }
    }

    /// Answers whether SQS took any.
    private func send(_ tasks: [NotificationID]) async -> Bool {
        let results = Results()
        await self.inBatches(tasks) { batch in
            do throws(SQSError) {
                results.add(batch, try await self.client.send(batch.map(TaskMessage.text)))
            } catch {
                self.state.withLock { $0.counters.errors += 1 }
                results.add(batch, Array(repeating: "\(error)", count: batch.count))
            }
        }
        let (noted, failure) = results.all
        let sent = noted.count { $0.isSent }
        self.state.withLock { state in
            state.counters.sent += sent
            state.counters.notSent += noted.count - sent
        }
        if let failure, !Task.isCancelled {
            self.logger.warning("messages not sent, tried again", metadata: ["messages": "\(noted.count - sent)", "error": "\(failure)"])
        }
        do throws(StoreError) {
            try await self.store.note(noted, of: self.queue, owner: self.owner, window: Double(self.settings.window), pause: Self.pause)
        } catch {
            // They are handed over once more when the lease ends.
            self.logger.warning("what was handed over is not noted", metadata: ["tasks": "\(noted.count)", "error": "\(error)"])
        }
        return sent > 0
    }

    // MARK: Receiving

    private func receive(_ wake: @escaping @Sendable () -> Void) async {
        var atOnce = 1
        var pause = 0.0
        while !Task.isCancelled {
            let room = self.state.withLock { $0.hands.room }
            if room == 0 {
                if await self.room.wait() { continue }
                return
            }
            // One that waits long is enough while nothing comes; more, as long as each brings all that it may.
            let calls = min(atOnce, (room + SQSCall.batch - 1) / SQSCall.batch)
            let limit = min(SQSCall.batch, room)
            let wait = calls == 1 ? Self.longPoll : 1
            let answers = await withTaskGroup(of: Int?.self) { group in
                for _ in 0..<calls { group.addTask { await self.receive(limit, wait: wait, wake) } }
                return await group.reduce(into: [Int?]()) { $0.append($1) }
            }
            let counts = answers.compactMap { $0 }
            if counts.isEmpty {
                pause = min(max(1, pause * 2), Self.longestPause)
                do { try await Task.sleep(for: .seconds(pause)) } catch { return }
            } else {
                pause = 0
            }
            atOnce = counts.count == calls && counts.allSatisfy { $0 == limit } ? min(atOnce * 2, Self.callsAtOnce) : 1
        }
    }

    /// Answers how many there were; nil: the call failed.
    private func receive(_ limit: Int, wait: Int, _ wake: @Sendable () -> Void) async -> Int? {
        let messages: [SQSMessage]
        do throws(SQSError) {
            messages = try await self.client.receive(limit, wait: wait, hidden: self.settings.lease)
        } catch {
            if !Task.isCancelled { self.failed("no messages received, tried again", error) }
            return nil
        }
        let now = ContinuousClock.now
        let ours = messages.compactMap { message in
            TaskMessage.task(message.body).map { SQSHands.Received(task: $0, receipt: message.receipt, at: now) }
        }
        self.state.withLock { state in
            state.hands.receive(ours)
            state.counters.received += ours.count
            state.counters.foreign += messages.count - ours.count
        }
        if ours.count < messages.count {
            self.logger.warning("messages that are none of ours are left alone", metadata: ["messages": "\(messages.count - ours.count)"])
        }
        if !ours.isEmpty { wake() }
        return messages.count
    }

    // MARK: What is told to SQS

    private func runErrands() async {
        while true {
            let errands = self.state.withLock { $0.hands.takeErrands() }
            if errands.isEmpty { return }
            await self.inBatches(errands.delete) { await self.delete($0) }
            await self.inBatches(errands.hide) { await self.hide($0) }
        }
    }

    /// What is not deleted comes again, and is found to be done.
    private func delete(_ receipts: [String]) async {
        do throws(SQSError) {
            let failures = try await self.client.delete(receipts)
            self.state.withLock { $0.counters.deleted += failures.count { $0 == nil } }
        } catch {
            self.failed("messages not deleted", error)
        }
    }

    /// What is not hidden comes again too early, and is hidden then.
    private func hide(_ messages: [(receipt: String, seconds: Int)]) async {
        do throws(SQSError) {
            _ = try await self.client.hide(messages)
        } catch {
            self.failed("messages not hidden", error)
        }
    }

    private func measure() async {
        while !Task.isCancelled {
            do throws(SQSError) {
                let depth = try await self.client.depth()
                self.state.withLock { ($0.counters.waiting, $0.counters.taken) = (depth.waiting, depth.taken) }
            } catch {
                self.state.withLock { ($0.counters.waiting, $0.counters.taken) = (nil, nil) }
                if !Task.isCancelled { self.failed("depth not known", error) }
            }
            do { try await Task.sleep(for: Self.depthPause) } catch { return }
        }
    }

    private func failed(_ what: Logger.Message, _ error: SQSError) {
        self.state.withLock { $0.counters.errors += 1 }
        self.logger.warning(what, metadata: ["error": "\(error)"])
    }

    private func inBatches<Item: Sendable>(_ items: [Item], _ body: @escaping @Sendable ([Item]) async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            for (number, from) in stride(from: 0, to: items.count, by: SQSCall.batch).enumerated() {
                if number >= Self.callsAtOnce { await group.next() }
                let batch = Array(items[from..<min(from + SQSCall.batch, items.count)])
                group.addTask { await body(batch) }
            }
        }
    }
}

/// What came of several batches.
private final class Results: Sendable {
    private let state = Mutex<(noted: [(task: NotificationID, isSent: Bool)], failure: String?)>(([], nil))

    var all: (noted: [(task: NotificationID, isSent: Bool)], failure: String?) { self.state.withLock { $0 } }

    func add(_ batch: [NotificationID], _ failures: [String?]) {
        self.state.withLock { state in
            state.noted += zip(batch, failures).map { ($0, $1 == nil) }
            state.failure = state.failure ?? failures.compactMap { $0 }.first
        }
    }
}
