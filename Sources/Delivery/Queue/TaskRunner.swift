public import Logging
import NotificationCore
public import NotificationStore
import Synchronization

/// What a node has done of a queue since its start.
public struct TaskCounters: Sendable, Equatable {
    /// Attempts begun.
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
    /// A claim takes all that is ready of a key: see ``TaskStore/Claim/whole``. Then `batch` is of keys.
    public var takesWholeKeys = false
    /// Seconds after which others may have the tasks of a worker that fell silent.
    public var lease = 15.0
    /// Between two looks for tasks while nobody says that there are any.
    public var poll: Duration = .seconds(1)
    /// How long a shutdown waits for what is under way.
    public var grace: Duration = .seconds(20)
    public var retry = RetryPolicy()

    public init() {}
}

/// Works off one queue: claims tasks in batches, attempts a bounded number of them at once, and notes what became of them.
public final class TaskRunner<Handler: TaskHandler>: TaskWorker {
    private struct State {
        var slots: TaskSlots
        /// What is under way, and when its lease was last renewed.
        var leased: [NotificationID: ContinuousClock.Instant] = [:]
        var drainingSince: ContinuousClock.Instant?
        var counters = TaskCounters()
    }

    public let queue: TaskQueue
    /// For leases; another one with every start.
    private let owner = NotificationID.make()
    private let handler: Handler
    private let store: TaskStore
    private let completions: TaskCompletions
    private let settings: TaskRunnerSettings
    private let logger: Logger
    private let state: Mutex<State>
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    public init(_ queue: TaskQueue, handler: Handler, store: TaskStore, settings: TaskRunnerSettings = TaskRunnerSettings(), logger: Logger) {
        var logger = logger
        logger[metadataKey: "queue"] = "\(queue.rawValue)"
        self.queue = queue
        self.handler = handler
        self.store = store
        self.completions = TaskCompletions(store: store, owner: self.owner, logger: logger)
        self.settings = settings
        self.logger = logger
        let bounds = TaskSlots.Bounds(total: settings.concurrency, perKey: settings.concurrencyPerKey, batch: settings.batch)
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
            self.signal.yield()
        }
    }

    private func work() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.completions.run() }
            group.addTask { await self.look() }
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
        let tasks: [QueuedTask]
        do throws(StoreError) {
            tasks = try await self.store.claim(claim)
        } catch {
            self.state.withLock { $0.slots.claimFailed() }
            self.logger.warning("tasks not claimed, tried again", metadata: ["error": "\(error)"])
            return
        }
        let isDraining = self.state.withLock { state in
            state.slots.claimed(tasks.map(\.key))
            for task in tasks { state.leased[task.id] = asked }
            return state.drainingSince != nil
        }
        if tasks.isEmpty { return }
        if isDraining {
            group.addTask { await self.giveBack(tasks) }
        } else {
            group.addTask { await self.attempt(tasks) }
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
        await withDiscardingTaskGroup { group in
            for (task, material) in zip(tasks, materials) {
                group.addTask {
                    if self.settings.retry.isSpent(attempts: task.attempts) {
                        await self.end(task, .later("whoever attempted it fell silent each time"))
                        return
                    }
                    self.state.withLock { $0.counters.attempts += 1 }
                    await self.end(task, await self.handler.attempt(task, material))
                }
            }
        }
    }

    private func end(_ task: QueuedTask, _ result: AttemptResult) async {
        let decision = self.settings.retry.decide(result, attempts: task.attempts, jitter: self.handler.jitter(task))
        await self.completions.note(TaskResult(task: task.id, outcome: decision.outcome, reason: decision.reason, reference: decision.reference))
        let state =
            switch decision.outcome {
            case .over(let state): state
            case .again: DeliveryState.queued
            case .dead: DeliveryState.dead
            case .back: DeliveryState?.none
            }
        self.state.withLock {
            if let state { $0.counters.states[state.rawValue, default: 0] += 1 }
            $0.leased[task.id] = nil
            $0.slots.finished(task.key)
        }
        self.signal.yield()
    }

    /// Looks from time to time, and keeps the leases of what takes longer.
    private func look() async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: self.settings.poll) } catch { return }
            self.poke()
            let now = ContinuousClock.now
            let third = Duration.seconds(self.settings.lease / 3)
            let old = self.state.withLock { state in state.leased.filter { now - $0.value > third }.map(\.key) }
            if old.isEmpty { continue }
            do throws(StoreError) {
                try await self.store.renew(old, owner: self.owner, lease: self.settings.lease)
                self.state.withLock { state in
                    for task in old where state.leased[task] != nil { state.leased[task] = now }
                }
            } catch {
                self.logger.warning("leases not renewed, tried again", metadata: ["tasks": "\(old.count)", "error": "\(error)"])
            }
        }
    }
}
