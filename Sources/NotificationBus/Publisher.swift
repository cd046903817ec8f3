public import Logging
import NIOCore
import NotificationCore
public import NotificationStore
public import RedisClient
import Synchronization

/// Publishes what a batch committed: one message a user with all of its changes, and its count's copy beside it, in one write.
public final class Publisher: CommitObserver {
    public struct Counters: Sendable {
        public var published: Int
        public var failed: Int
    }

    /// How long those who wait for a commit wait for Redis at most.
    private static let patience: TimeAmount = .milliseconds(100)

    private let redis: RedisClient
    private let names: RedisNames
    private let copies: CountCopies
    private let latency: Histogram
    private let logger: Logger
    private let published = Atomic<Int>(0)
    private let failed = Atomic<Int>(0)

    public init(redis: RedisClient, names: RedisNames, copies: CountCopies, latency: Histogram, logger: Logger) {
        self.redis = redis
        self.names = names
        self.copies = copies
        self.latency = latency
        self.logger = logger
    }

    public var counters: Counters {
        Counters(published: self.published.load(ordering: .relaxed), failed: self.failed.load(ordering: .relaxed))
    }

    public func committed(_ users: [CommittedChanges], done: @escaping @Sendable () -> Void) {
        guard self.redis.isReachable else {
            // No copy is trusted until a while after it is back.
            // The commit tail delivers.
            self.failed.add(users.count, ordering: .relaxed)
            done()
            return
        }
        let start = Timestamp.now()
        let commands = users.map { user in
            RedisCommand(
                "PUBLISH", .string(self.names.channel(user.user)),
                .octets(Envelope.encode(user.changes, epoch: user.head.position.epoch, committedAt: user.at, place: user.place)))
        }
        let once = Once(done)
        let messages = self.redis.pipeline(commands)
        let counts = self.copies.write(users.map { ($0.user, $0.head) })
        let timeout = self.redis.eventLoop.scheduleTask(in: Self.patience) { once.run() }
        messages.and(counts).whenComplete { result in
            timeout.cancel()
            switch result {
            case .success((let replies, _)):
                // Of a cluster a part may be away: its users are the commit tail's.
                let lost = replies.count { $0.error != nil }
                self.published.add(users.count - lost, ordering: .relaxed)
                self.failed.add(lost, ordering: .relaxed)
                self.latency.record(microseconds: Timestamp.now().microseconds - start.microseconds)
            case .failure(let error):
                self.failed.add(users.count, ordering: .relaxed)
                self.logger.debug("publish failed, the commit tail delivers", metadata: ["error": "\(error)"])
            }
            once.run()
        }
    }
}

/// Runs a closure the first time only.
private final class Once: Sendable {
    private let ran = Atomic<Bool>(false)
    private let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) {
        self.body = body
    }

    func run() {
        if !self.ran.exchange(true, ordering: .relaxed) { self.body() }
    }
}
