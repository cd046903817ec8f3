import Crypto
public import NotificationCore
public import PostgresClient

public enum Scope: String, Sendable, CaseIterable, Hashable {
    case notify, direct, webhooks, contacts, admin
}

/// API keys as they are stored: a name, scopes, and the SHA-256 of the key.
public struct APIKeyStore: Sendable {
    public struct Key: Sendable {
        public var id: NotificationID
        public var name: String
        public var scopes: Set<Scope>
        public var createdAt: Timestamp
        public var revokedAt: Timestamp?
    }

    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    public static func hash(_ key: String) -> [UInt8] { Array(SHA256.hash(data: Array(key.utf8))) }

    public enum Status: String, Sendable, CaseIterable { case active, revoked, all }

    /// One that is to be stored.
    public struct NewKey: Sendable {
        public let stored: Key
        /// The key itself: `ck_` and 43 characters with 256 random bits, which cannot be had again.
        public let key: String

        public init(name: String, scopes: Set<Scope>) {
            var generator = SystemRandomNumberGenerator()
            let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
            self.key = "ck_" + String(decoding: (0..<43).map { _ in alphabet[Int(UInt8.random(in: 0..<64, using: &generator))] }, as: UTF8.self)
            self.stored = Key(id: .make(), name: name, scopes: scopes, createdAt: .now(), revokedAt: nil)
        }
    }

    public func create(name: String, scopes: Set<Scope>) async throws(StoreError) -> (id: NotificationID, key: String) {
        let new = NewKey(name: name, scopes: scopes)
        _ = try await self.insert(new)
        return (new.stored.id, new.key)
    }

    private static let insertion = PostgresStatement("INSERT INTO apikeys (id, name, hash, scopes, created_at) VALUES ($1, $2, $3, $4, $5)")
    // Index: idempotency_pkey. Two of one claim: the second waits here for the first, and stores nothing.
    private static let claimedInsertion = PostgresStatement(
        """
        WITH claim AS (
            INSERT INTO idempotency AS c (owner, route, key, digest, answer, at) VALUES ($6, $7, $8, $9, $10, clock_timestamp())
            ON CONFLICT (owner, route, key) DO UPDATE SET digest = EXCLUDED.digest, answer = EXCLUDED.answer, ids = '{}', seqs = '{}', at = EXCLUDED.at
            WHERE c.at < clock_timestamp() - interval '\(IdempotencyClaim.hours) hours'
            RETURNING 1
        )
        INSERT INTO apikeys (id, name, hash, scopes, created_at) SELECT $1, $2, $3, $4, $5 FROM claim
        """)

    /// - Parameter claim: made in the same transaction.
    /// - Returns: False when the claim was made before; then nothing was stored.
    public func insert(_ new: NewKey, claim: IdempotencyClaim? = nil) async throws(StoreError) -> Bool {
        let key = new.stored
        var values: [PostgresValue] = [
            .uuid(UUIDBytes(high: key.id.high, low: key.id.low)), .text(key.name), .bytea(Self.hash(new.key)), .textArray(key.scopes.map(\.rawValue).sorted()),
            .timestamptz(microsecondsSince1970: key.createdAt.microseconds),
        ]
        var statement = Self.insertion
        if let claim {
            statement = Self.claimedInsertion
            values += [
                .uuid(UUIDBytes(high: claim.owner.high, low: claim.owner.low)), .text(claim.route), .text(claim.key), .bytea(claim.digest), .text(claim.answer),
            ]
        }
        let (chosen, parameters) = (statement, values)
        return try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(chosen, parameters).affectedRows > 0 }
    }

    // Index: apikeys_pkey.
    private static let newest = PostgresStatement(
        """
        SELECT id, name, scopes, created_at, revoked_at FROM apikeys
        WHERE ($1::uuid IS NULL OR id < $1) AND ($2 = 'all' OR (revoked_at IS NULL) = ($2 = 'active')) ORDER BY id DESC LIMIT $3
        """)

    /// Those that were made before one, the last ones first.
    public func page(_ status: Status, after id: NotificationID?, limit: Int) async throws(StoreError) -> [Key] {
        let values: [PostgresValue] = [id.map { .uuid(UUIDBytes(high: $0.high, low: $0.low)) } ?? .null, .text(status.rawValue), .int4(Int32(limit))]
        return try await InboxReader.run { () async throws(PostgresError) in
            var keys: [Key] = []
            for row in try await self.pool.execute(Self.newest, values) { keys.append(try Self.key(row)) }
            return keys
        }
    }

    public func list() async throws(StoreError) -> [Key] {
        let statement = PostgresStatement("SELECT id, name, scopes, created_at, revoked_at FROM apikeys ORDER BY created_at")
        return try await InboxReader.run { () async throws(PostgresError) in
            var keys: [Key] = []
            for row in try await self.pool.execute(statement) { keys.append(try Self.key(row)) }
            return keys
        }
    }

    /// False when there is no such key, or it was revoked before.
    public func revoke(_ id: NotificationID) async throws(StoreError) -> Bool {
        let statement = PostgresStatement("UPDATE apikeys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL")
        return try await InboxReader.runWrite { () async throws(PostgresError) in
            try await self.pool.execute(statement, [.uuid(UUIDBytes(high: id.high, low: id.low))]).affectedRows > 0
        }
    }

    // Index: apikeys_hash_key.
    private static let find = PostgresStatement("SELECT id, name, scopes, created_at, revoked_at FROM apikeys WHERE hash = $1")

    /// By the hash of a key. Nil when it is unknown.
    public func find(hash: [UInt8]) async throws(StoreError) -> Key? {
        try await InboxReader.run { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.find, [.bytea(hash)]).first else { return nil }
            return try Self.key(row)
        }
    }

    private static func key(_ row: PostgresRow) throws(PostgresError) -> Key {
        let id = try row.uuid(0)
        return Key(
            id: NotificationID(high: id.high, low: id.low), name: try row.text(1), scopes: Set(try row.textArray(2).compactMap(Scope.init(rawValue:))),
            createdAt: Timestamp(microseconds: try row.timestamptz(3)),
            revokedAt: try row.optionalTimestamptz(4).map { Timestamp(microseconds: $0) })
    }
}
