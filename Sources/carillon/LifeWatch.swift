import Logging
import NIOCore
import NotificationBus
import NotificationStore
import PostgresClient
import RedisClient

/// Compares what this node has seen of Postgres with what all others have, by way of Redis: so that also a node that has just begun notices a database that
/// was put back to an earlier state, and each hears of a new epoch.
struct LifeWatch: Sendable {
    /// How long a node that begins waits for Redis to tell it.
    private static let patience: Duration = .seconds(1)
    private static let pause: Duration = .seconds(5)

    let marks: ClusterMarks
    let identity: ClusterIdentity
    let pool: PostgresPool
    let redis: RedisClient
    let logger: Logger

    /// Before the node serves anything. False when Redis did not say in time: then it is asked later.
    func begin() async -> Bool {
        let deadline = ContinuousClock.now + Self.patience
        while !self.redis.isReachable, ContinuousClock.now < deadline {
            do { try await Task.sleep(for: .milliseconds(10)) } catch { return false }
        }
        return await self.first()
    }

    /// Until cancelled.
    ///
    /// - Parameter begun: whether the mark was compared before.
    func run(begun: Bool) async {
        var begun = begun
        while !Task.isCancelled {
            if !begun {
                begun = await self.first()
            } else {
                do {
                    let further = self.redis.isReachable ? try await self.marks.exchange(self.identity.mark).get() : nil
                    let epoch = self.identity.epoch
                    // Also what this node has seen itself: tables can be put back below connections that go on.
                    try await self.identity.compare(further ?? self.identity.mark, on: self.pool)
                    self.tell(since: epoch)
                } catch {
                    self.logger.debug("the cluster's mark not compared, tried again", metadata: ["error": "\(error)"])
                }
            }
            do { try await Task.sleep(for: Self.pause) } catch { return }
        }
    }

    /// When the node stops: what it has seen last.
    func end() async {
        guard self.redis.isReachable else { return }
        let promise = self.redis.eventLoop.makePromise(of: Void.self)
        let timeout = self.redis.eventLoop.scheduleTask(in: .milliseconds(500)) { promise.succeed(()) }
        self.marks.exchange(self.identity.mark).whenComplete { _ in
            // Others have seen more, or Redis is away: then this node's word is missed by nobody, or written by nobody.
            timeout.cancel()
            promise.succeed(())
        }
        try? await promise.futureResult.get()
    }

    /// What is there is compared, whatever it says, before this node writes its own: it may be of a timeline that the database has left.
    private func first() async -> Bool {
        guard self.redis.isReachable else { return false }
        do {
            let epoch = self.identity.epoch
            if let mark = try await self.marks.read().get(), mark != self.identity.mark { try await self.identity.compare(mark, on: self.pool) }
            self.tell(since: epoch)
            return true
        } catch {
            self.logger.debug("the cluster's mark not compared, tried again", metadata: ["error": "\(error)"])
            return false
        }
    }

    private func tell(since epoch: Int64) {
        let now = self.identity.epoch
        if now != epoch { self.logger.notice("the data is another than was seen before: a new epoch", metadata: ["epoch": "\(now)"]) }
    }
}
