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
    private let logger: Logger
    private let seen = Mutex<[TaskStore.Depth]>([])

    init(configuration: NodeConfiguration, pool: PostgresPool, catalogue: @escaping @Sendable () -> Catalogue, logger: Logger) {
        let store = TaskStore(pool: pool)
        self.store = store
        self.logger = logger
        self.workers = configuration.channels.senders.sorted { $0.key.rawValue < $1.key.rawValue }.map { channel, sender in
            var settings = TaskRunner<DeliveryHandler>.Settings()
            settings.concurrency = configuration.deliveryConcurrency
            settings.lease = Double(configuration.deliveryLeaseSeconds)
            settings.retry = RetryPolicy(attempts: configuration.deliveryAttempts, base: .seconds(configuration.deliveryBackoffSeconds))
            let handler = DeliveryHandler(channel, sender: sender, pool: pool, catalogue: catalogue, logger: logger)
            return TaskRunner(TaskQueue(channel), handler: handler, store: store, settings: settings, logger: logger)
        } + [Self.webhooks(configuration, pool, store, logger)]
    }

    /// Few at once for each endpoint, so that those that do not answer leave places for the others. The handler decides which attempt is the last.
    private static func webhooks(_ configuration: NodeConfiguration, _ pool: PostgresPool, _ store: TaskStore, _ logger: Logger) -> any TaskWorker {
        let channels = configuration.channels
        var settings = TaskRunner<WebhookHandler>.Settings()
        settings.concurrency = 256
        settings.concurrencyPerKey = channels.settings.webhookConcurrency
        settings.lease = Double(channels.settings.webhookSeconds + 15)
        settings.retry = RetryPolicy(attempts: channels.settings.webhookAttempts + 10, base: .seconds(channels.settings.webhookBackoffSeconds))
        let handler = WebhookHandler(
            deliveries: WebhookDeliveries(pool: pool, box: channels.settings.secrets), caller: channels.webhooks, attempts: channels.settings.webhookAttempts, logger: logger)
        return TaskRunner(.webhook, handler: handler, store: store, settings: settings, logger: logger)
    }

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
        while !Task.isCancelled {
            do throws(StoreError) {
                let depths = try await self.store.depths()
                self.seen.withLock { $0 = depths }
            } catch {
                self.logger.debug("queue depths not read, tried again", metadata: ["error": "\(error)"])
            }
            do { try await Task.sleep(for: Self.pause) } catch { return }
        }
    }
}
