public import NotificationCore
public import PostgresClient

/// Which notifications the application means that it has sent, in any user's inbox: also scheduled ones, and those stored for tracking alone.
public struct SentSelector: Sendable {
    public enum Mark: Sendable {
        case id(NotificationID)
        case collapseKey(String)
        case record(type: String, id: String)
    }

    public var mark: Mark
    /// Only theirs; nil: everybody's.
    public var users: [UserID]?
    public var customer: String?

    public init(mark: Mark, users: [UserID]? = nil, customer: String? = nil) {
        self.mark = mark
        self.users = users
        self.customer = customer
    }
}

/// Corrects notifications and takes them back, in chunks of one transaction each.
public struct SentNotifications: Sendable {
    private static let chunk = 200

    private let pool: PostgresPool
    private let writer: InboxWriter

    public init(pool: PostgresPool, writer: InboxWriter) {
        self.pool = pool
        self.writer = writer
    }

    public struct Result: Sendable {
        public var found = 0
        /// Of those found, how many are another now, or gone.
        public var changed = 0
    }

    public func correct(_ selector: SentSelector, _ correction: NotificationCorrection) async throws(StoreError) -> Result {
        try await self.each(selector) { .correct($0, correction) } isChange: { status in
            switch status {
            case .changed, .stored, .recovered: true
            case .unchanged, .notFound, .claimed, .known: false
            }
        }
    }

    public func takeBack(_ selector: SentSelector) async throws(StoreError) -> Result {
        try await self.each(selector) { .retire($0) } isChange: { status in
            switch status {
            // Unchanged: it had no number, and went without one.
            case .changed, .unchanged, .recovered: true
            case .stored, .notFound, .claimed, .known: false
            }
        }
    }

    private func each(
        _ selector: SentSelector, _ action: (NotificationID) -> InboxCommand.Action, isChange: (InboxOutcome.Status) -> Bool
    ) async throws(StoreError) -> Result {
        var result = Result()
        var isFull: Bool
        var after: (user: String, id: UUIDBytes) = ("", UUIDBytes(high: 0, low: 0))
        repeat {
            let hits = try await self.find(selector, after: after)
            let commands = hits.map { InboxCommand(user: $0.user, action: action($0.id)) }
            for outcome in try await self.writer.write(commands, bulk: hits.count > 1) {
                if outcome.status != .notFound { result.found += 1 }
                if isChange(outcome.status) { result.changed += 1 }
            }
            isFull = hits.count == Self.chunk
            if let end = hits.last { after = (end.user.value, UUIDBytes(high: end.id.high, low: end.id.low)) }
        } while isFull
        return result
    }

    private func find(_ selector: SentSelector, after: (user: String, id: UUIDBytes)) async throws(StoreError) -> [(user: UserID, id: NotificationID)] {
        let users: PostgresValue = selector.users.map { .textArray($0.map(\.value)) } ?? .null
        let narrowing: [PostgresValue] = [.text(after.user), .uuid(after.id), selector.customer.map { .text($0) } ?? .null, users]
        let isNarrow = selector.users != nil
        let (statement, values): (PostgresStatement, [PostgresValue]) =
            switch selector.mark {
            case .id(let id): (isNarrow ? Self.byIDOfUsers : Self.byID, [.uuid(UUIDBytes(high: id.high, low: id.low)), .null])
            case .collapseKey(let key): (isNarrow ? Self.byKeyOfUsers : Self.byKey, [.text(key), .null])
            case .record(let type, let id): (isNarrow ? Self.byRecordOfUsers : Self.byRecord, [.text(type), .text(id)])
            }
        return try await InboxReader.run { () async throws(PostgresError) in
            var hits: [(user: UserID, id: NotificationID)] = []
            for row in try await self.pool.execute(statement, values + narrowing) {
                let id = try row.uuid(1)
                guard let user = UserID(try row.text(0)) else { continue }
                hits.append((user, NotificationID(high: id.high, low: id.low)))
            }
            return hits
        }
    }

    // Index: notifications_id.
    private static let byID = Self.statement("id = $1 AND $2::text IS NULL", ofUsers: false)
    // Index: notifications_pkey.
    private static let byIDOfUsers = Self.statement("id = $1 AND $2::text IS NULL", ofUsers: true)
    // Index: notifications_collapse_key.
    private static let byKey = Self.statement("collapse_key = $1 AND $2::text IS NULL", ofUsers: false)
    private static let byKeyOfUsers = Self.statement("collapse_key = $1 AND $2::text IS NULL", ofUsers: true)
    // Index: notifications_record.
    private static let byRecord = Self.statement("rec_type = $1 AND rec_id = $2", ofUsers: false)
    private static let byRecordOfUsers = Self.statement("rec_type = $1 AND rec_id = $2", ofUsers: true)

    private static func statement(_ condition: String, ofUsers: Bool) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT user_id, id FROM notifications WHERE \(condition) AND (user_id, id) > ($3, $4)
            AND ($5::text IS NULL OR customer_id = $5) AND \(ofUsers ? "user_id = ANY($6)" : "$6::text[] IS NULL")
            ORDER BY user_id, id LIMIT \(Self.chunk)
            """)
    }
}
