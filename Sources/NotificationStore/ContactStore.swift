public import NotificationCore
public import PostgresClient

/// Where users are reached.
public struct ContactStore: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    // Index: contacts_pkey.
    private static let find = PostgresStatement("SELECT email, phone, locale, timezone, telegram_chat_id, updated_at FROM contacts WHERE user_id = $1")
    private static let put = PostgresStatement(
        """
        \(KnownRecipient.mark)
        INSERT INTO contacts (user_id, email, phone, locale, timezone, telegram_chat_id, updated_at) VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
        ON CONFLICT (user_id) DO UPDATE SET email = EXCLUDED.email, phone = EXCLUDED.phone, locale = EXCLUDED.locale, timezone = EXCLUDED.timezone,
            telegram_chat_id = EXCLUDED.telegram_chat_id, updated_at = EXCLUDED.updated_at
        RETURNING updated_at
        """)
    private static let delete = PostgresStatement("DELETE FROM contacts WHERE user_id = $1")

    /// Nil when nothing is known of the user.
    public func contact(of user: UserID) async throws(StoreError) -> (contact: Contact, updatedAt: Timestamp)? {
        try await InboxReader.run { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.find, [.text(user.value)]).first else { return nil }
            return (try Self.contact(row, 0), Timestamp(microseconds: try row.timestamptz(5)))
        }
    }

    /// Replaces all of it. Answers when that was.
    public func put(_ contact: Contact, of user: UserID) async throws(StoreError) -> Timestamp {
        func text(_ value: String?) -> PostgresValue { value.map { .text($0) } ?? .null }
        let values = [
            .text(user.value), text(contact.email), text(contact.phone), text(contact.locale), text(contact.timezone?.identifier), text(contact.telegramChatID),
        ]
        return try await InboxReader.runWrite { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.put, values).first else { throw PostgresError(code: .decoding, message: "no answer to an insertion") }
            return Timestamp(microseconds: try row.timestamptz(0))
        }
    }

    /// False when there was none.
    public func delete(of user: UserID) async throws(StoreError) -> Bool {
        try await InboxReader.runWrite { () async throws(PostgresError) in
            try await self.pool.execute(Self.delete, [.text(user.value)]).affectedRows > 0
        }
    }

    /// From the columns email, phone, locale, timezone, telegram_chat_id.
    static func contact(_ row: PostgresRow, _ column: Int) throws(PostgresError) -> Contact {
        Contact(
            email: try row.optionalText(column), phone: try row.optionalText(column + 1), locale: try row.optionalText(column + 2),
            timezone: try row.optionalText(column + 3).flatMap { TimeZoneName($0) }, telegramChatID: try row.optionalText(column + 4))
    }
}
