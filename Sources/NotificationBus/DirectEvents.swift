public import NIOCore
public import NotificationCore
public import NotificationStore
public import RedisClient
import Synchronization

/// Sends events that are not stored: at most once, to whoever is connected now.
public final class DirectEvents: Sendable {
    /// A connection of one event loop, made when it is first wanted.
    private struct Lane: Sendable {
        var client: RedisClient
        let isStarted = Started()
    }

    private final class Started: Sendable {
        let flag = Atomic<Bool>(false)
    }

    /// How long whoever changed something about a user waits for Redis at most.
    private static let patience: TimeAmount = .milliseconds(100)

    private let redis: RedisClient
    private let lanes: [Lane]
    private let names: RedisNames
    private let sent = Atomic<Int>(0)

    /// - Parameter lanes: clients that were not started, for event loops other than that of `redis`: what is sent from one of these goes over its own
    ///   connection, without waking another thread. Nodes that send no direct events keep none open.
    public init(redis: RedisClient, lanes: [RedisClient] = [], names: RedisNames) {
        self.redis = redis
        self.lanes = lanes.map { Lane(client: $0) }
        self.names = names
    }

    /// Messages published so far.
    public var published: Int { self.sent.load(ordering: .relaxed) }

    /// Of the clients besides the one that others use as well.
    public var counters: [RedisClientCounters] { self.lanes.map(\.client.counters) }

    /// One message a user.
    ///
    /// - Parameters:
    ///   - message: as ``DirectEnvelope/encode(frame:customer:subject:sentAt:)`` makes it.
    ///   - eventLoop: where this is called; the answer may come on another one.
    /// - Returns: How many edges took one: the sum over the users. Fails with ``RedisError`` when some of it may not have been sent.
    public func send(_ message: [UInt8], to users: [UserID], on eventLoop: any EventLoop) -> EventLoopFuture<Int> {
        let client = self.client(of: eventLoop)
        if users.count == 1 {
            return client.send(RedisCommand("PUBLISH", .string(self.names.channel(users[0])), .octets(message))).map { value in
                self.sent.add(1, ordering: .relaxed)
                return Int(value.int ?? 0)
            }
        }
        return self.send(message, client, users.map { self.names.channel($0) })
    }

    /// One message for every connected client.
    ///
    /// - Returns: How many edges took it.
    public func broadcast(_ message: [UInt8]) -> EventLoopFuture<Int> {
        self.send(message, self.redis, [self.names.broadcast])
    }

    /// Closes what was opened for these events alone.
    public func shutdown() async {
        for lane in self.lanes {
            // It only fails when the event loop has ended, and the connection with it.
            try? await lane.client.shutdown().get()
        }
    }

    private func client(of eventLoop: any EventLoop) -> RedisClient {
        guard let lane = self.lanes.first(where: { $0.client.eventLoop === eventLoop }) else { return self.redis }
        if lane.client.isAvailable { return lane.client }
        if !lane.isStarted.flag.exchange(true, ordering: .relaxed) { lane.client.start() }
        return self.redis
    }

    /// Bytes and messages on their way at once: others publish, too.
    private static let portionBytes = 1 << 20
    private static let portion = 256

    private func send(_ bytes: [UInt8], _ client: RedisClient, _ channels: [String]) -> EventLoopFuture<Int> {
        self.send(bytes, client, channels[...], by: max(1, min(Self.portion, Self.portionBytes / max(1, bytes.count))))
    }

    /// The next portion goes when the one before is answered.
    private func send(_ bytes: [UInt8], _ client: RedisClient, _ channels: ArraySlice<String>, by count: Int) -> EventLoopFuture<Int> {
        let first = self.send(bytes, client, channels.prefix(count))
        let rest = channels.dropFirst(count)
        if rest.isEmpty { return first }
        return first.flatMap { edges in self.send(bytes, client, rest, by: count).map { edges + $0 } }
    }

    private func send(_ bytes: [UInt8], _ client: RedisClient, _ channels: ArraySlice<String>) -> EventLoopFuture<Int> {
        client.pipeline(channels.map { RedisCommand("PUBLISH", .string($0), .octets(bytes)) }).flatMapThrowing { values in
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

extension DirectEvents: RecipientObserver {
    /// Has edges ask from now on what the user prefers. Redis delivers it before whatever is published after this returns; should it be lost, the commit tail
    /// says the same within a second.
    public func known(_ user: UserID) async {
        let told = self.redis.eventLoop.makePromise(of: Void.self)
        let timeout = self.redis.eventLoop.scheduleTask(in: Self.patience) { told.succeed() }
        self.redis.send(RedisCommand("PUBLISH", .string(self.names.channel(user)), .octets(DirectEnvelope.known))).whenComplete { _ in
            timeout.cancel()
            told.succeed()
        }
        // It only succeeds.
        try? await told.futureResult.get()
    }
}
