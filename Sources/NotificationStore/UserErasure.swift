public import NotificationCore
public import PostgresClient

/// Erases a user: the inbox through the writer, so that whoever has it open is told, then all other rows.
///
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

    /// Until nothing is left. What fails in between is done again by the same call. Answers how many rows there were.
    ///
    /// A notification that is created meanwhile is erased as well, or was created after it.
    public func erase(_ user: UserID) async throws(StoreError) -> Int {
        var erased = 0
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
        for table in try await self.present() {
            let statement = table.statement
            var gone: Int
            repeat {
                gone = try await InboxReader.run { () async throws(PostgresError) in
                    try await self.pool.execute(statement, [.text(user.value)]).affectedRows
                }
                erased += gone
            } while table.key != nil && gone >= Self.portion
        }
        return erased
    }

    private func present() async throws(StoreError) -> [Table] {
        let names = try await InboxReader.run { () async throws(PostgresError) in
            var names: Set<String> = []
            for row in try await self.pool.execute(Self.presence, [.textArray(Self.tables.map(\.name))]) { names.insert(try row.text(0)) }
            return names
        }
        return Self.tables.filter { names.contains($0.name) }
    }
}
