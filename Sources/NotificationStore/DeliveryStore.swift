public import NotificationCore
public import PostgresClient

/// How far a delivery has come.
public enum DeliveryState: String, Sendable, CaseIterable {
    case queued, sending, sent, delivered, failed, suppressed, dead
}

/// A delivery as it is written with its notification.
public struct NewDelivery: Sendable, Equatable {
    public var channel: DeliveryChannel
    /// Empty where none was looked for.
    public var endpoint: String
    public var state: DeliveryState
    public var reason: Suppression?
    public var notBefore: Timestamp?
    /// It goes with others of its time in one message.
    public var isGathered = false
    /// Of a queued one: what its templates are filled with, as JSON.
    public var payload: String?

    /// Whose task it becomes.
    var queue: TaskQueue { self.isGathered ? .digest : TaskQueue(self.channel) }

    public init(
        channel: DeliveryChannel, endpoint: String = "", state: DeliveryState, reason: Suppression? = nil, notBefore: Timestamp? = nil,
        isGathered: Bool = false, payload: String? = nil
    ) {
        self.channel = channel
        self.endpoint = endpoint
        self.state = state
        self.reason = reason
        self.notBefore = notBefore
        self.isGathered = isGathered
        self.payload = payload
    }
}

/// A notification's state in one channel.
public struct DeliveryStatus: Sendable, Equatable {
    public var channel: String
    public var state: String
    public var reason: String?
    /// Since when.
    public var at: Timestamp
    /// It is not sent before; nil: at once.
    public var notBefore: Timestamp?
}

/// Reads what became of notifications in their channels.
public struct DeliveryStore: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    // Index: notifications_pkey, deliveries_pkey. What is shown in the application has no row: its notification says all about it.
    private static let ofNotification = PostgresStatement(
        """
        SELECT n.customer_id, n.seq IS NOT NULL, n.deliver_at, n.created_at, d.channel, d.state,
               CASE d.state WHEN 'suppressed' THEN d.reason END, d.at, d.not_before
        FROM notifications n LEFT JOIN deliveries d ON d.user_id = n.user_id AND d.notification_id = n.id
        WHERE n.user_id = $1 AND n.id = $2 ORDER BY d.created_at, d.channel, d.endpoint
        """)

    /// The application first. Nil when there is no such notification, it is another user's, or belongs to a customer outside `scope`.
    public func deliveries(of id: NotificationID, user: UserID, scope: [String]?) async throws(StoreError) -> [DeliveryStatus]? {
        try await InboxReader.run { () async throws(PostgresError) in
            let rows = try await self.pool.execute(Self.ofNotification, [.text(user.value), .uuid(UUIDBytes(high: id.high, low: id.low))])
            guard let first = rows.first else { return nil }
            if let scope, let customer = try first.optionalText(0), !scope.contains(where: { $0.utf8.elementsEqual(customer.utf8) }) { return nil }
            var deliveries: [DeliveryStatus] = []
            let created = Timestamp(microseconds: try first.timestamptz(3))
            let due = try first.optionalTimestamptz(2).map { Timestamp(microseconds: $0) }
            if try first.bool(1) {
                deliveries.append(DeliveryStatus(channel: DeliveryChannel.inApp.rawValue, state: DeliveryState.delivered.rawValue, at: max(due ?? created, created)))
            } else if let due {
                deliveries.append(DeliveryStatus(channel: DeliveryChannel.inApp.rawValue, state: DeliveryState.queued.rawValue, at: created, notBefore: due))
            }
            for row in rows {
                guard let channel = try row.optionalText(4) else { continue }
                deliveries.append(
                    DeliveryStatus(
                        channel: channel, state: try row.text(5), reason: try row.optionalText(6), at: Timestamp(microseconds: try row.timestamptz(7)),
                        notBefore: try row.optionalTimestamptz(8).map { Timestamp(microseconds: $0) }))
            }
            return deliveries
        }
    }
}
