import Logging
import NIOCore
import NotificationBus
import NotificationCore
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

    /// What has come of comparing so far.
    struct Compared: Sendable {
        /// Whether the mark was compared at all.
        var hasBegun = false
        /// The last one that was.
        var mark: ClusterMark?
    }

    /// Before the node serves anything. Where Redis does not say in time it is asked later.
    func begin() async -> Compared {
        let deadline = ContinuousClock.now + Self.patience
        while !self.redis.isReachable, ContinuousClock.now < deadline {
            do { try await Task.sleep(for: .milliseconds(10)) } catch { return Compared() }
        }
        do {
            return try await self.next(after: Compared())
        } catch {
            self.logger.debug("the cluster's mark not compared, tried again", metadata: ["error": "\(error)"])
            return Compared()
        }
    }

    /// Until cancelled.
    ///
    /// - Parameter compared: what came of the beginning.
    func run(_ compared: Compared) async {
        var compared = compared
        var complaint = ""
        while !Task.isCancelled {
            do {
                compared = try await self.next(after: compared)
                complaint = ""
            } catch {
                // That Redis or Postgres is away is told of elsewhere; a right that lacks is told of here, once.
                if error is RedisError, self.redis.isReachable, "\(error)" != complaint {
                    complaint = "\(error)"
                    self.logger.warning("the cluster's mark not compared, tried again", metadata: ["error": "\(error)"])
                }
            }
            do { try await Cadence.sleep(Self.pause) } catch { return }
        }
    }

    /// When the node stops: what it has seen last. What is there and was never compared stays.
    func end() async {
        guard self.redis.isReachable else { return }
        let promise = self.redis.eventLoop.makePromise(of: Void.self)
        let timeout = self.redis.eventLoop.scheduleTask(in: .milliseconds(500)) { promise.succeed(()) }
        self.marks.exchange(self.identity.mark, compared: nil).whenComplete { _ in
            // Others have seen more, or Redis is away: then this node's word is missed by nobody, or written by nobody.
            timeout.cancel()
            promise.succeed(())
        }
        try? await promise.futureResult.get()
    }

    /// First what is there is compared, whatever it says; later what this node has seen itself is compared too: tables can be put back below connections
    /// that go on.
    private func next(after last: Compared) async throws -> Compared {
        var compared = last
        let epoch = self.identity.epoch
        if last.hasBegun {
            let further = self.redis.isReachable ? try await self.marks.exchange(self.identity.mark, compared: last.mark).get() : nil
            try await self.identity.compare(further ?? self.identity.mark, on: self.pool)
            if let further { compared.mark = further }
        } else if self.redis.isReachable {
            let mark = try await self.marks.read().get()
            if let mark, mark != self.identity.mark { try await self.identity.compare(mark, on: self.pool) }
            compared = Compared(hasBegun: true, mark: mark)
        }
        let now = self.identity.epoch
        if now != epoch { self.logger.notice("the data is another than was seen before: a new epoch", metadata: ["epoch": "\(now)"]) }
        return compared
    }
}
