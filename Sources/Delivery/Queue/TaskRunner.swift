public import Logging
import NotificationCore
public import NotificationStore
import Synchronization

/// What a node has done of a queue since its start.
public struct TaskCounters: Sendable, Equatable {
    /// Attempts begun: what goes out as one is one.
    public var attempts = 0
    /// By what became of them: a state of deliveries, `queued` for those that are tried again.
    public var states: [String: Int] = [:]
    /// Under way now.
    public var underWay = 0
}

/// A runner of whatever kind of tasks.
public protocol TaskWorker: Sendable {
    var queue: TaskQueue { get }
    var counters: TaskCounters { get }
    /// There may be tasks. From any thread; it does not block.
    func poke()
    /// There are tasks: one free place is enough to claim them. From any thread; it does not block.
    func look()
    /// Until cancelled, and then until what is under way is over.
    func run() async
}

/// Bounds and times of a runner.
public struct TaskRunnerSettings: Sendable {
    /// Tasks under way at once.
    public var concurrency = 64
    /// Of one key.
    public var concurrencyPerKey = Int.max
    /// Tasks that one claim takes.
    public var batch = 200
    /// A claim takes all that is ready of a key: see ``TaskStore/Claim/whole``. Then `batch` and `concurrency` are of keys.
    public var takesWholeKeys = false
    /// Seconds after which others may have the tasks of a worker that fell silent.
    public var lease = 15.0
    /// Between two looks for tasks while nobody says that there are any.
    public var poll: Duration = .seconds(1)
    /// Between two looks at the leases.
    static let leases: Duration = .seconds(1)
    /// How long a shutdown waits for what is under way: longer than an attempt takes, or what was sent is sent again.
    public var grace: Duration = .seconds(20)
    /// An attempt that takes longer makes its key a slow one.
    public var slow: Duration = .seconds(2)
    public var retry = RetryPolicy()

    public init() {}
}

/// Works off one queue: claims tasks in batches, attempts a bounded number of them at once, and notes what became of them.
public final class TaskRunner<Handler: TaskHandler>: TaskWorker {
    private struct State {
        var slots: TaskSlots
        var hand = TasksInHand()
        /// Those that their source does not know yet to be under way still.
        var unextended: Set<NotificationID> = []
        var isExtending = false
        var drainingSince: ContinuousClock.Instant?
        var counters = TaskCounters()
    }

