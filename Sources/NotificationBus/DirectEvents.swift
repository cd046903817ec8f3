public import NIOCore
public import NotificationCore
public import RedisClient
import Synchronization

/// Sends events that are not stored: at most once, to whoever is connected now.
public final class DirectEvents: Sendable {
    private let redis: RedisClient
    private let names: RedisNames
    private let sent = Atomic<Int>(0)

    public init(redis: RedisClient, names: RedisNames) {
        self.redis = redis
        self.names = names
    }

    /// Messages published so far.
    public var published: Int { self.sent.load(ordering: .relaxed) }

    /// One message a user.
    ///
    /// - Parameter message: as ``DirectEnvelope/encode(frame:customer:sentAt:)`` makes it.
    /// - Returns: How many edges took one: the sum over the users. Fails with ``RedisError`` when some of it may not have been sent.
    public func send(_ message: [UInt8], to users: [UserID]) -> EventLoopFuture<Int> {
        self.send(message, channels: users.map { self.names.channel($0) })
    }

    /// One message for every connected client.
    ///
    /// - Returns: How many edges took it.
    public func broadcast(_ message: [UInt8]) -> EventLoopFuture<Int> {
        self.send(message, channels: [self.names.broadcast])
    }

    /// Bytes and messages on their way at once: others publish, too.
    private static let portionBytes = 1 << 20
    private static let portion = 256

    private func send(_ message: [UInt8], channels: [String]) -> EventLoopFuture<Int> {
        let bytes = ByteBuffer(bytes: message)
        return self.send(bytes, channels[...], by: max(1, min(Self.portion, Self.portionBytes / max(1, message.count))))
    }

    /// The next portion goes when the one before is answered.
    private func send(_ bytes: ByteBuffer, _ channels: ArraySlice<String>, by count: Int) -> EventLoopFuture<Int> {
        let first = self.send(bytes, channels.prefix(count))
        let rest = channels.dropFirst(count)
        if rest.isEmpty { return first }
        return first.flatMap { edges in self.send(bytes, rest, by: count).map { edges + $0 } }
    }

    private func send(_ bytes: ByteBuffer, _ channels: ArraySlice<String>) -> EventLoopFuture<Int> {
        self.redis.pipeline(channels.map { RedisCommand("PUBLISH", .string($0), .bytes(bytes)) }).flatMapThrowing { values in
            var edges = 0
            for value in values {
                if let error = value.error { throw error }
                edges += Int(value.int ?? 0)
            }
            self.sent.add(values.count, ordering: .relaxed)
            return edges
        }
    }
}
