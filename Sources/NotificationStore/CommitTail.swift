public import NotificationCore
public import PostgresClient

/// Reads what was committed since the last read: one row a batch, nothing when idle.
///
/// It starts each time at the oldest transaction that was running at the read before, so that none is missed; what it rereads is harmless.
public struct CommitTail: Sendable {
    public struct Commit: Sendable {
        public var users: [UserID]
        public var lastSeqs: [Int64]
        /// Milliseconds since the commit's batch was made.
        public var ageMilliseconds: Int64
    }

    public struct Reading: Sendable {
        public var commits: [Commit]
        /// Of whom something was kept for the first time.
        public var known: [UserID] = []
        /// Of the cluster.
        public var epoch: Int64
    }

    private let pool: PostgresPool
    private let identity: ClusterIdentity?
    private var from: UInt64?
    /// Batches that this reader was given before, so that a long-running transaction does not repeat them.
    private var given: Set<UUIDBytes> = []

    /// - Parameter identity: told with every reading how far the log is, so that a server which went back behind it is noticed.
    public init(pool: PostgresPool, identity: ClusterIdentity? = nil) {
        self.pool = pool
        self.identity = identity
    }

    // Index: commits_xid.
    private static let statement = PostgresStatement(
        """
        SELECT pg_snapshot_xmin(pg_current_snapshot()), (SELECT epoch FROM cluster), c.batch_id, c.users, c.last_seqs,
               (EXTRACT(EPOCH FROM clock_timestamp() - c.at) * 1000)::int8, ('x' || substr(pg_walfile_name(lsn), 1, 8))::bit(32)::integer, lsn::text
        FROM pg_current_wal_flush_lsn() AS lsn LEFT JOIN LATERAL (SELECT * FROM commits WHERE xid >= $1 ORDER BY xid) c ON true
        """)

    /// The first reading begins `back` before now, to find what was left behind.
    static let start = PostgresStatement(
        """
        SELECT LEAST((SELECT min(xid) FROM commits WHERE at > clock_timestamp() - make_interval(secs => $1)), pg_snapshot_xmin(pg_current_snapshot()))
        """)

    public mutating func read(firstReaches back: Double = 5) async throws(StoreError) -> Reading {
        do throws(PostgresError) {
            if self.from == nil {
                let rows = try await self.pool.execute(Self.start, [.float8(back)])
                self.from = try rows.first?.xid8(0)
            }
            let rows = try await self.pool.execute(Self.statement, [.xid8(self.from ?? 0)])
            var reading = Reading(commits: [], epoch: 0)
            var seen: Set<UUIDBytes> = []
            if let first = rows.first, let place = LogPosition(timeline: try first.int4(6), lsn: try first.text(7)) {
                self.identity?.advance(epoch: try first.int8(1), to: place)
            }
            for row in rows {
                self.from = try row.xid8(0)
                reading.epoch = try row.int8(1)
                guard let batch = try row.optionalUUID(2) else { continue }
                seen.insert(batch)
                if self.given.contains(batch) { continue }
                let users = try row.textArray(3).compactMap { UserID($0) }
                let lasts = try row.int8Array(4)
                if lasts.isEmpty { reading.known += users }
                // A batch that only stored what has no number yet has no user.
                guard users.count == lasts.count, !users.isEmpty else { continue }
                reading.commits.append(Commit(users: users, lastSeqs: lasts, ageMilliseconds: try row.int8(5)))
            }
            self.given = seen
            return reading
        } catch {
            throw InboxReader.translate(error)
        }
    }

    /// Forget where it was: read again what was committed in the last `seconds`.
    public mutating func rewind() {
        self.from = nil
        self.given = []
    }
}
