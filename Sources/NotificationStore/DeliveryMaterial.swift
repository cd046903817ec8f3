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
    /// Nil: the user has none any more.
    public var contact: Contact?
}

/// Reads it, for many deliveries at once.
public struct DeliveryMaterials: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    // Index: notifications_pkey, heads_pkey, contacts_pkey. Each LIMIT keeps its part a lookup by key.
    private static let statement = PostgresStatement(
        """
        SELECT q.place::integer, n.body, n.customer_id, n.priority, n.read OR COALESCE(n.state_seq <= h.mark_seq, false),
               COALESCE(n.expires_at <= clock_timestamp(), false), c.user_id IS NOT NULL, c.email, c.phone, c.locale, c.timezone, c.telegram_chat_id
        FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS q(user_id, id, place)
        CROSS JOIN LATERAL (SELECT * FROM notifications n WHERE n.user_id = q.user_id AND n.id = q.id LIMIT 1) n
        LEFT JOIN LATERAL (SELECT h.mark_seq FROM heads h WHERE h.user_id = q.user_id LIMIT 1) h ON true
        LEFT JOIN LATERAL (SELECT * FROM contacts c WHERE c.user_id = q.user_id LIMIT 1) c ON true
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
                    isRead: try row.bool(4), isExpired: try row.bool(5), contact: try row.bool(6) ? try ContactStore.contact(row, 7) : nil)
            }
            return materials
        }
    }
}
