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
        self.copiesACall = if case .cluster = redis.deployment { 1 } else { 32 }
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

    // Answers how many of the copies had the same position and other counts. Nearly always what is written is newer than what was there, so that it is
    // written first, and what was newer still is put back: a script's calls are what it costs. A copy whose numbers have no zeros before them is another
    // version's; what is none at all is written over.
    private static let script = RedisScript(
        """
        local function position(text)
            if string.find(text, ' ', 1, true) == 20 then return string.sub(text, 1, \(positionLength)) end
            local epoch, seq = string.match(text, '^(%d+) (%d+) ')
            if not epoch then return '' end
            return string.rep('0', 19 - #epoch) .. epoch .. ' ' .. string.rep('0', 19 - #seq) .. seq
        end
        local drifted, failure = 0, nil
        for i = 1, #KEYS do
            local new, old = ARGV[i + 2], nil
            if ARGV[2] == '1' then
                old = redis.pcall('SET', KEYS[i], new, 'XX', 'GET', 'EX', ARGV[1])
            else
                old = redis.pcall('SET', KEYS[i], new, 'GET', 'EX', ARGV[1])
            end
            if type(old) == 'table' then
                failure = failure or old
            elseif old and old ~= new then
                local was, is = position(old), string.sub(new, 1, \(positionLength))
                if was > is then
                    redis.call('SET', KEYS[i], old, 'EX', ARGV[1])
                elseif was == is and string.match(old, '^%d+ %d+ (.*)$') ~= string.sub(new, \(positionLength + 2)) then
                    drifted = drifted + 1
                end
            end
        end
        return failure or drifted
        """)
    /// Bytes of a copy's position: as texts, two of them have the order of their numbers.
    private static let positionLength = 2 * 19 + 1
    /// Copies a call of the script is for. With a cluster each is in a slot of its own.
    private let copiesACall: Int

    /// Compares these heads, as Postgres has them, with their copies: one with the same position and other counts is mended and counted in
    /// ``drift``, one that is behind is brought up to date, and users without a copy get none.
    ///
    /// - Returns: How many had drifted.
    public func audit(_ heads: [(user: UserID, head: InboxHead)]) -> EventLoopFuture<Int> { self.write(heads, onlyExisting: true) }

    public func write(_ heads: [(user: UserID, head: InboxHead)]) -> EventLoopFuture<Void> {
        self.write(heads, onlyExisting: false).map { _ in }
    }

    private func write(_ heads: [(user: UserID, head: InboxHead)], onlyExisting: Bool) -> EventLoopFuture<Int> {
        var calls: [(keys: [String], arguments: [RedisArgument])] = []
        for start in stride(from: 0, to: heads.count, by: self.copiesACall) {
            let some = heads[start..<min(start + self.copiesACall, heads.count)]
            var arguments: [RedisArgument] = []
            arguments.reserveCapacity(2 + some.count)
            arguments.append(.integer(Self.lifetimeSeconds))
            arguments.append(.integer(onlyExisting ? 1 : 0))
            for (_, head) in some { arguments.append(.octets(Self.text(head))) }
            calls.append((some.map { self.names.counts($0.user) }, arguments))
        }
        return self.redis.run(Self.script, calls: calls).map { answers in
            if answers.contains(where: { $0.error != nil }) { self.doubt() }
            let drifted = answers.reduce(0) { $0 + Int($1.int ?? 0) }
            self.drifts.add(drifted, ordering: .relaxed)
            return drifted
        }.flatMapErrorThrowing { error in
            self.doubt()
            throw error
        }
    }

    /// What ``parse(_:)`` reads.
    static func text(_ head: InboxHead) -> [UInt8] {
        let counts = head.counts.utf8.count > Self.countsBound ? Self.withoutCounts : head.counts
        var text: [UInt8] = []
        text.reserveCapacity(Self.positionLength + 24 + counts.utf8.count)
        text.append(decimal: head.position.epoch, width: 19)
        text.append(UInt8(ascii: " "))
        text.append(decimal: head.position.seq, width: 19)
        for count in [head.unread, head.unseen] {
            text.append(UInt8(ascii: " "))
            text.append(decimal: Int64(count))
        }
        text.append(UInt8(ascii: " "))
        text.append(contentsOf: counts.utf8)
        return text
    }

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
        self.redis.pipeline(users.map { RedisCommand("GETRANGE", .string(self.names.counts($0)), 0, .integer(Int64(Self.positionLength))) }).map { values in
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
