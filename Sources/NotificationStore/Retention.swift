public import PostgresClient

/// What goes by its age, table by table, in portions of one transaction each, so that no lock is held for long. Notifications are not among them:
/// each is a numbered change, which the writer makes.
public struct Retention: Sendable {
    public struct Rule: Sendable {
        public enum Age: Sendable {
            /// However long the retention is.
            case hours(Int)
            /// The retention, and so many days more.
            case retention(extraDays: Int = 0)
            /// Two retentions.
            case twice
        }

        public var table: String
        /// When a row began, or its day.
        public var column: String
        public var age: Age
        /// Finds the oldest rows.
        public var index: String
        /// Which rows may go; all of them by default.
        public var condition = "true"

        public init(table: String, column: String = "at", age: Age, index: String, condition: String = "true") {
            self.table = table
            self.column = column
            self.age = age
            self.index = index
            self.condition = condition
        }
    }

    /// Tables that a database does not have are left out.
    public static let rules: [Rule] = [
        // Those of a job's chunks go with their job.
        Rule(table: "idempotency", age: .hours(IdempotencyClaim.hours), index: "idempotency_age", condition: "route <> 'job'"),
        // Longer than any notification that was read by one.
        Rule(table: "marks", age: .retention(extraDays: 1), index: "marks_age"),
        Rule(table: "deliveries", column: "created_at", age: .retention(), index: "deliveries_age", condition: "state NOT IN ('queued', 'sending')"),
        // Dead letters. By their queues, of which each has a range in that index.
        Rule(
            table: "tasks", column: "run_at", age: .retention(), index: "tasks_time",
            condition: "state = 3 AND queue IN (\(TaskQueue.all.map { "'\($0.rawValue)'" }.joined(separator: ", ")))"),
        Rule(table: "webhook_attempts", age: .retention(), index: "webhook_attempts_age"),
        Rule(table: "webhook_deliveries", column: "created_at", age: .retention(), index: "webhook_deliveries_age", condition: "state <> 'queued'"),
        // Those whose task is gone as well.
        Rule(table: "webhook_deliveries", column: "created_at", age: .twice, index: "webhook_deliveries_age"),
        // What waits for a webhook that nobody enables.
        Rule(table: "tasks", column: "run_at", age: .retention(), index: "tasks_time", condition: "queue = 'webhook.held' AND state IN (0, 1)"),
        // Longer than whatever was made of them.
        Rule(table: "webhook_events", age: .retention(extraDays: 1), index: "webhook_events_age"),
        Rule(table: "totals", column: "day", age: .retention(), index: "totals_pkey"),
    ]

    /// Rows that go in one transaction, and transactions in one call: the rest goes with the next one.
    static let portion = 2000
    static let rounds = 500

    private let pool: PostgresPool
    private let rules: [Rule]

    public init(pool: PostgresPool, rules: [Rule] = Self.rules) {
        self.pool = pool
        self.rules = rules
    }

    private static let presence = PostgresStatement("SELECT name FROM unnest($1::text[]) AS t(name) WHERE to_regclass(name) IS NOT NULL")

    /// Answers how many rows went.
    @discardableResult
    public func run(days: Int) async throws(StoreError) -> Int {
        let rules = self.rules
        let present = try await InboxReader.run { () async throws(PostgresError) in
            var names: Set<String> = []
            for row in try await self.pool.execute(Self.presence, [.textArray(rules.map(\.table))]) { names.insert(try row.text(0)) }
            return names
        }
        var gone = 0
        for rule in rules where present.contains(rule.table) { gone += try await self.apply(rule, days: days) }
        return gone
    }

    private func apply(_ rule: Rule, days: Int) async throws(StoreError) -> Int {
        let hours =
            switch rule.age {
            case .hours(let hours): hours
            case .retention(let extra): (days + extra) * 24
            case .twice: days * 2 * 24
            }
        let statement = PostgresStatement(
            """
            DELETE FROM \(rule.table) WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM \(rule.table) WHERE \(rule.column) < now() - make_interval(hours => $1) AND \(rule.condition) LIMIT \(Self.portion)))
            """)
        var gone = 0
        for _ in 0..<Self.rounds {
            let portion = try await InboxReader.run { () async throws(PostgresError) in
                try await self.pool.execute(statement, [.int4(Int32(hours))]).affectedRows
            }
            gone += portion
            if portion < Self.portion { break }
        }
        return gone
    }
}
