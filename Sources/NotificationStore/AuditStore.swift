public import NotificationCore
public import PostgresClient

/// A row of the audit log.
public struct AuditRow: Sendable {
    public var id: NotificationID
    public var entry: AuditEntry
}

/// Which rows are asked for; the newest come first.
public struct AuditQuery: Sendable {
    /// A user's id, or an API key's.
    public var subject: String?
    /// In whole milliseconds, inclusive.
    public var since: Timestamp?
    /// Exclusive.
    public var until: Timestamp?
    /// The last row of the page before.
    public var after: NotificationID?
    public var limit = 50

    public init() {}
}

/// The audit log in the database.
public struct AuditStore: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    private static let insertion =
        """
        INSERT INTO audit (id, at, subject_kind, subject, subject_name, method, route, ids, status, count, address, request_id)
        SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[], $9::int2[], $10::int4[],
                             $11::text[], $12::text[])
        """
    private static let insert = PostgresStatement(insertion)
    // What was written before its answer was lost is there already. To look for it makes a row a fifth dearer.
    private static let insertAgain = PostgresStatement(insertion + " ON CONFLICT (id) DO NOTHING")

    /// All of them, or none. They have ids.
    ///
    /// - Parameter again: whether some of them may have been written before.
    func write(_ entries: [AuditEntry], again: Bool) async throws(StoreError) {
        let subjects = entries.map { Self.columns($0.subject) }
        let values: [PostgresValue] = [
            .uuidArray(entries.map { entry in entry.id.map { UUIDBytes(high: $0.high, low: $0.low) } }),
            .timestamptzArray(entries.map(\.at.microseconds)),
            .textArray(subjects.map(\.kind)), .textArray(subjects.map(\.id)), .textArray(subjects.map(\.name)), .textArray(entries.map(\.method)), .textArray(entries.map(\.route)),
            .jsonbArray(entries.map(Self.json)), .int2Array(entries.map { Int16(clamping: $0.status) }), .int4Array(entries.map { Int32(clamping: $0.count) }),
            .textArray(entries.map(\.address)), .textArray(entries.map(\.requestID)),
        ]
        let statement = again ? Self.insertAgain : Self.insert
        try await InboxReader.run { () async throws(PostgresError) in _ = try await self.pool.execute(statement, values) }
    }

    private static func columns(_ subject: RequestSubject?) -> (kind: String?, id: String?, name: String?) {
        switch subject {
        case nil: (nil, nil, nil)
        case .user(let user): ("user", user.value, nil)
        case .key(let id, let name): ("key", id.description, name)
        }
    }

    private static func json(_ entry: AuditEntry) -> String? {
        if entry.ids.isEmpty { return nil }
        return String(decoding: JSONValue.object(entry.ids.map { ($0.name, .string($0.value)) }).encoded, as: UTF8.self)
    }

    private static let columns = "id, at, subject_kind, subject, subject_name, method, route, ids, status, count, address, request_id"
    // Index: audit_pkey.
    private static let page = PostgresStatement("SELECT \(columns) FROM audit WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3")
    // Index: audit_subject.
    private static let pageOfSubject = PostgresStatement(
        "SELECT \(columns) FROM audit WHERE id >= $1 AND id < $2 AND subject = $4 ORDER BY id DESC LIMIT $3")

    public func page(_ query: AuditQuery) async throws(StoreError) -> [AuditRow] {
        let since = query.since.map(NotificationID.first(at:)) ?? NotificationID(high: 0, low: 0)
        let until = query.until.map(NotificationID.first(at:)) ?? NotificationID(high: .max, low: .max)
        let before = min(until, query.after ?? until)
        var values: [PostgresValue] = [
            .uuid(UUIDBytes(high: since.high, low: since.low)), .uuid(UUIDBytes(high: before.high, low: before.low)), .int8(Int64(query.limit)),
        ]
        if let subject = query.subject { values.append(.text(subject)) }
        let (statement, parameters) = (query.subject == nil ? Self.page : Self.pageOfSubject, values)
        return try await InboxReader.run { () async throws(PostgresError) in
            var rows: [AuditRow] = []
            for row in try await self.pool.execute(statement, parameters) { rows.append(try Self.row(row)) }
            return rows
        }
    }

    private static func row(_ row: PostgresRow) throws(PostgresError) -> AuditRow {
        let id = try row.uuid(0)
        var subject: RequestSubject?
        switch (try row.optionalText(2), try row.optionalText(3)) {
        case ("user", let user?): subject = UserID(user).map { .user($0) }
        case ("key", let key?):
            let name = try row.optionalText(4) ?? ""
            subject = NotificationID(key).map { .key($0, name: name) }
        default: subject = nil
        }
        var entry = AuditEntry(
            at: Timestamp(microseconds: try row.timestamptz(1)), subject: subject, method: try row.text(5), route: try row.optionalText(6),
            ids: Self.parameters(try row.optionalJSON(7)), status: Int(try row.int2(8)), address: try row.text(10), requestID: try row.text(11))
        entry.count = Int(try row.int4(9))
        return AuditRow(id: NotificationID(high: id.high, low: id.low), entry: entry)
    }

    private static func parameters(_ text: String?) -> [AuditEntry.Parameter] {
        // Null, and what no version of this program wrote, has none.
        guard let text, case .object(let members)? = try? JSONParser.parse(Array(text.utf8)) else { return [] }
        return members.compactMap { name, value in value.string.map { AuditEntry.Parameter(name: name, value: $0) } }
    }

    // Index: audit_pkey.
    private static let forget = PostgresStatement("DELETE FROM audit WHERE id = ANY (ARRAY(SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT $2))")

    /// Removes rows from before that time, at most so many, and answers how many there were.
    public func forget(before time: Timestamp, limit: Int) async throws(StoreError) -> Int {
        let first = NotificationID.first(at: time)
        return try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(Self.forget, [.uuid(UUIDBytes(high: first.high, low: first.low)), .int8(Int64(limit))]).affectedRows
        }
    }
}

extension NotificationID {
    /// Before every UUIDv7 of that millisecond.
    static func first(at time: Timestamp) -> NotificationID {
        NotificationID(high: UInt64(max(0, time.microseconds / 1000)) << 16, low: 0)
    }
}
