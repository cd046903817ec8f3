public import Logging
import NotificationCore
public import PostgresClient
import Synchronization

/// The audit log of a node: requests are recorded in memory and written behind them, many with one statement.
///
/// With Postgres away they wait, up to a bound; then the oldest are dropped. What a node that dies had not written is lost: at most what
/// it answered in its last moments.
public final class AuditLog: Sendable {
    public struct Counters: Sendable {
        public var written: Int
        /// Requests of which the log says nothing.
        public var dropped: Int
        public var waiting: Int
    }

    private static let interval: Duration = .milliseconds(200)
    /// About 25 MB of them.
    private static let bound = 50_000
    private static let sumsBound = 1000
    private static let portion = 1000
    /// How long the last ones may take when the node stops.
    private static let farewell: Duration = .seconds(2)

    private let store: AuditStore
    private let logger: Logger
    private let queue = Mutex(AuditQueue(bound: AuditLog.bound, sumsBound: AuditLog.sumsBound))
    private let written = Atomic(0)
    private let isFailing = Atomic(false)
    /// The first one after a silence.
    private let wakes: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation

    public init(pool: PostgresPool, logger: Logger) {
        self.store = AuditStore(pool: pool)
        (self.wakes, self.wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        self.logger = logger
    }

    public var counters: Counters {
        let (dropped, waiting) = self.queue.withLock { ($0.dropped, $0.waiting) }
        return Counters(written: self.written.load(ordering: .relaxed), dropped: dropped, waiting: waiting)
    }

    /// From any thread; waits for nothing.
    ///
    /// - Parameter isOneOfMany: It is added up with those that are alike within a second, of the same subject or, without one, the same address.
    public func record(_ entry: AuditEntry, isOneOfMany: Bool) {
        let isFirst = self.queue.withLock { queue in
            let isFirst = queue.waiting == 0
            if isOneOfMany { queue.addUp(entry) } else { queue.add(entry) }
            return isFirst
        }
        if isFirst { self.wake.yield() }
    }

    /// Until cancelled. Then call ``close()``.
    public func run() async {
        for await _ in self.wakes {
            repeat {
                do { try await Task.sleep(for: Self.interval) } catch { return }
                while await self.flush() == Self.portion {}
            } while self.queue.withLock { $0.waiting > 0 }
        }
    }

    /// Writes what is left, unless Postgres is away.
    public func close() async {
        let end = ContinuousClock.now + Self.farewell
        while ContinuousClock.now < end, await self.flush(all: true) == Self.portion {}
        let lost = self.queue.withLock { $0.waiting }
        if lost > 0 { self.logger.error("audit rows lost at the end", metadata: ["count": "\(lost)"]) }
    }

    /// How many were written, or dropped since they cannot be.
    private func flush(all: Bool = false) async -> Int {
        let entries = self.queue.withLock { $0.take(upTo: Self.portion, now: .now(), all: all) }
        if entries.isEmpty { return 0 }
        // Those that were put back are the first that are taken.
        let again = self.isFailing.load(ordering: .relaxed)
        do throws(StoreError) {
            try await self.store.write(entries, again: again)
            self.written.add(entries.count, ordering: .relaxed)
            self.isFailing.store(false, ordering: .relaxed)
            return entries.count
        } catch {
            // At first it may be refused for what is there already.
            if error.code == .refused, again {
                self.logger.error("audit rows refused by the database", metadata: ["count": "\(entries.count)", "error": "\(error)"])
                self.queue.withLock { $0.drop(entries) }
                return entries.count
            }
            if !self.isFailing.exchange(true, ordering: .relaxed) { self.logger.warning("audit rows wait for the database", metadata: ["error": "\(error)"]) }
            self.queue.withLock { $0.putBack(entries) }
            return 0
        }
    }
}
