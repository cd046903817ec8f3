public import Logging
import NIOCore
public import NotificationStore
public import RedisClient

/// Tells workers that a queue has got tasks, or that there are jobs, so that they need not ask all the time. It is only a hint: what is lost is found by their own looks, a second
/// later.
public struct TaskPokes: Sendable {
    private let redis: RedisClient
    private let names: RedisNames
    private let logger: Logger

    public init(redis: RedisClient, names: RedisNames, logger: Logger) {
        self.redis = redis
        self.names = names
        self.logger = logger
    }

    public func publish(_ queues: Set<TaskQueue>) {
        guard self.redis.isReachable else { return }
        let commands = queues.map { RedisCommand("PUBLISH", .string(self.names.tasks), .string($0.rawValue)) }
        self.redis.pipeline(commands).whenFailure { error in
            self.logger.debug("poke not sent, workers look by themselves", metadata: ["error": "\(error)"])
        }
    }
}

/// Hears of tasks that other nodes have written.
public final class TaskPokeListener: RedisSubscriberDelegate {
    private let onTasks: @Sendable (Set<TaskQueue>) -> Void

    /// - Parameter onTasks: called on the subscriber's event loop; it must not block.
    public init(onTasks: @escaping @Sendable (Set<TaskQueue>) -> Void) {
        self.onTasks = onTasks
    }

    public func start(_ subscriber: RedisSubscriber, names: RedisNames, logger: Logger) {
        subscriber.start()
        // It is remembered and subscribed with the first connection.
        subscriber.subscribe([names.tasks]).whenFailure { error in
            logger.debug("the channel of tasks waits for the connection", metadata: ["error": "\(error)"])
        }
    }

    public func subscriber(_ subscriber: RedisSubscriber, received messages: [RedisMessage]) {
        self.onTasks(Set(messages.map { TaskQueue(rawValue: String(buffer: $0.payload)) }))
    }

    public func subscriberResubscribed(_ subscriber: RedisSubscriber, channels: [String]?) { self.onTasks(Set(TaskQueue.all + [.jobs])) }
    public func subscriberLost(_ subscriber: RedisSubscriber) {}
    public func subscriber(_ subscriber: RedisSubscriber, probeTook nanoseconds: Int64) {}
}
