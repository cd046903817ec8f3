import Delivery
import Logging
import NotificationCore
import NotificationStore
import PostgresClient
import Synchronization

/// The queues that this node works off: a runner for each channel that has a sender.
final class TaskQueues: Sendable {
    /// Between two looks at how much waits.
    private static let pause: Duration = .seconds(2)
    /// Between two looks at which of them have something to do.
    private static let turn: Duration = .seconds(1)
    /// Between two looks of a runner of its own: that it works its queue off is known by them. What lies in SQS is found by no question to Postgres.
    private static func poll(_ configuration: NodeConfiguration) -> Duration { configuration.queue.sqs == nil ? .seconds(30) : .seconds(1) }
    /// Seconds after which a queue that no worker has worked off is given up.
    private static let unworked = 86_400.0

    let workers: [any TaskWorker]
    /// Those of them that go by way of SQS.
    let messages: [SQSTasks]
    private let store: TaskStore
    /// For what may take long.
    private let background: TaskStore
    private let held: WebhookDeliveries
    private let logger: Logger
    private let seen = Mutex<[TaskStore.Depth]>([])
    private let alarm: WebhookAlarm

    /// - Parameter background: for what may take long.
    init(configuration: NodeConfiguration, secret: [UInt8], pool: PostgresPool, background: PostgresPool, catalogue: @escaping @Sendable () -> Catalogue, logger: Logger) {
        let store = TaskStore(pool: pool)
        self.store = store
        self.background = TaskStore(pool: background)
        self.held = WebhookDeliveries(pool: background, box: configuration.channels.settings.secrets)
        self.logger = logger
        let alarm = WebhookAlarm(admins: configuration.channels.settings.webhookAdmins, catalogue: catalogue, logger: logger)
        self.alarm = alarm
        var settings = TaskRunnerSettings()
        settings.concurrency = configuration.deliveryConcurrency
        settings.lease = Double(configuration.deliveryLeaseSeconds)
        settings.poll = Self.poll(configuration)
        settings.grace = EmailSender.timeLimit + .seconds(5)
        settings.retry = RetryPolicy(attempts: configuration.deliveryAttempts, base: .seconds(configuration.deliveryBackoffSeconds))
        var workers: [any TaskWorker] = []
        let source = TaskSources(configuration: configuration, pool: pool, logger: logger)
        let links = configuration.channels.unsubscribeLinks(secret)
        for (channel, sender) in configuration.channels.senders.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            let handler = DeliveryHandler(channel, sender: sender, pool: pool, catalogue: catalogue, logger: logger, unsubscribe: links)
            workers.append(TaskRunner(TaskQueue(channel), handler: handler, store: store, source: source.make(TaskQueue(channel), settings), settings: settings, logger: logger))
        }
        if let sender = configuration.channels.senders[.email] {
            settings.takesWholeKeys = true
            settings.batch = 20
            let handler = DigestHandler(sender: sender, pool: pool, catalogue: catalogue, logger: logger, unsubscribe: links)
            workers.append(TaskRunner(.digest, handler: handler, store: store, source: source.make(.digest, settings), settings: settings, logger: logger))
        }
        // Without the key nothing can be signed here; other nodes may have it.
        if configuration.channels.settings.secrets != nil { workers.append(Self.webhooks(configuration, alarm, pool, store, source, logger)) }
        self.workers = workers
        self.messages = source.made
    }

    /// Few at once for each endpoint, so that those that do not answer leave places for the others. The handler decides which attempt is the last.
    private static func webhooks(
        _ configuration: NodeConfiguration, _ alarm: WebhookAlarm, _ pool: PostgresPool, _ store: TaskStore, _ source: TaskSources, _ logger: Logger
    ) -> any TaskWorker {
        let channels = configuration.channels
        var settings = TaskRunnerSettings()
        settings.concurrency = 256
        settings.poll = Self.poll(configuration)
        settings.concurrencyPerKey = channels.settings.webhookConcurrency
        settings.lease = Double(channels.settings.webhookSeconds + 15)
        settings.grace = .seconds(channels.settings.webhookSeconds + 5)
        settings.retry = RetryPolicy(attempts: channels.settings.webhookAttempts, base: .seconds(channels.settings.webhookBackoffSeconds))
        let handler = WebhookHandler(
            deliveries: WebhookDeliveries(pool: pool, box: channels.settings.secrets), caller: channels.webhooks, attempts: channels.settings.webhookAttempts, logger: logger
        ) { webhook, url, error in await alarm.tell(webhook, url: url, error) }
        return TaskRunner(.webhook, handler: handler, store: store, source: source.make(.webhook, settings), settings: settings, logger: logger)
    }

    /// What fails is told through this, once it is there.
    func tell(through notifier: Notifier) { self.alarm.tell(through: notifier) }

    /// Those of these queues that this node works off have got tasks.
    func poke(_ queues: Set<TaskQueue>) {
        for worker in self.workers where queues.contains(worker.queue) { worker.poke() }
    }

    /// What waits, as of the last seconds.
    var depths: [TaskStore.Depth] { self.seen.withLock { $0 } }

    /// Until cancelled, and then until what is under way is over.
    func run() async {
        await withDiscardingTaskGroup { group in
            for worker in self.workers { group.addTask { await worker.run() } }
            group.addTask { await self.watch() }
            group.addTask { await self.look() }
            group.addTask { await self.follow() }
        }
    }

    /// One question for all of them: what has come due, and what was lost, nobody pokes for.
    private func watch() async {
        let queues = self.workers.map(\.queue)
        while !Task.isCancelled {
            do throws(StoreError) {
                let ready = try await self.store.ready(of: queues)
                for worker in self.workers where ready.contains(worker.queue) { worker.look() }
            } catch {
                self.logger.debug("queues not watched, tried again", metadata: ["error": "\(error)"])
            }
            do { try await Cadence.sleep(Self.turn) } catch { return }
        }
    }

    private func look() async {
        while !Task.isCancelled {
            do throws(StoreError) {
                let depths = try await self.store.depths()
                self.seen.withLock { $0 = depths }
            } catch {
                self.logger.debug("queues not looked at, tried again", metadata: ["error": "\(error)"])
            }
            do { try await Cadence.sleep(Self.pause) } catch { return }
        }
    }

    /// What waits for webhooks follows their status, and what nobody will ever send is ended.
    private func follow() async {
        var turn = 0
        while !Task.isCancelled {
            var isMore = false
            do throws(StoreError) {
                let (moved, resumed) = try await self.held.move()
                if resumed > 0 { self.poke([.webhook]) }
                isMore = moved >= WebhookDeliveries.moved
                turn += 1
                if turn % 30 == 0 { try await self.endUnworked() }
            } catch {
                self.logger.warning("queues do not follow, tried again", metadata: ["error": "\(error)"])
            }
            do {
                if isMore { try await Task.sleep(for: .milliseconds(20)) } else { try await Cadence.sleep(Self.pause) }
            } catch { return }
        }
    }

    private func endUnworked() async throws(StoreError) {
        let ended = try await self.background.endUnworked(after: Self.unworked, except: self.workers.map(\.queue))
        if ended > 0 { self.logger.warning("tasks ended: no worker has the settings of their channel", metadata: ["tasks": "\(ended)"]) }
    }
}
