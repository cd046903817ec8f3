import NotificationCore
public import PostgresClient

/// What workers look for: rows whose time has come. Each answer is bounded; the changes themselves go through the writer.
public struct Housekeeping: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    /// Rows of a kind in an answer.
    public static let batch = 500

    // Index: notifications_due, notifications_expiry. What has expired before it was due is only among the expired.
    private static let timely = PostgresStatement(
        """
        (SELECT user_id, id, true FROM notifications
         WHERE seq IS NULL AND deliver_at IS NOT NULL AND deliver_at <= now() AND (expires_at IS NULL OR expires_at > now()) ORDER BY deliver_at LIMIT \(batch))
        UNION ALL
        (SELECT user_id, id, false FROM notifications WHERE expires_at IS NOT NULL AND expires_at <= now() ORDER BY expires_at LIMIT \(batch))
        """,
        // A plan that was made while the table was small would read it as a whole, until Postgres has statistics of it.
        prepared: false)
    // Index: notifications_age (BRIN: rows come in about the order of their age).
    private static let old = PostgresStatement(
        "SELECT user_id, id, false FROM notifications WHERE created_at < now() - make_interval(days => $1) AND (deliver_at IS NULL OR deliver_at < now() - make_interval(days => $1)) LIMIT \(batch)")

    /// Whose time has come: to be shown, and to go.
    public func timely() async throws(StoreError) -> [InboxCommand] { try await self.find(Self.timely, []) { $1 ? .comeDue($0) : .expire($0) } }

    public func old(days: Int) async throws(StoreError) -> [InboxCommand] {
        try await self.find(Self.old, [.int4(Int32(days))]) { id, _ in .retire(id) }
    }

    private func find(
        _ statement: PostgresStatement, _ values: [PostgresValue], _ action: (NotificationID, Bool) -> InboxCommand.Action
    ) async throws(StoreError) -> [InboxCommand] {
        try await InboxReader.run { () async throws(PostgresError) in
            var commands: [InboxCommand] = []
            for row in try await self.pool.execute(statement, values) {
                let id = try row.uuid(1)
                guard let user = UserID(try row.text(0)) else { continue }
                commands.append(InboxCommand(user: user, action: action(NotificationID(high: id.high, low: id.low), try row.bool(2))))
            }
            return commands
        }
    }

    // Index: commits has one row a batch and ten minutes of them: a scan.
    private static let commits = PostgresStatement("DELETE FROM commits WHERE at < clock_timestamp() - interval '10 minutes'")
    private static let partitions = PostgresStatement("SELECT keep_change_partitions(make_interval(days => $1))")

    /// Forgets commits of more than ten minutes ago. Answers how many there were.
    public func forgetCommits() async throws(StoreError) -> Int {
        try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(Self.commits).affectedRows
        }
    }

    /// Makes the change log's next partitions and drops those that are over.
    public func keepLog(days: Int) async throws(StoreError) {
        try await InboxReader.run { () async throws(PostgresError) in
            _ = try await self.pool.execute(Self.partitions, [.int4(Int32(days))])
        }
    }
}

/// The one row about the cluster.
public struct ClusterStore: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    /// Signs tickets and sessions; the same on every node.
    public func secret() async throws(StoreError) -> [UInt8] {
        try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(PostgresStatement("SELECT secret FROM cluster")).first?.bytes(0) ?? []
        }
    }

    /// After a restore: every stream and list starts anew. Answers the new epoch.
    public func advanceEpoch() async throws(StoreError) -> Int64 {
        try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(PostgresStatement("SELECT advance_epoch()")).first?.int8(0) ?? 0
        }
    }

    /// The settings that durability depends on, as the server has them, and its version.
    public func settings() async throws(StoreError) -> [(name: String, value: String)] {
        let statement = PostgresStatement(
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'server_version') ORDER BY name")
        return try await InboxReader.run { () async throws(PostgresError) in
            var settings: [(name: String, value: String)] = []
            for row in try await self.pool.execute(statement) { settings.append((try row.text(0), try row.text(1))) }
            return settings
        }
    }
}
