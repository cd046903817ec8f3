public import NotificationCore
public import PostgresClient

/// What deliveries are looked for.
public struct DeliveryQuery: Sendable {
    /// Where the page before ended.
    public struct Cursor: Sendable, Equatable {
        public var createdAt: Timestamp
        public var notification: NotificationID
        public var user: UserID
        public var channel: String
        public var endpoint: String

        public init(createdAt: Timestamp, notification: NotificationID, user: UserID, channel: String, endpoint: String) {
            self.createdAt = createdAt
            self.notification = notification
            self.user = user
            self.channel = channel
            self.endpoint = endpoint
        }
    }

    /// Of their creation.
    public var since: Timestamp
    public var until: Timestamp
    public var user: UserID?
    public var state: String?
    public var channel: String?
    public var customer: String?
    /// Only of these; nil: of all of them and of none.
    public var customers: [String]?
    public var after: Cursor?
    public var limit = 50

    public init(since: Timestamp, until: Timestamp) {
        self.since = since
        self.until = until
    }
}

public struct DeliveryRecord: Sendable {
    public var cursor: DeliveryQuery.Cursor
    public var state: String
    public var reason: String?
    public var type: String
    public var event: String?
    public var customer: String?
    public var notBefore: Timestamp?
    /// Since when it has its state.
    public var at: Timestamp
}

/// Finds deliveries of all users, the last ones first.
public struct DeliverySearch: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    // Index: deliveries_pkey for one user; else deliveries_age, whose cost is that of the range.
    private static let order = "created_at, notification_id, user_id, channel, endpoint"

    public func page(_ query: DeliveryQuery) async throws(StoreError) -> [DeliveryRecord] {
        var conditions = ["created_at >= $1", "created_at < $2"]
        var values: [PostgresValue] = [
            .timestamptz(microsecondsSince1970: query.since.microseconds), .timestamptz(microsecondsSince1970: query.until.microseconds),
        ]
        func add(_ value: PostgresValue, _ condition: (String) -> String) {
            values.append(value)
            conditions.append(condition("$\(values.count)"))
        }
        if let user = query.user { add(.text(user.value)) { "user_id = \($0)" } }
        if let state = query.state { add(.text(state)) { "state = \($0)" } }
        if let channel = query.channel { add(.text(channel)) { "channel = \($0)" } }
        if let customer = query.customer { add(.text(customer)) { "customer_id = \($0)" } }
        if let customers = query.customers { add(.textArray(customers)) { "customer_id = ANY (\($0))" } }
        if let after = query.after {
            let first = values.count + 1
            values += [
                .timestamptz(microsecondsSince1970: after.createdAt.microseconds), .uuid(UUIDBytes(high: after.notification.high, low: after.notification.low)),
                .text(after.user.value), .text(after.channel), .text(after.endpoint),
            ]
            conditions.append("(\(Self.order)) < (" + (first..<first + 5).map { "$\($0)" }.joined(separator: ", ") + ")")
        }
        let statement = PostgresStatement(
            """
            SELECT \(Self.order), state, reason, type, event, customer_id, not_before, at FROM deliveries
            WHERE \(conditions.joined(separator: " AND "))
            ORDER BY \(Self.order.split(separator: ", ").map { $0 + " DESC" }.joined(separator: ", ")) LIMIT \(query.limit)
            """, prepared: false)
        let parameters = values
        return try await InboxReader.run { () async throws(PostgresError) in
            var records: [DeliveryRecord] = []
            for row in try await self.pool.execute(statement, parameters) {
                let id = try row.uuid(1)
                guard let user = UserID(try row.text(2)) else { continue }
                records.append(
                    DeliveryRecord(
                        cursor: DeliveryQuery.Cursor(
                            createdAt: Timestamp(microseconds: try row.timestamptz(0)), notification: NotificationID(high: id.high, low: id.low), user: user,
                            channel: try row.text(3), endpoint: try row.text(4)),
                        state: try row.text(5), reason: try row.optionalText(6), type: try row.text(7), event: try row.optionalText(8),
                        customer: try row.optionalText(9), notBefore: try row.optionalTimestamptz(10).map { Timestamp(microseconds: $0) },
                        at: Timestamp(microseconds: try row.timestamptz(11))))
            }
            return records
        }
    }
}
