public import PostgresClient

/// What a provider tells of a message after it took it.
public struct DeliveryCallbacks: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    // Index: deliveries_sms. A later word of the same provider does not undo an end.
    private static let note = PostgresStatement(
        """
        WITH d AS (
            SELECT ctid, state FROM deliveries WHERE channel = 'sms' AND reference = $1
        ), changed AS (
            UPDATE deliveries t SET state = $2, reason = $3, at = clock_timestamp() FROM d WHERE t.ctid = d.ctid AND d.state = 'sent' AND $2 <> 'sent'
        )
        SELECT count(*) FROM d
        """)

    /// - Parameters:
    ///   - reference: the provider's name for the message.
    ///   - state: `delivered` or `failed`; `sent` only looks.
    /// - Returns: Whether there is such a message.
    public func note(_ reference: String, state: DeliveryState, reason: String?) async throws(StoreError) -> Bool {
        let values: [PostgresValue] = [.text(reference), .text(state.rawValue), reason.map { .text($0) } ?? .null]
        return try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(Self.note, values).first?.int8(0) ?? 0 > 0 }
    }
}
