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

    let workers: [any TaskWorker]
    private let store: TaskStore
    private let held: WebhookDeliveries
    private let logger: Logger
    private let seen = Mutex<[TaskStore.Depth]>([])
    private let alarm: WebhookAlarm

    init(configuration: NodeConfiguration, secret: [UInt8], pool: PostgresPool, catalogue: @escaping @Sendable () -> Catalogue, logger: Logger) {
        let store = TaskStore(pool: pool)
        self.store = store
        self.held = WebhookDeliveries(pool: pool, box: configuration.channels.settings.secrets)
        self.logger = logger
        let alarm = WebhookAlarm(admins: configuration.channels.settings.webhookAdmins, catalogue: catalogue, logger: logger)
        self.alarm = alarm
        var settings = TaskRunnerSettings()
        settings.concurrency = configuration.deliveryConcurrency
        settings.lease = Double(configuration.deliveryLeaseSeconds)
        settings.retry = RetryPolicy(attempts: configuration.deliveryAttempts, base: .seconds(configuration.deliveryBackoffSeconds))
        var workers: [any TaskWorker] = []
        let links = configuration.channels.unsubscribeLinks(secret)
        for (channel, sender) in configuration.channels.senders.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            let handler = DeliveryHandler(channel, sender: sender, pool: pool, catalogue: catalogue, logger: logger, unsubscribe: links)
            workers.append(TaskRunner(TaskQueue(channel), handler: handler, store: store, settings: settings, logger: logger))
        }
        if let sender = configuration.channels.senders[.email] {
            settings.takesWholeKeys = true
            settings.batch = 20
            let handler = DigestHandler(sender: sender, pool: pool, catalogue: catalogue, logger: logger, unsubscribe: links)
            workers.append(TaskRunner(.digest, handler: handler, store: store, settings: settings, logger: logger))
        }
        // Without the key nothing can be signed here; other nodes may have it.
        if configuration.channels.settings.secrets != nil { workers.append(Self.webhooks(configuration, alarm, pool, store, logger)) }
        self.workers = workers
    }

    /// Few at once for each endpoint, so that those that do not answer leave places for the others. The handler decides which attempt is the last.
    private static func webhooks(_ configuration: NodeConfiguration, _ alarm: WebhookAlarm, _ pool: PostgresPool, _ store: TaskStore, _ logger: Logger) -> any TaskWorker {
        let channels = configuration.channels
        var settings = TaskRunnerSettings()
        settings.concurrency = 256
        settings.concurrencyPerKey = channels.settings.webhookConcurrency
        settings.lease = Double(channels.settings.webhookSeconds + 15)
        settings.retry = RetryPolicy(attempts: channels.settings.webhookAttempts + 10, base: .seconds(channels.settings.webhookBackoffSeconds))
        let handler = WebhookHandler(
            deliveries: WebhookDeliveries(pool: pool, box: channels.settings.secrets), caller: channels.webhooks, attempts: channels.settings.webhookAttempts, logger: logger
        ) { webhook, url, error in await alarm.tell(webhook, url: url, error) }
        return TaskRunner(.webhook, handler: handler, store: store, settings: settings, logger: logger)
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
            group.addTask { await self.look() }
        }
    }

    private func look() async {
        var turn = 0
        while !Task.isCancelled {
            turn += 1
            do throws(StoreError) {
                let depths = try await self.store.depths()
                self.seen.withLock { $0 = depths }
                if turn % 5 == 0 { try await self.held.resumeHeld() }
            } catch {
                self.logger.debug("queues not looked at, tried again", metadata: ["error": "\(error)"])
            }
            do { try await Task.sleep(for: Self.pause) } catch { return }
        }
    }
}
