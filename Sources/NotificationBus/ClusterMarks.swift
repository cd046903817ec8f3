import Crypto
public import NIOCore
import NotificationCore
public import NotificationStore
public import RedisClient

/// How far Postgres' log was seen by any node, kept in Redis: where a copy of Postgres' data that is put back does not reach. Nodes that begin
/// anew, and so remember nothing themselves, learn from it that the database has gone back.
///
/// It is a help and no truth: with a Redis that was emptied, or was away, the nodes' own memory is all there is.
public struct ClusterMarks: Sendable {
    /// Longer than a cluster is ever stopped for.
    static let lifetimeSeconds: Int64 = 90 * 86_400

    private let redis: RedisClient
    private let name: String

    /// - Parameter secret: the cluster's, which a copy has as well and no other database: another one's mark is not ours. A copy that lives on beside it needs
    ///   a Redis of its own, or another prefix, also for everything else that is there.
    public init(redis: RedisClient, names: RedisNames, secret: [UInt8]) {
        self.redis = redis
        let digits = Array("0123456789abcdef".utf8)
        let hex = SHA256.hash(data: secret).prefix(8).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        self.name = names.mark(cluster: String(decoding: hex, as: UTF8.self))
    }

    // ARGV: epoch, timeline, place in the log, lifetime, what was compared. Answers what is there and stays, or nothing. What nobody can read is
    // written over.
    private static let script = RedisScript(
        """
        local there = redis.call('GET', KEYS[1]) or ''
        local epoch, timeline, lsn = string.match(there, '^(%d+) (%d+) (%d+)$')
        if epoch and #epoch < 19 and #timeline < 10 and #lsn < 20 then
            local e, t, l = tonumber(epoch), tonumber(timeline), tonumber(lsn)
            local E, T, L = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
            if e > E or (e == E and (t > T or (t == T and l > L) or (t < T and there ~= ARGV[5]))) then
                redis.call('EXPIRE', KEYS[1], ARGV[4])
                return there
            end
        end
        redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3], 'EX', ARGV[4])
        return false
        """)

    /// Nil when there is none.
    public func read() -> EventLoopFuture<ClusterMark?> {
        self.redis.send(RedisCommand("GET", .string(self.name))).flatMapThrowing(Self.mark)
    }

    /// Writes it down, unless somebody has seen more, or has seen what was on an earlier timeline: then answers that, which is to be compared with the
    /// database first.
    ///
    /// - Parameter compared: what has been compared, and so may be written over.
    public func exchange(_ mark: ClusterMark, compared: ClusterMark?) -> EventLoopFuture<ClusterMark?> {
        self.redis.run(
            Self.script, keys: [self.name],
            arguments: [
                .integer(mark.epoch), .integer(Int64(mark.place.timeline)), .string(String(mark.place.lsn)), .integer(Self.lifetimeSeconds),
                .string(compared.map(Self.text) ?? ""),
            ]
        ).flatMapThrowing(Self.mark)
    }

    static func text(_ mark: ClusterMark) -> String { "\(mark.epoch) \(mark.place.timeline) \(mark.place.lsn)" }

    private static func mark(_ value: RedisValue) throws -> ClusterMark? {
        if let error = value.error { throw error }
        return value.string.flatMap { Self.parse($0) }
    }

    /// Nil for what no node wrote.
    static func parse(_ text: String) -> ClusterMark? {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 3, let epoch = Int64(parts[0]), let timeline = Int32(parts[1]), let lsn = UInt64(parts[2]), epoch > 0, timeline > 0 else { return nil }
        return ClusterMark(epoch: epoch, place: LogPosition(timeline: timeline, lsn: lsn))
    }
}
