public import Logging
public import NotificationCore
public import PostgresClient

/// What is known of a delivery when its time has come.
public struct DeliveryMaterial: Sendable {
    /// The members of the notification's JSON.
    public var body: String
    public var customer: String?
    public var priority: Priority
    public var isRead: Bool
    public var isExpired: Bool
    /// What the user prefers now, and where the user is reached now.
    public var recipient: Recipient
}

/// Reads it, for many deliveries at once.
public struct DeliveryMaterials: Sendable {
    private let pool: PostgresPool
    private let logger: Logger

    public init(pool: PostgresPool, logger: Logger) {
        self.pool = pool
        self.logger = logger
    }

    // Index: notifications_pkey, heads_pkey, contacts_pkey, preferences_pkey twice. Each LIMIT keeps its part a lookup by key.
    private static let statement = PostgresStatement(
        """
        SELECT q.place::integer, n.body, n.customer_id, n.priority, n.read OR COALESCE(n.state_seq <= h.mark_seq, false),
               COALESCE(n.expires_at <= clock_timestamp(), false), c.user_id IS NOT NULL, c.email, c.phone, c.locale, c.timezone, c.telegram_chat_id, o.body, s.body
        FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS q(user_id, id, place)
        CROSS JOIN LATERAL (SELECT * FROM notifications n WHERE n.user_id = q.user_id AND n.id = q.id LIMIT 1) n
        LEFT JOIN LATERAL (SELECT h.mark_seq FROM heads h WHERE h.user_id = q.user_id LIMIT 1) h ON true
        LEFT JOIN LATERAL (SELECT * FROM contacts c WHERE c.user_id = q.user_id LIMIT 1) c ON true
        LEFT JOIN LATERAL (SELECT p.body FROM preferences p WHERE p.user_id = q.user_id AND p.customer_id = '' LIMIT 1) o ON true
        LEFT JOIN LATERAL (SELECT p.body FROM preferences p WHERE p.user_id = q.user_id AND p.customer_id = n.customer_id AND n.customer_id <> '' LIMIT 1) s ON true
        """)

    /// In the order of the tasks; nil where the notification is gone.
    public func read(_ tasks: [QueuedTask]) async throws(StoreError) -> [DeliveryMaterial?] {
        try await InboxReader.run { () async throws(PostgresError) in
            var materials = [DeliveryMaterial?](repeating: nil, count: tasks.count)
            let values: [PostgresValue] = [.textArray(tasks.map { $0.user?.value }), .uuidArray(tasks.map { $0.notification?.bytes })]
            for row in try await self.pool.execute(Self.statement, values) {
                let place = Int(try row.int4(0)) - 1
                guard materials.indices.contains(place) else { continue }
                materials[place] = DeliveryMaterial(
                    body: try row.text(1), customer: try row.optionalText(2), priority: Priority(rawValue: try row.int2(3)) ?? .medium,
                    isRead: try row.bool(4), isExpired: try row.bool(5), recipient: Recipient(
                        own: .readable(try row.optionalText(12), self.logger), customer: .readable(try row.optionalText(13), self.logger),
                        contact: try row.bool(6) ? try ContactStore.contact(row, 7) : nil))
            }
            return materials
        }
    }
}
