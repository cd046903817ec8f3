public import Logging
public import NotificationBus
import NotificationCore
import NIOCore
import NotificationStore
public import PostgresClient
public import RedisClient
import Synchronization

/// Follows the commit tail and refreshes the Redis copies that a dead node, or a Redis that was away, left behind. Users' streams are not
/// its business: edges read the tail themselves.
public final class CopyRepair: Sendable {
    /// How far back it reads after Redis was away: as long as commits are remembered.
    private static let reach: Double = 600
    /// Turns for which a user who is written to in each of them is left alone: the later write has brought the copy up to date, unless none of them can.
    private static let patience = 5
    /// Users that wait for a shard that is away; past it their copies end by themselves.
    private static let unknownBound = 100_000

    private let pool: PostgresPool
    private let reader: InboxReader
    private let copies: CountCopies
    private let redis: RedisClient
    private let logger: Logger
    private let repairs = Atomic<Int>(0)
    private let behind = Atomic<Int>(0)

    public init(pool: PostgresPool, copies: CountCopies, redis: RedisClient, logger: Logger) {
        self.pool = pool
        self.reader = InboxReader(pool: pool)
        self.copies = copies
        self.redis = redis
        self.logger = logger
    }

    /// Copies repaired so far.
    public var repaired: Int { self.repairs.load(ordering: .relaxed) }
    /// Users whose commit was not published, in the last reading.
    public var unpublished: Int { self.behind.load(ordering: .relaxed) }

    /// Until cancelled.
    public func run() async {
        var tail = CommitTail(pool: self.pool)
        var away = true
        var waiting: [UserID: Expected] = [:]
        while !Task.isCancelled {
            if !self.redis.isReachable {
                away = true
            } else {
                if away {
                    tail.rewind()
                    waiting = [:]
                    away = false
                }
                do {
                    let reading = try await tail.read(firstReaches: Self.reach)
                    let due = Self.turn(&waiting, reading.commits)
                    for (user, seq) in try await self.repair(due) where waiting[user] == nil { waiting[user] = Expected(seq: seq, turns: Self.patience) }
                } catch {
                    self.logger.debug("copies not repaired, tried again", metadata: ["error": "\(error)"])
                    // What was read and not repaired is read again.
                    away = true
                }
            }
            do { try await Cadence.sleep(.seconds(1)) } catch { return }
        }
    }

    /// What a user's copy has to show at least.
    struct Expected: Equatable {
        var seq: Int64
        /// How often it was left for a later write.
        var turns = 0
    }

    /// Takes up what the tail shows, and answers whose copies must be up to date by now, and with which number: what the tail showed a turn ago. What is new
    /// may be on its way.
    static func turn(_ waiting: inout [UserID: Expected], _ commits: [CommitTail.Commit]) -> [UserID: Int64] {
        var next: [UserID: Expected] = [:]
        for commit in commits {
            for (user, seq) in zip(commit.users, commit.lastSeqs) { next[user] = Expected(seq: max(next[user]?.seq ?? 0, seq)) }
        }
        var due: [UserID: Int64] = [:]
        for (user, expected) in waiting {
            if next[user] != nil, expected.turns < Self.patience {
                next[user]?.turns = expected.turns + 1
            } else {
                due[user] = expected.seq
            }
        }
        waiting = next
        return due
    }

    /// Answers those whose shard did not answer.
    private func repair(_ expected: [UserID: Int64]) async throws -> [UserID: Int64] {
        var behind = 0
        var unknown: [UserID: Int64] = [:]
        let users = Array(expected)
        var from = 0
        while from < users.count {
            let portion = users[from..<min(from + 1000, users.count)]
            from += 1000
            let positions = try await self.copies.positions(portion.map(\.key)).get()
            var late: [UserID] = []
            for (entry, state) in zip(portion, positions) {
                switch state {
                case .at(let position): if position.seq < entry.value { late.append(entry.key) }
                case .none: break
                case .unknown: if unknown.count < Self.unknownBound { unknown[entry.key] = entry.value }
                }
            }
            if late.isEmpty { continue }
            behind += late.count
            try await self.copies.write(self.reader.heads(of: late)).get()
            self.repairs.add(late.count, ordering: .relaxed)
        }
        self.behind.store(behind, ordering: .relaxed)
        return unknown
    }
}
