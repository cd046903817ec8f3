import Delivery
import Logging
import NotificationStore
import PostgresClient

/// Makes what brings the runners of this node their tasks.
final class TaskSources {
    private let sqs: QueueSettings.SQS?
    private let engine: TransferEngine?
    private let store: HandOverStore
    private let logger: Logger
    /// Those that go by way of SQS.
    private(set) var made: [SQSTasks] = []

    init(configuration: NodeConfiguration, pool: PostgresPool, logger: Logger) {
        self.sqs = configuration.queue.sqs
        // Calls that wait for messages are many and long: they have their own places.
        self.engine = configuration.queue.sqs == nil ? nil : TransferEngine(TransferEngine.Settings(certificates: configuration.channels.settings.certificates))
        self.store = HandOverStore(pool: pool)
        self.logger = logger
    }

    /// Nil: Postgres itself.
    func make(_ queue: TaskQueue, _ settings: TaskRunnerSettings) -> (any TaskSource)? {
        guard let sqs, let engine else { return nil }
        var messages = SQSSettings()
        messages.concurrency = settings.concurrency
        // In SQS keys take no turns any more, and what comes new is behind all that is there: no more of a key is there than keeps a worker busy.
        if settings.concurrencyPerKey == .max {
            messages.perKey = settings.concurrency
            messages.bound = settings.concurrency * 4
        } else {
            // What endpoints that do not answer leave there has to wait; the bound of all is for many of them.
            messages.perKey = settings.concurrencyPerKey * 4
        }
        messages.lease = Int(settings.lease)
        messages.window = sqs.window
        let client = SQSClient(engine: engine, place: sqs.place, name: queue.rawValue)
        let source = SQSTasks(queue, client: client, store: self.store, settings: messages, logger: self.logger)
        self.made.append(source)
        return source
    }
}
