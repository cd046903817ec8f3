public import NIOCore
public import NotificationCore
public import RedisClient
import Synchronization

/// How a request stands with its rate limit: what its answer says of it (draft-ietf-httpapi-ratelimit-headers).
public struct RateStanding: Sendable {
    public var decision: RateDecision
    /// The header `RateLimit-Policy`.
    public var policy: String
    /// The header `RateLimit`.
    public var limit: String
}

/// Requests per minute of each API key and each user, over the whole cluster. A request costs a look into a table: the totals are brought to Redis,
/// and back, behind it. See ``RateWindows``.
public final class RateLimiter: Sendable {
    public struct Settings: Sendable {
        /// Requests per minute of an API key; nil: as many as it likes.
        public var key: Int?
        /// The same for a user.
        public var user: Int?

        public init(key: Int?, user: Int?) {
            self.key = key
            self.user = user
        }
    }

    private struct Policy {
        var quota: Int
        var name: String
        var header: String

        init?(_ name: String, _ quota: Int?) {
            guard let quota else { return nil }
            self.quota = quota
            self.name = name
            self.header = "\"\(name)\";q=\(quota);w=\(RateWindows.seconds)"
        }
    }

    /// How often what was let in is told to Redis.
    public static let interval: TimeAmount = .milliseconds(100)
    /// Subjects known at a time: some 20 MB of them.
    private static let bound = 100_000
    private static let portion = 1000

    private let redis: RedisClient
    private let names: RedisNames
    private let key: Policy?
    private let user: Policy?
    private let windows = Mutex(RateWindows(bound: RateLimiter.bound, portion: RateLimiter.portion))
    private let timer = Mutex(Timer())

    /// Runs only while there is something to tell.
    private struct Timer {
        var next: Scheduled<Void>?
        var isStopped = false
    }

    public init(redis: RedisClient, names: RedisNames, settings: Settings) {
        self.redis = redis
        self.names = names
        self.key = Policy("key", settings.key)
        self.user = Policy("user", settings.user)
    }

    public var counters: RateWindows.Counters { self.windows.withLock { $0.counters } }
    /// Those known now.
    public var subjects: Int { self.windows.withLock { $0.subjects } }

    /// Counts a request, or refuses it. From any thread; nil where there is no limit.
    public func check(_ subject: RateSubject, now: Timestamp = .now()) -> RateStanding? {
        let policy: Policy?
        switch subject {
        case .key: policy = self.key
        case .user: policy = self.user
        }
        guard let policy else { return nil }
        let (decision, isUntold) = self.windows.withLock { ($0.decide(subject, quota: policy.quota, now: now), $0.isUntold) }
        if isUntold { self.schedule() }
        return RateStanding(
            decision: decision, policy: policy.header, limit: "\"\(policy.name)\";r=\(decision.remaining);t=\(decision.resetSeconds)")
    }

    public func stop() {
        self.timer.withLock {
            $0.next?.cancel()
            $0 = Timer(isStopped: true)
        }
    }

    private func schedule() {
        self.timer.withLock { timer in
            if timer.next != nil || timer.isStopped { return }
            timer.next = self.redis.eventLoop.scheduleTask(in: Self.interval) {
                self.timer.withLock { $0.next = nil }
                self.flush()
                // What did not fit, and what came before the flush before was answered.
                if self.windows.withLock({ $0.isUntold }) { self.schedule() }
            }
        }
    }

    private func flush() {
        guard let flush = self.windows.withLock({ $0.flush(now: .now()) }) else { return }
        var commands: [RedisCommand] = []
        commands.reserveCapacity(flush.counts.count * 2)
        for (subject, count) in flush.counts {
            let name = self.names.rate(subject, window: flush.window)
            commands.append(RedisCommand("INCRBY", .string(name), .integer(Int64(count))))
            // Each time: a Redis that lost the key makes one without an end. Nodes whose clocks differ a little still meet.
            commands.append(RedisCommand("EXPIRE", .string(name), .integer(Int64(RateWindows.seconds * 2))))
        }
        self.redis.pipeline(commands).whenComplete { result in
            switch result {
            case .success(let values):
                let totals = stride(from: 0, to: values.count, by: 2).map { values[$0].int.map(Int.init(clamping:)) }
                self.windows.withLock { $0.answered(totals) }
                // What did not fit into the portion.
                if totals.count == Self.portion { self.flush() }
            case .failure:
                self.windows.withLock { $0.failed() }
            }
        }
    }
}
