public import NotificationCore
public import PostgresClient

/// What statistics are asked for.
public struct TotalsQuery: Sendable {
    public enum Dimension: String, Sendable, CaseIterable {
        case day, channel, type, event, state
        case customer = "customer_id"
    }

    /// Days in UTC, as `2026-11-21`: from the first, up to and without the last.
    public var since: String
    public var until: String
    public var dimensions: [Dimension]
    /// By dimension: what it must be.
    public var filters: [Dimension: String] = [:]
    /// Only of these; nil: of all of them and of none.
    public var customers: [String]?

    public init(since: String, until: String, dimensions: [Dimension]) {
        self.since = since
        self.until = until
        self.dimensions = dimensions
    }
}

public struct Totals: Sendable {
    /// How long after the creation something came about, of those of which it is known.
    public struct Latency: Sendable {
        public var timed: Int64
        public var seconds: Double
        public var withinMinute: Int64
        public var withinHour: Int64
        public var withinDay: Int64
    }

    public struct Row: Sendable {
        /// In the order of the query's dimensions; empty: none.
        public var values: [String]
        public var count: Int64
        public var latency: Latency
    }

    public var rows: [Row]
    /// Up to when changes are counted.
    public var countedUntil: Timestamp
}

/// Sums by day, kept by a worker from the change log: reading them costs what they are, not what they count.
public struct TotalsStore: Sendable {
    /// Rows of an answer; one more says that there are more.
    public static let rowBound = 10_000

    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    private static let count = PostgresStatement("SELECT counted, more FROM count_totals()")
    private static let progress = PostgresStatement("SELECT until FROM totals_progress")

    private static let deliveries = PostgresStatement("SELECT count_deliveries()")

    /// Counts the last days' deliveries by the state that they have now. It costs what there are of them.
    public func countDeliveries() async throws(StoreError) {
        try await InboxReader.run { () async throws(PostgresError) in _ = try await self.pool.execute(Self.deliveries) }
    }

    /// Counts what was committed since the last call. `isMore`: there is more than one call takes.
    public func advance() async throws(StoreError) -> (counted: Int, isMore: Bool) {
        try await InboxReader.run { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.count).first else { throw PostgresError(code: .decoding, message: "a function without an answer") }
            return (Int(try row.int8(0)), try row.bool(1))
        }
    }

    public func read(_ query: TotalsQuery) async throws(StoreError) -> Totals {
        // Names of columns, none of them from outside.
        let columns = query.dimensions.map { $0 == .day ? "day::text" : $0.rawValue }
        var conditions = ["day >= $1::text::date", "day < $2::text::date"]
        var values: [PostgresValue] = [.text(query.since), .text(query.until)]
        for dimension in TotalsQuery.Dimension.allCases {
            guard let value = query.filters[dimension] else { continue }
            values.append(.text(value))
            conditions.append("\(dimension == .day ? "day::text" : dimension.rawValue) = $\(values.count)")
        }
        if let customers = query.customers {
            values.append(.textArray(customers))
            conditions.append("customer_id = ANY ($\(values.count)) AND customer_id <> ''")
        }
        let grouping = (1..<(columns.count + 1)).map { String($0) }.joined(separator: ", ")
        // Index: totals_pkey, the range of days.
        let statement = PostgresStatement(
            """
            SELECT \(columns.joined(separator: ", "))\(columns.isEmpty ? "" : ",") COALESCE(sum(count), 0)::bigint, COALESCE(sum(timed), 0)::bigint,
                   COALESCE(sum(seconds), 0), COALESCE(sum(within_minute), 0)::bigint, COALESCE(sum(within_hour), 0)::bigint,
                   COALESCE(sum(within_day), 0)::bigint
            FROM totals WHERE \(conditions.joined(separator: " AND "))
            \(columns.isEmpty ? "" : "GROUP BY \(grouping) ORDER BY \(grouping)") LIMIT \(Self.rowBound + 1)
            """, prepared: false)
        let parameters = values
        return try await InboxReader.run { () async throws(PostgresError) in
            let until = try await self.pool.execute(Self.progress).first?.timestamptz(0) ?? 0
            var rows: [Totals.Row] = []
            for row in try await self.pool.execute(statement, parameters) {
                var dimensions: [String] = []
                for column in columns.indices { dimensions.append(try row.text(column)) }
                let at = columns.count
                rows.append(
                    Totals.Row(
                        values: dimensions, count: try row.int8(at),
                        latency: Totals.Latency(
                            timed: try row.int8(at + 1), seconds: try row.float8(at + 2), withinMinute: try row.int8(at + 3),
                            withinHour: try row.int8(at + 4), withinDay: try row.int8(at + 5))))
            }
            return Totals(rows: rows, countedUntil: Timestamp(microseconds: until))
        }
    }
}
