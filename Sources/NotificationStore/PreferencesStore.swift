public import NotificationCore
public import PostgresClient

/// What users prefer, as they say it: one set in general, and one for each customer.
public struct PreferencesStore: Sendable {
    /// The most customers about which one user may say something.
    public static let maximumCustomers = 1000

    private let pool: PostgresPool
    private let observer: (any RecipientObserver)?

    /// - Parameter observer: told of each change before it is answered.
    public init(pool: PostgresPool, observer: (any RecipientObserver)? = nil) {
        self.pool = pool
        self.observer = observer
    }

    // Index: preferences_pkey.
    private static let find = PostgresStatement("SELECT body FROM preferences WHERE user_id = $1 AND customer_id = $2")

    /// What was said for this customer alone, or in general where it is nil; empty where nothing was.
    public func preferences(of user: UserID, customer: CustomerID?) async throws(StoreError) -> Preferences {
        try Self.parse(try await self.text(user, customer?.value ?? ""))
    }

    private static func parse(_ text: String?) throws(StoreError) -> Preferences {
        guard let text else { return Preferences() }
        do throws(ValidationError) {
            return try Preferences(stored: text)
        } catch {
            throw StoreError(code: .failed, message: "stored preferences are not understood: \(error.errors.first?.detail ?? "")")
        }
    }

    private func text(_ user: UserID, _ customer: String) async throws(StoreError) -> String? {
        try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(Self.find, [.text(user.value), .text(customer)]).first?.text(0)
        }
    }

    // Index: preferences_pkey. Nothing is written over what has changed since it was read ($4; '' stands for no row), nor for one customer too many.
    private static let insert = PostgresStatement(
        """
        \(KnownRecipient.mark)
        INSERT INTO preferences (user_id, customer_id, body, updated_at) SELECT $1, $2, $3, clock_timestamp()
        WHERE (SELECT count(*) FROM preferences WHERE user_id = $1) <= \(maximumCustomers)
        ON CONFLICT (user_id, customer_id) DO NOTHING
        """)
    private static let update = PostgresStatement(
        "UPDATE preferences SET body = $3, updated_at = clock_timestamp() WHERE user_id = $1 AND customer_id = $2 AND body = $4")
    private static let delete = PostgresStatement("DELETE FROM preferences WHERE user_id = $1 AND customer_id = $2 AND body = $3")

    /// Replaces what is stored by what `change` makes of it, whoever else changes it at the same time.
    ///
    /// - Returns: What is stored now.
    /// - Throws: What `change` throws, or what the store says: nothing was changed, unless that is in doubt.
    public func change(
        of user: UserID, customer: CustomerID?, _ change: @Sendable (Preferences) throws(ValidationError) -> Preferences
    ) async throws(PreferencesError) -> Preferences {
        let place = customer?.value ?? ""
        for _ in 0..<Self.attempts {
            let before = try await Self.store { () async throws(StoreError) in try await self.text(user, place) }
            let stored = try await Self.store { () async throws(StoreError) in try Self.parse(before) }
            let after = try Self.valid { () throws(ValidationError) in try change(stored) }
            if try await self.write(user, place, before: before, after: after) {
                if before != nil || !after.isEmpty { await self.observer?.known(user) }
                return after
            }
        }
        throw .store(StoreError(code: .overloaded, message: "these preferences are changed by others all the time; try again"))
    }

    private static let attempts = 20

    /// False when they were changed by somebody else since.
    private func write(_ user: UserID, _ customer: String, before: String?, after: Preferences) async throws(PreferencesError) -> Bool {
        let text = String(decoding: after.json.encoded, as: UTF8.self)
        if after.isEmpty, before == nil { return true }
        let key: [PostgresValue] = [.text(user.value), .text(customer)]
        let (statement, values): (PostgresStatement, [PostgresValue])
        if let before {
            (statement, values) = after.isEmpty ? (Self.delete, key + [.text(before)]) : (Self.update, key + [.text(text), .text(before)])
        } else {
            (statement, values) = (Self.insert, key + [.text(text)])
        }
        let rows = try await Self.store { () async throws(StoreError) in
            try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(statement, values).affectedRows }
        }
        if rows == 0, before == nil, try await self.isFull(user, customer) { throw .tooManyCustomers }
        return rows > 0
    }

    // Index: preferences_pkey.
    private static let count = PostgresStatement("SELECT count(*), count(*) FILTER (WHERE customer_id = $2) FROM preferences WHERE user_id = $1")

    private func isFull(_ user: UserID, _ customer: String) async throws(PreferencesError) -> Bool {
        let values: [PostgresValue] = [.text(user.value), .text(customer)]
        return try await Self.store { () async throws(StoreError) in
            try await InboxReader.run { () async throws(PostgresError) in try Self.isFull(try await self.pool.execute(Self.count, values)) }
        }
    }

    private static func isFull(_ rows: PostgresRows) throws(PostgresError) -> Bool {
        guard let row = rows.first else { return false }
        let (all, own) = (try row.int8(0), try row.int8(1))
        return all > Self.maximumCustomers && own == 0
    }

    private static func store<Value: Sendable>(_ body: () async throws(StoreError) -> Value) async throws(PreferencesError) -> Value {
        do throws(StoreError) { return try await body() } catch { throw .store(error) }
    }

    private static func valid(_ body: () throws(ValidationError) -> Preferences) throws(PreferencesError) -> Preferences {
        do throws(ValidationError) { return try body() } catch { throw .invalid(error) }
    }
}

/// Why preferences were not changed.
public enum PreferencesError: Error, Sendable {
    case invalid(ValidationError)
    case store(StoreError)
    /// More than ``PreferencesStore/maximumCustomers``.
    case tooManyCustomers
}
