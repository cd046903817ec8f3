public import NotificationCore
public import PostgresClient

/// Brings the secrets of all webhooks under another key, while nodes serve: each row is changed only if it still is what was read.
public struct SecretRotation: Sendable {
    public struct Result: Sendable, Equatable {
        /// Are under the current key, and were before.
        public var current = 0
        /// Are under it now.
        public var resealed = 0
        /// Neither key opens them.
        public var unreadable: [NotificationID] = []
    }

    private let pool: PostgresPool
    private let box: SecretBox

    public init(pool: PostgresPool, box: SecretBox) {
        self.pool = pool
        self.box = box
    }

    // Index: webhooks_pkey. What a rotation of the webhook's own secret has left counts as long as it is good.
    private static let page = PostgresStatement(
        """
        SELECT id, secret, CASE WHEN old_until > clock_timestamp() THEN old_secret END FROM webhooks
        WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT 200
        """)
    // Index: webhooks_pkey.
    private static let change = PostgresStatement(
        """
        UPDATE webhooks SET secret = $2, old_secret = coalesce($3::bytea, old_secret)
        WHERE id = $1 AND secret = $4 AND ($3::bytea IS NULL OR old_secret = $5::bytea)
        """)

    /// - Parameter changes: false: only looks.
    public func run(changes: Bool = true) async throws(StoreError) -> Result {
        var result = Result()
        var last: NotificationID?
        while true {
            let rows = try await self.read(after: last)
            guard let end = rows.last else { return result }
            for row in rows { try await self.look(at: row, changes, &result) }
            last = end.id
        }
    }

    private struct Row {
        var id: NotificationID
        var secret: [UInt8]
        var old: [UInt8]?
    }

    private func read(after id: NotificationID?) async throws(StoreError) -> [Row] {
        try await InboxReader.run { () async throws(PostgresError) in
            var rows: [Row] = []
            for row in try await self.pool.execute(Self.page, [id.map { .uuid($0.bytes) } ?? .null]) {
                rows.append(Row(id: NotificationID(bytes: try row.uuid(0)), secret: try row.bytes(1), old: try row.optionalBytes(2)))
            }
            return rows
        }
    }

    private func look(at row: Row, _ changes: Bool, _ result: inout Result) async throws(StoreError) {
        let place = row.id.description
        guard self.box.open(row.secret, place: place) != nil, row.old.map({ self.box.open($0, place: place) != nil }) ?? true else {
            result.unreadable.append(row.id)
            return
        }
        let (secret, old) = (try self.box.resealed(row.secret, place: place), try row.old.flatMap { old throws(StoreError) in try self.box.resealed(old, place: place) })
        if secret == nil, old == nil {
            result.current += 1
            return
        }
        result.resealed += 1
        guard changes else { return }
        let values: [PostgresValue] = [
            .uuid(row.id.bytes), .bytea(secret ?? row.secret), old.map { .bytea($0) } ?? .null, .bytea(row.secret), row.old.map { .bytea($0) } ?? .null,
        ]
        let changed = try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(Self.change, values).affectedRows }
        // Somebody was quicker; by which key, the next run tells.
        if changed == 0 { throw StoreError(code: .failed, message: "webhook \(row.id) was changed meanwhile: run it again") }
    }
}