    public let queue: TaskQueue
    /// For leases; another one with every start.
    private let owner = NotificationID.make()
    private let handler: Handler
    private let store: TaskStore
    private let source: any TaskSource
    private let completions: TaskCompletions
    private let settings: TaskRunnerSettings
    private let logger: Logger
    private let state: Mutex<State>
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    /// - Parameter source: nil: Postgres.
    public init(
        _ queue: TaskQueue, handler: Handler, store: TaskStore, source: (any TaskSource)? = nil, settings: TaskRunnerSettings = TaskRunnerSettings(), logger: Logger
    ) {
        var logger = logger
        logger[metadataKey: "queue"] = "\(queue.rawValue)"
        self.queue = queue
        self.handler = handler
        self.store = store
        self.source = source ?? PostgresTasks(store: store)
        self.completions = TaskCompletions(store: store, owner: self.owner, logger: logger)
        self.settings = settings
        self.logger = logger
        let bounds = TaskSlots.Bounds(
            total: settings.concurrency, perKey: settings.concurrencyPerKey, batch: settings.batch, countsKeys: settings.takesWholeKeys)
        self.state = Mutex(State(slots: TaskSlots(bounds)))
        (self.signals, self.signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    public var counters: TaskCounters {
        self.state.withLock { state in
            var counters = state.counters
            counters.underWay = state.slots.underWay
            return counters
        }
    }

    public func poke() {
        self.source.poke()
        self.wake()
    }

    public func look() {
        self.state.withLock { $0.slots.look() }
        self.poke()
    }

    /// There may be something to claim.
    private func wake() {
        self.state.withLock { $0.slots.poke() }
        self.signal.yield()
    }

    public func run() async {
        // Not of this task: a shutdown that cancels this must not cancel what is being sent.
        let work = Task { await self.work() }
        await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            self.state.withLock {
                $0.slots.drain()
                $0.drainingSince = .now
            }
            self.source.drain()
            self.signal.yield()
        }
    }

    private func work() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.completions.run() }
            group.addTask { await self.watch() }
            group.addTask { await self.source.run { self.wake() } }
            self.signal.yield()
            for await _ in self.signals {
                var isWaiting = false
                while !isWaiting {
                    switch self.state.withLock({ $0.slots.next() }) {
                    case .wait: isWaiting = !self.isOverdue
                    case .claim(let limit, let perKey, let after, let busy):
                        await self.claim(limit: limit, perKey: perKey, after: after, busy: busy, &group)
                        continue
                    case .stop: break
                    }
                    if isWaiting { break }
                    await self.source.close()
                    // Nothing is left, or has taken too long: what is left comes back when its lease ends.
                    group.cancelAll()
                    return
                }
            }
        }
    }

    private var isOverdue: Bool {
        self.state.withLock { state in state.drainingSince.map { ContinuousClock.now - $0 > self.settings.grace } ?? false }
    }

    private func claim(limit: Int, perKey: Int, after: String, busy: [String], _ group: inout DiscardingTaskGroup) async {
        var claim = TaskStore.Claim(queue: self.queue, owner: self.owner, lease: self.settings.lease, limit: limit, perKey: perKey)
        claim.after = after
        claim.busy = busy
        claim.whole = self.settings.takesWholeKeys
        let asked = ContinuousClock.now
        self.state.withLock { $0.hand.ask() }
        let claimed: [QueuedTask]
        do throws(StoreError) {
            claimed = try await self.source.claim(claim)
        } catch {
            self.state.withLock {
                $0.hand.gotNothing()
                $0.slots.claimFailed()
            }
            self.logger.warning("tasks not claimed, tried again", metadata: ["error": "\(error)"])
            return
        }
        let (sorted, isDraining) = self.state.withLock { state in
            let sorted = state.hand.got(claimed, asked: asked, wholeKeys: self.settings.takesWholeKeys)
            state.slots.claimed(claimed.map(\.key))
            for task in sorted.replaced { state.slots.finished(task.key) }
            return (sorted, state.drainingSince != nil)
        }
        if !sorted.doubtful.isEmpty { group.addTask { await self.takeUp(sorted.doubtful) } }
        if sorted.new.isEmpty { return }
        if isDraining {
            group.addTask { await self.giveBack(sorted.new) }
        } else {
            group.addTask { await self.attempt(sorted.new) }
        }
    }

    /// Attempts what is this node's still: what its attempt before has ended for good is not.
    private func takeUp(_ tasks: [QueuedTask]) async {
        var kept: Set<NotificationID> = []
        do throws(StoreError) {
            kept = try await self.store.renew(tasks.map(\.id), owner: self.owner, lease: self.settings.lease)
        } catch {
            self.logger.warning("tasks left until their leases end", metadata: ["tasks": "\(tasks.count)", "error": "\(error)"])
        }
        let left = tasks.filter { kept.contains($0.id) }
        let gone = tasks.filter { !kept.contains($0.id) }
        for task in gone { await self.source.settle(task.id) }
        let (returned, isDraining) = self.state.withLock { state in
            var returned: [[QueuedTask]] = []
            for task in gone {
                state.slots.finished(task.key)
                returned += state.hand.over(task.id)
            }
            return (returned, state.drainingSince != nil)
        }
        self.signal.yield()
        await withDiscardingTaskGroup { group in
            for tasks in returned { group.addTask { await self.takeUp(tasks) } }
            if left.isEmpty { return }
            if isDraining { await self.giveBack(left) } else { await self.attempt(left) }
        }
    }

    private func giveBack(_ tasks: [QueuedTask]) async {
        await withDiscardingTaskGroup { group in
            for task in tasks { group.addTask { await self.end(task, .notAttempted(after: .zero)) } }
        }
    }

    private func attempt(_ tasks: [QueuedTask]) async {
        let materials: [Handler.Material]
        do throws(StoreError) {
            materials = try await self.handler.materials(for: tasks)
        } catch {
            self.logger.warning("tasks given back: what they are about cannot be read", metadata: ["tasks": "\(tasks.count)", "error": "\(error)"])
            await withDiscardingTaskGroup { group in
                for task in tasks { group.addTask { await self.end(task, .notAttempted(after: .seconds(1))) } }
            }
            return
        }
        let begun = self.settings.takesWholeKeys ? Set(tasks.map(\.key)).count : tasks.count
        self.state.withLock { $0.counters.attempts += begun }
        await withDiscardingTaskGroup { group in
            for (task, material) in zip(tasks, materials) {
                group.addTask {
                    let began = ContinuousClock.now
                    let result = await self.handler.attempt(task, material)
                    await self.end(task, result, isSlow: .now - began > self.settings.slow)
                }
            }
        }
    }

    private func end(_ task: QueuedTask, _ result: AttemptResult, isSlow: Bool = false) async {
        let decision = self.settings.retry.decide(result, attempts: task.attempts, jitter: self.handler.jitter(task))
        await self.completions.note(TaskResult(task: task.id, outcome: decision.outcome, reason: decision.reason, reference: decision.reference))
        await self.source.settle(task.id)
        let state =
            switch decision.outcome {
            case .over(let state): state
            case .again: DeliveryState.queued
            case .dead: DeliveryState.dead
            case .back: DeliveryState?.none
            }
        let returned = self.state.withLock { runner in
            if let state { runner.counters.states[state.rawValue, default: 0] += 1 }
            runner.slots.finished(task.key, isSlow: isSlow)
            return runner.hand.over(task.id)
        }
        self.signal.yield()
        self.tell(task, state)
        for tasks in returned { await self.takeUp(tasks) }
    }

    /// Each attempt, by its delivery, and by its trace where it has one.
    private func tell(_ task: QueuedTask, _ state: DeliveryState?) {
        guard self.logger.logLevel <= .debug else { return }
        var metadata = task.trace.logged
        metadata["task"] = "\(task.id)"
        metadata["attempt"] = "\(task.attempts)"
        metadata["state"] = "\(state?.rawValue ?? "given back")"
        if let notification = task.notification { metadata["notification"] = "\(notification)" }
        self.logger.debug("task attempted", metadata: metadata)
    }

    /// Looks from time to time, and keeps the leases of what takes longer.
    private func watch() async {
        let step = min(self.settings.poll, TaskRunnerSettings.leases)
        var looked = ContinuousClock.now
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                do { try await Cadence.sleep(step) } catch { return }
                // Half a step for how late a moment may be.
                if ContinuousClock.now - looked >= self.settings.poll - step / 2 {
                    looked = .now
                    self.look()
                }
                // A drain ends also where nothing else happens any more.
                if self.state.withLock({ $0.drainingSince != nil }) { self.signal.yield() }
                if await self.renew() { group.addTask { await self.extend() } }
            }
        }
    }

    /// Answers whether the source is to be told, and nobody is at it.
    private func renew() async -> Bool {
        let now = ContinuousClock.now
        let third = Duration.seconds(self.settings.lease / 3)
        let old = self.state.withLock { state in state.hand.leased.filter { now - $0.value > third }.map(\.key) }
        if old.isEmpty { return false }
        do throws(StoreError) {
            try await self.store.renew(old, owner: self.owner, lease: self.settings.lease)
        } catch {
            self.logger.warning("leases not renewed, tried again", metadata: ["tasks": "\(old.count)", "error": "\(error)"])
            return false
        }
        return self.state.withLock { state in
            state.unextended.formUnion(state.hand.renewed(old, at: now))
            if state.isExtending { return false }
            state.isExtending = true
            return true
        }
    }

    /// Tells the source, however long that takes: the next leases do not wait for it. One at a time.
    private func extend() async {
        while true {
            let tasks = self.state.withLock { state in
                let leased = state.hand.leased
                let tasks = state.unextended.filter { leased[$0] != nil }
                state.unextended = []
                state.isExtending = !tasks.isEmpty
                return Array(tasks)
            }
            if tasks.isEmpty { return }
            await self.source.extend(tasks)
        }
    }
}
