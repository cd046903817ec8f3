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

    /// - Returns: The key itself, `ck_` and 43 characters with 256 random bits, which cannot be had again.
    public func create(name: String, scopes: Set<Scope>) async throws(StoreError) -> (id: NotificationID, key: String) {
        let (made, key) = try await self.make(name: name, scopes: scopes)
        return (made.id, key)
    }

    /// The same with all that is stored of it.
    public func make(name: String, scopes: Set<Scope>) async throws(StoreError) -> (made: Key, key: String) {
        var generator = SystemRandomNumberGenerator()
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
        let key = "ck_" + String(decoding: (0..<43).map { _ in alphabet[Int(UInt8.random(in: 0..<64, using: &generator))] }, as: UTF8.self)
        let id = NotificationID.make()
        let statement = PostgresStatement("INSERT INTO apikeys (id, name, hash, scopes) VALUES ($1, $2, $3, $4) RETURNING created_at")
        let createdAt = try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(
                statement, [.uuid(UUIDBytes(high: id.high, low: id.low)), .text(name), .bytea(Self.hash(key)), .textArray(scopes.map(\.rawValue).sorted())]
            ).first?.timestamptz(0) ?? 0
        }
        return (Key(id: id, name: name, scopes: scopes, createdAt: Timestamp(microseconds: createdAt), revokedAt: nil), key)
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
        return try await InboxReader.run { () async throws(PostgresError) in
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
