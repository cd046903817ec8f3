public import NotificationCore
public import PostgresClient

/// Erases a user: from the jobs that are to come, then the inbox through the writer, so that whoever has it open is told, then all other rows.
///
/// Events of webhooks lose the user; those that were about nobody else go. What endpoints answered stays until its retention ends.
/// Lines of the audit log stay without who asked and from where: that something was written is not the user's alone. Lines about requests of others that
/// name the user stay as they are.
/// What stays is the head without content (the user's id, the epoch that the user was given, and the last number), since positions of before must
/// never mean anything again, and one line of the change log with that number. Claims of `Idempotency-Key` hold answers that name users for a day,
/// and commits name them for ten minutes; both end by themselves. Totals name nobody.
public struct UserErasure: Sendable {
    /// A table with rows of users.
    struct Table: Sendable {
        var name: String
        /// With the user the start of an index, by which large tables are cut. Nil: a user has a few rows at most.
        var key: String?
        /// Which of the user's rows.
        var condition = "true"

        var statement: PostgresStatement {
            guard let key else { return PostgresStatement("DELETE FROM \(self.name) WHERE user_id = $1 AND \(self.condition)") }
            return PostgresStatement(
                """
                DELETE FROM \(self.name) WHERE user_id = $1 AND \(self.condition) AND \(key) <= (
                    SELECT \(key) FROM (SELECT \(key) FROM \(self.name) WHERE user_id = $1 AND \(self.condition) ORDER BY \(key) LIMIT \(UserErasure.portion)) AS first
                    ORDER BY \(key) DESC LIMIT 1)
                """)
        }
    }

    /// Besides heads and notifications. Tables that a database does not have are left out.
    static let tables: [Table] = [
        // Index: marks_pkey.
        Table(name: "marks", key: "seq"),
        // Index: changes_pkey of each partition. The last number's line stays: it knows the counts for those who resume from it.
        Table(name: "changes", key: "seq", condition: "seq < (SELECT h.mark_seq FROM heads h WHERE h.user_id = $1)"),
        // Index: tasks_user.
        Table(name: "tasks", key: "id"),
        // Index: deliveries_pkey.
        Table(name: "deliveries", key: "notification_id"),
        // Index: preferences_pkey, contacts_pkey.
        Table(name: "preferences"),
        Table(name: "contacts"),
    ]

    /// Rows of a table that go in one transaction.
    static let portion = 2000
    /// Portions of one inbox; more than a database holds.
    private static let roundBound = 1_000_000

    private let pool: PostgresPool
    private let writer: InboxWriter

    public init(pool: PostgresPool, writer: InboxWriter) {
        self.pool = pool
        self.writer = writer
    }

    // Index: heads_pkey.
    private static let known = PostgresStatement("SELECT EXISTS (SELECT FROM heads WHERE user_id = $1)")
    private static let presence = PostgresStatement("SELECT name FROM unnest($1::text[]) AS t(name) WHERE to_regclass(name) IS NOT NULL")

    /// Jobs that are not over lose the user, and count one less. Of one whose chunk under way has the user, the chunk is waited for; a lease that ended a
    /// while ago is nobody's chunk. Index: jobs_open, job_users_pkey.
    private static let leaveJobs = PostgresStatement(
        """
        WITH held AS MATERIALIZED (
            SELECT j.id, j.state = 'running' AND j.lease_until > clock_timestamp() - interval '1 minute' AND (
                       SELECT count(*) FROM (SELECT FROM job_users b WHERE b.job_id = j.id AND b.user_id > j.position AND b.user_id < $1 LIMIT $2) AS ahead
                   ) < $2 AS under_way
            FROM jobs j WHERE j.ended_at IS NULL AND j.position < $1
              AND EXISTS (SELECT FROM job_users u WHERE u.job_id = j.id AND u.user_id = $1)
            ORDER BY j.id FOR UPDATE OF j
        ), gone AS (
            DELETE FROM job_users u USING held WHERE u.job_id = held.id AND NOT held.under_way AND u.user_id = $1 RETURNING u.job_id
        ), less AS (
            UPDATE jobs SET total = total - 1 FROM gone WHERE id = gone.job_id
        )
        SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM held WHERE under_way)
        """)

