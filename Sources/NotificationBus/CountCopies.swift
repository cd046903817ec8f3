public import NotificationCore
public import NotificationStore
public import RedisClient
public import NIOCore
import Synchronization

/// Copies of users' heads in Redis: they serve the badge. A copy carries its position and never moves backwards; every write refreshes it,
/// and it ends by itself, so that what was written while Redis was away for long is not remembered wrongly.
public final class CountCopies: Sendable {
    /// Shorter than commits are remembered: a copy that missed its refresh is either repaired by the tail or gone.
    static let lifetimeSeconds: Int64 = 300
    /// Bytes of the counts by customer and type. An inbox with more of them, of hundreds of customers, has a copy of its sums alone: each write would send all of
    /// it. Whoever asks for its counts is answered from Postgres.
    static let countsBound = 16 * 1024
    private static let withoutCounts = "-"

    private let redis: RedisClient
    private let names: RedisNames
    private let drifts = Atomic<Int>(0)
    /// Uptime in nanoseconds until which copies may be older than what was written.
    private let doubtfulUntil = Atomic<UInt64>(0)
    /// How long after a trouble with Redis: long enough for the repair of what was written during it.
    private static let doubt: TimeAmount = .seconds(10)

    public init(redis: RedisClient, names: RedisNames) {
        self.redis = redis
        self.names = names
        redis.onStateChange { [weak self] _ in self?.doubt() }
    }

    /// Whether copies may be shown. Not within a while after Redis was away, or did not take one: there may be older ones than what was written.
    public var areTrusted: Bool {
        self.redis.isReachable && NIODeadline.now().uptimeNanoseconds >= self.doubtfulUntil.load(ordering: .relaxed)
    }

    private func doubt() {
        self.doubtfulUntil.store((NIODeadline.now() + Self.doubt).uptimeNanoseconds, ordering: .relaxed)
    }

    /// Same position, other counts: must stay 0.
    public var drift: Int { self.drifts.load(ordering: .relaxed) }

    private static let script = RedisScript(
        """
        local old = redis.call('GET', KEYS[1])
        if not old and ARGV[5] == '1' then return 0 end
        if old then
            local epoch, seq, rest = string.match(old, '^(%d+) (%d+) (.*)$')
            epoch, seq = tonumber(epoch), tonumber(seq)
            local e, s = tonumber(ARGV[1]), tonumber(ARGV[2])
            if epoch == e and seq == s and rest ~= ARGV[3] then
                redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3], 'EX', ARGV[4])
                return -1
            end
            if epoch > e or (epoch == e and seq >= s) then return 0 end
        end
        redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3], 'EX', ARGV[4])
        return 1
        """)

    /// Compares these heads, as Postgres has them, with their copies: one with the same position and other counts is mended and counted in
    /// ``drift``, one that is behind is brought up to date, and users without a copy get none.
    ///
    /// - Returns: How many had drifted.
    public func audit(_ heads: [(user: UserID, head: InboxHead)]) -> EventLoopFuture<Int> { self.write(heads, onlyExisting: true) }

    public func write(_ heads: [(user: UserID, head: InboxHead)]) -> EventLoopFuture<Void> {
        self.write(heads, onlyExisting: false).map { _ in }
    }

    private func write(_ heads: [(user: UserID, head: InboxHead)], onlyExisting: Bool) -> EventLoopFuture<Int> {
        let calls = heads.map { user, head in
            (
                keys: [self.names.counts(user)],
                arguments: [
                    RedisArgument.integer(head.position.epoch), .integer(head.position.seq), .string("\(head.unread) \(head.unseen) \(Self.kept(head.counts))"),
                    .integer(Self.lifetimeSeconds), .integer(onlyExisting ? 1 : 0),
                ]
            )
        }
        return self.redis.run(Self.script, calls: calls).map { answers in
            if answers.contains(where: { $0.error != nil }) { self.doubt() }
            let drifted = answers.count { $0.int == -1 }
            self.drifts.add(drifted, ordering: .relaxed)
            return drifted
        }.flatMapErrorThrowing { error in
            self.doubt()
            throw error
        }
    }

    private static func kept(_ counts: String) -> String { counts.utf8.count > Self.countsBound ? Self.withoutCounts : counts }

    /// Nil when there is none that is good in this epoch, or it has no more than the sums.
    public func read(_ user: UserID, epoch: Int64) -> EventLoopFuture<InboxHead?> {
        self.redis.send(RedisCommand("GET", .string(self.names.counts(user)))).map { value in
            guard let text = value.string, let head = Self.parse(text), head.position.epoch >= epoch, head.counts != Self.withoutCounts else { return nil }
            return head
        }
    }

    public enum CopyState: Sendable, Equatable {
        case at(StreamPosition)
        /// There is none.
        case none
        /// Its shard did not answer.
        case unknown
    }

    /// Where these users' copies are.
    public func positions(_ users: [UserID]) -> EventLoopFuture<[CopyState]> {
        self.redis.pipeline(users.map { RedisCommand("GETRANGE", .string(self.names.counts($0)), 0, 40) }).map { values in
            values.map { value in
                if value.error != nil { return .unknown }
                guard let parts = value.string?.split(separator: " ", maxSplits: 2), parts.count >= 2, let epoch = Int64(parts[0]),
                    let seq = Int64(parts[1])
                else { return .none }
                return .at(StreamPosition(epoch: epoch, seq: seq))
            }
        }
    }

    static func parse(_ text: String) -> InboxHead? {
        let parts = text.split(separator: " ", maxSplits: 4, omittingEmptySubsequences: false)
        guard parts.count == 5, let epoch = Int64(parts[0]), let seq = Int64(parts[1]), let unread = Int32(parts[2]), let unseen = Int32(parts[3])
        else { return nil }
        return InboxHead(position: StreamPosition(epoch: epoch, seq: seq), unread: unread, unseen: unseen, counts: String(parts[4]))
    }
}
