public import PostgresClient

/// How much waits, and for how long.
public struct QueueDepths: Sendable {
    public struct Depth: Sendable {
        public var queue: String
        /// The state of those that wait, where the queue has several.
        public var state: String?
        /// At most ``QueueDepths/bound``: past it they are not counted.
        public var depth: Int64
        /// How long the one has waited that should have gone first, in seconds; nil: none should have.
        public var oldestSeconds: Double?
    }

    /// Counting costs what there is to count.
    public static let bound: Int64 = 100_000

    private struct Queue: Sendable {
        var table: String
        var sql: String
    }

    // Each counts up to the bound, by its index.
    private static let queues = [
        // Index: notifications_due.
        Queue(
            table: "notifications",
            sql: """
                SELECT 'scheduled'::text, 'due'::text, count(*), EXTRACT(EPOCH FROM now() - min(at))::float8
                FROM (SELECT deliver_at AS at FROM notifications WHERE seq IS NULL AND deliver_at <= now() ORDER BY deliver_at LIMIT \(bound)) q
                UNION ALL
                SELECT 'scheduled', 'waiting', count(*), NULL
                FROM (SELECT FROM notifications WHERE seq IS NULL AND deliver_at > now() ORDER BY deliver_at LIMIT \(bound)) q
                """),
        // Index: notifications_expiry.
        Queue(
            table: "notifications",
            sql: """
                SELECT 'expiry'::text, 'due'::text, count(*), EXTRACT(EPOCH FROM now() - min(at))::float8
                FROM (SELECT expires_at AS at FROM notifications WHERE expires_at <= now() ORDER BY expires_at LIMIT \(bound)) q
                """),
        // Index: jobs_open. One that is still being written down is nobody's yet.
        Queue(
            table: "jobs",
            sql: """
                SELECT 'jobs'::text, s.state, count(q.at), EXTRACT(EPOCH FROM now() - min(q.at))::float8
                FROM unnest(ARRAY['queued', 'running']) AS s(state)
                LEFT JOIN (SELECT state, created_at AS at FROM jobs WHERE ended_at IS NULL ORDER BY turn LIMIT \(bound)) q USING (state)
                GROUP BY s.state ORDER BY s.state
                """),
        // Index: tasks_time, of each queue and state so many rows.
        Queue(
            table: "tasks",
            sql: """
                SELECT q.name, s.word, c.count, CASE s.number WHEN 0 THEN EXTRACT(EPOCH FROM clock_timestamp() - c.first)::float8 END
                FROM unnest(ARRAY[\(TaskQueue.all.map { "'\($0.rawValue)'" }.joined(separator: ", "))]) WITH ORDINALITY AS q(name, place)
                CROSS JOIN (VALUES (0, 'due'), (1, 'waiting'), (2, 'running'), (3, 'dead'), (4, 'handed_over')) AS s(number, word)
                CROSS JOIN LATERAL (
                    SELECT count(*), min(run_at) AS first
                    FROM (SELECT run_at FROM tasks WHERE queue = q.name AND state = s.number ORDER BY run_at LIMIT \(bound)) t) c
                WHERE s.number < 4 OR c.count > 0
                ORDER BY q.place, s.number
                """),
        // What the totals are behind by.
        Queue(table: "totals_progress", sql: "SELECT 'totals'::text, 'due'::text, 0::bigint, EXTRACT(EPOCH FROM clock_timestamp() - until)::float8 FROM totals_progress"),
    ]

    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    private static let presence = PostgresStatement("SELECT name FROM unnest($1::text[]) AS t(name) WHERE to_regclass(name) IS NOT NULL")

    public func read() async throws(StoreError) -> [Depth] {
        try await InboxReader.run { () async throws(PostgresError) in
            var present: Set<String> = []
            for row in try await self.pool.execute(Self.presence, [.textArray(Self.queues.map(\.table))]) { present.insert(try row.text(0)) }
            var depths: [Depth] = []
            for queue in Self.queues where present.contains(queue.table) {
                // Planned each time: a plan that was made while the table was small would read it as a whole.
                for row in try await self.pool.execute(PostgresStatement(queue.sql, prepared: false)) {
                    depths.append(
                        Depth(
                            queue: try row.text(0), state: try row.optionalText(1), depth: try row.int8(2),
                            oldestSeconds: try row.optionalFloat8(3)))
                }
            }
            return depths
        }
    }
}
