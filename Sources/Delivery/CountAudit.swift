public import Logging
public import NotificationBus
import NIOCore
import NotificationCore
import NotificationStore
public import PostgresClient
public import RedisClient

/// Looks after the copies of the counts: for users whose inbox changed lately it compares Redis with Postgres at the same position. A copy
/// that says something else is mended, and counted in `carillon_unread_drift_total`.
public struct CountAudit: Sendable {
    /// Users compared at a time, and the pause between two times, in seconds.
    private static let sample = 50
    private static let pause: Duration = .seconds(5)
    /// Of how many users, the last ones that changed, a sample is taken.
    private static let memory = 5000

    private let pool: PostgresPool
    private let reader: InboxReader
    private let copies: CountCopies
    private let redis: RedisClient
    private let logger: Logger

    public init(pool: PostgresPool, copies: CountCopies, redis: RedisClient, logger: Logger) {
        self.pool = pool
        self.reader = InboxReader(pool: pool)
        self.copies = copies
        self.redis = redis
        self.logger = logger
    }

    /// Until cancelled.
    public func run() async {
        var tail = CommitTail(pool: self.pool)
        var recent = RecentUsers(bound: Self.memory)
        while !Task.isCancelled {
            do { try await Cadence.sleep(Self.pause) } catch { return }
            guard self.redis.isReachable else { continue }
            do {
                for commit in try await tail.read(firstReaches: 60).commits {
                    for user in commit.users { recent.add(user) }
                }
                let users = recent.sample(Self.sample)
                if users.isEmpty { continue }
                let drifted = try await self.copies.audit(self.reader.heads(of: users)).get()
                if drifted > 0 { self.logger.error("unread copies had drifted and were mended", metadata: ["copies": "\(drifted)"]) }
            } catch {
                self.logger.debug("copies not compared, tried again", metadata: ["error": "\(error)"])
            }
        }
    }
}

/// The last users that changed, each once, up to a bound: the oldest goes first.
struct RecentUsers {
    private let bound: Int
    private var users: [UserID] = []
    private var places: [UserID: Int] = [:]
    private var next = 0

    init(bound: Int) {
        self.bound = bound
    }

    mutating func add(_ user: UserID) {
        if self.places[user] != nil { return }
        if self.users.count < self.bound {
            self.places[user] = self.users.count
            self.users.append(user)
            return
        }
        self.places[self.users[self.next]] = nil
        self.users[self.next] = user
        self.places[user] = self.next
        self.next = (self.next + 1) % self.bound
    }

    /// Different ones: the newest, so that a copy that was wrong from the start is found at once, and as many others at random.
    func sample(_ count: Int) -> [UserID] {
        let wanted = min(count, self.users.count)
        let newest = self.users.count < self.bound ? self.users.count : self.next + self.bound
        var picked = Set((0..<(wanted + 1) / 2).map { (newest - 1 - $0) % self.bound })
        var generator = SystemRandomNumberGenerator()
        while picked.count < wanted { picked.insert(Int.random(in: self.users.indices, using: &generator)) }
        return picked.map { self.users[$0] }
    }
}