    // Index: audit_subject.
    private static let blurAudit = PostgresStatement(
        """
        UPDATE audit SET subject_kind = NULL, subject = NULL, address = ''
        WHERE id = ANY (ARRAY(SELECT id FROM audit WHERE subject = $1 AND subject_kind = 'user' ORDER BY id LIMIT \(portion)))
        """)

    private static let leaveEvents = PostgresStatement("SELECT next, changed FROM erase_from_events($1, $2, \(portion))")

    /// All events are looked at, a portion at a time: nothing says which ones name a user.
    private func leaveEvents(_ user: UserID) async throws(StoreError) {
        var after: NotificationID? = NotificationID(high: 0, low: 0)
        while let begin = after {
            after = try await InboxReader.run { () async throws(PostgresError) in
                try await self.pool.execute(Self.leaveEvents, [.text(user.value), .uuid(begin.bytes)]).first?.optionalUUID(0).map { NotificationID(bytes: $0) }
            }
        }
    }

    /// How long a chunk with the user is waited for.
    private static let patience: Duration = .seconds(10)

    private func leaveJobs(_ user: UserID) async throws(StoreError) -> Int {
        var left = 0
        let start = ContinuousClock.now
        while true {
            let (gone, waiting) = try await InboxReader.run { () async throws(PostgresError) in
                let row = try await self.pool.execute(Self.leaveJobs, [.text(user.value), .int8(Int64(JobRunner.smallJob))]).first
                return (try row?.int8(0) ?? 0, try row?.int8(1) ?? 0)
            }
            left += Int(gone)
            if waiting == 0 { return left }
            if ContinuousClock.now - start > Self.patience {
                throw StoreError(code: .unavailable, message: "a job that is under way has this user and does not get on; try again in a moment")
            }
            do { try await Task.sleep(for: .milliseconds(50)) } catch {
                throw StoreError(code: .unavailable, message: "this node is shutting down")
            }
        }
    }

    /// Until nothing is left. What fails in between is done again by the same call. Answers how many rows there were.
    ///
    /// A notification that is created meanwhile is erased as well, or was created after it.
    public func erase(_ user: UserID) async throws(StoreError) -> Int {
        var erased = try await self.leaveJobs(user)
        let isKnown = try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(Self.known, [.text(user.value)]).first?.bool(0) ?? false
        }
        if isKnown {
            for _ in 0..<Self.roundBound {
                let outcome = try await self.writer.write([InboxCommand(user: user, action: .erase)])[0]
                erased += outcome.updated
                if !outcome.more, outcome.status != .recovered { break }
            }
        }
        for table in try await self.present(Self.tables) {
            let statement = table.statement
            var gone: Int
            repeat {
                gone = try await InboxReader.run { () async throws(PostgresError) in
                    try await self.pool.execute(statement, [.text(user.value)]).affectedRows
                }
                erased += gone
            } while table.key != nil && gone >= Self.portion
        }
        if try await self.present([UserErasure.Table(name: "webhook_events")]).count == 1 { try await self.leaveEvents(user) }
        var blurred: Int
        repeat {
            blurred = try await InboxReader.run { () async throws(PostgresError) in
                try await self.pool.execute(Self.blurAudit, [.text(user.value)]).affectedRows
            }
        } while blurred >= Self.portion
        return erased
    }

    private func present(_ tables: [Table]) async throws(StoreError) -> [Table] {
        let names = try await InboxReader.run { () async throws(PostgresError) in
            var names: Set<String> = []
            for row in try await self.pool.execute(Self.presence, [.textArray(tables.map(\.name))]) { names.insert(try row.text(0)) }
            return names
        }
        return tables.filter { names.contains($0.name) }
    }
}
