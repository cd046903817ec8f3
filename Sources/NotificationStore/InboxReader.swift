public import NotificationCore
public import PostgresClient

/// A notification as lists and answers show it.
public struct InboxItem: Sendable {
    public var id: NotificationID
    /// Of its creation; pages are cut by it.
    public var createdSeq: Int64
    /// Of the last change that named it.
    public var seq: Int64
    public var state: InboxChange.State
    public var readAt: Timestamp?
    public var body: [UInt8]

    public func append(to bytes: inout [UInt8]) {
        NotificationJSON.append(id: self.id, seq: self.seq, body: self.body, state: self.state, readAt: self.readAt, to: &bytes)
    }
}

/// What a list is asked for.
public struct InboxQuery: Sendable {
    public enum Status: String, Sendable, CaseIterable { case unread, read, all }
    public enum Archived: String, Sendable, CaseIterable { case no = "false", yes = "true", all }
    public enum Order: String, Sendable, CaseIterable { case unreadFirst = "unread_first", newest }

    /// Where the page before ended.
    public struct Cursor: Sendable, Equatable {
        public var unread: Bool
        public var seq: Int64
        public init(unread: Bool, seq: Int64) {
            self.unread = unread
            self.seq = seq
        }
    }

    public var user: UserID
    public var limit = 50
    public var offset = 0
    public var after: Cursor?
    public var status = Status.all
    public var archived = Archived.no
    public var order = Order.unreadFirst
    public var customer: String?
    public var type: String?
    public var event: String?
    public var level: Level?
    public var priority: Priority?
    public var since: Timestamp?
    public var until: Timestamp?
    /// Only rows of these customers, and rows of none.
    public var scope: [String]?

    public init(user: UserID) {
        self.user = user
    }

    /// Anything but whose, in which order, and where: what lists ask for all the time.
    var isFiltered: Bool {
        self.archived != .no || self.customer != nil || self.type != nil || self.event != nil || self.level != nil || self.priority != nil
            || self.since != nil || self.until != nil || self.scope != nil
    }
}

public struct InboxPage: Sendable {
    public var items: [InboxItem]
    public var next: InboxQuery.Cursor?
    public var head: InboxHead
}

/// Reads inboxes for the API.
public struct InboxReader: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    // What a row is after the marks of its head. A row read by a mark was read when that mark was set.
    static let columns = """
        n.id, n.seq, n.state_seq,
        (n.read OR n.state_seq <= h.mark_seq),
        (n.seen OR n.read OR n.state_seq <= GREATEST(h.seen_seq, h.mark_seq)), n.archived,
        CASE WHEN n.read THEN n.read_at WHEN n.state_seq <= h.mark_seq THEN
            (SELECT m.at FROM marks m WHERE m.user_id = n.user_id AND m.seq >= n.state_seq ORDER BY m.seq LIMIT 1) END, n.body
        """

    // Index: notifications_pkey, heads_pkey.
    private static let one = PostgresStatement(
        """
        SELECT \(columns), n.customer_id FROM notifications n JOIN heads h ON h.user_id = n.user_id
        WHERE n.user_id = $1 AND n.id = $2 AND n.seq IS NOT NULL
        """)

    private static let head = PostgresStatement(
        """
        SELECT GREATEST(h.epoch, c.epoch), COALESCE(h.seq, 0), COALESCE(h.unread, 0), COALESCE(h.unseen, 0), COALESCE(h.counts, '{}')::text
        FROM cluster c LEFT JOIN heads h ON h.user_id = $1
        """)

    /// Nil when it does not exist, is another user's, or belongs to a customer outside `scope`.
    public func notification(_ id: NotificationID, of user: UserID, scope: [String]?) async throws(StoreError) -> InboxItem? {
        try await Self.run { () async throws(PostgresError) in
            let rows = try await self.pool.execute(Self.one, [.text(user.value), .uuid(UUIDBytes(high: id.high, low: id.low))])
            guard let row = rows.first else { return nil }
            if let scope, let customer = try row.optionalText(8), !scope.contains(where: { $0.utf8.elementsEqual(customer.utf8) }) { return nil }
            return try Self.item(row)
        }
    }

    public func head(of user: UserID) async throws(StoreError) -> InboxHead {
        try await Self.run { () async throws(PostgresError) in
            let rows = try await self.pool.execute(Self.head, [.text(user.value)])
            guard let row = rows.first else { throw PostgresError(code: .decoding, message: "the cluster row is missing") }
            return try Self.head(row, 0)
        }
    }

    // Index: heads_pkey, once for each user. A list of ids could be a scan of all heads in a plan that was made while there were few of them, and a
    // session keeps its plans.
    private static let manyHeads = PostgresStatement(
        """
        SELECT GREATEST(h.epoch, c.epoch), h.seq, h.unread, h.unseen, h.counts::text, h.user_id
        FROM unnest($1::text[]) AS u(id) CROSS JOIN LATERAL (SELECT * FROM heads WHERE user_id = u.id LIMIT 1) h CROSS JOIN (SELECT epoch FROM cluster LIMIT 1) c
        """)

    /// The heads of those of these users that have one.
    public func heads(of users: [UserID]) async throws(StoreError) -> [(user: UserID, head: InboxHead)] {
        try await Self.run { () async throws(PostgresError) in
            var heads: [(user: UserID, head: InboxHead)] = []
            for row in try await self.pool.execute(Self.manyHeads, [.textArray(users.map(\.value))]) {
                if let user = UserID(try row.text(5)) { heads.append((user, try Self.head(row, 0))) }
            }
            return heads
        }
    }

    /// One page. The head is of the same snapshot.
    public func page(_ query: InboxQuery) async throws(StoreError) -> InboxPage {
        var sql = InboxPageSQL(query: query, columns: Self.columns)
        // Each combination of filters is another text, and a session keeps a bounded number of them.
        let statement = PostgresStatement(sql.build(), prepared: !query.isFiltered)
        let values = sql.values
        return try await Self.run { () async throws(PostgresError) in
            let rows = try await self.pool.execute(statement, values)
            guard let first = rows.first else { throw PostgresError(code: .decoding, message: "the cluster row is missing") }
            guard let head = InboxPageSQL.head(try first.text(0)) else { throw PostgresError(code: .decoding, message: "the head is not understood") }
            var page = InboxPage(items: [], next: nil, head: head)
            page.items.reserveCapacity(rows.count)
            var last: (rank: Int32, seq: Int64) = (0, .max)
            for row in rows where try !row.isNull(1) {
                let item = try Self.item(row, from: 2)
                let place = (rank: try row.int4(1), seq: item.createdSeq)
                guard place.rank > last.rank || (place.rank == last.rank && place.seq < last.seq) else {
                    throw PostgresError(code: .decoding, message: "the page is not in order")
                }
                last = place
                if page.items.count == query.limit {
                    let last = page.items[query.limit - 1]
                    page.next = InboxQuery.Cursor(unread: !last.state.contains(.read), seq: last.createdSeq)
                    break
                }
                page.items.append(item)
            }
            return page
        }
    }

    private static func item(_ row: PostgresRow, from column: Int = 0) throws(PostgresError) -> InboxItem {
        let id = try row.uuid(column)
        var state: InboxChange.State = []
        if try row.bool(column + 3) { state.insert(.read) }
        if try row.bool(column + 4) { state.insert(.seen) }
        if try row.bool(column + 5) { state.insert(.archived) }
        return InboxItem(
            id: NotificationID(high: id.high, low: id.low), createdSeq: try row.int8(column + 1), seq: try row.int8(column + 2), state: state,
            readAt: try row.optionalTimestamptz(column + 6).map { Timestamp(microseconds: $0) }, body: Array(try row.text(column + 7).utf8))
    }

    private static func head(_ row: PostgresRow, _ column: Int) throws(PostgresError) -> InboxHead {
        InboxHead(
            position: StreamPosition(epoch: try row.int8(column), seq: try row.int8(column + 1)), unread: try row.int4(column + 2),
            unseen: try row.int4(column + 3), counts: try row.text(column + 4))
    }

    static func run<Value: Sendable>(_ body: () async throws(PostgresError) -> Value) async throws(StoreError) -> Value {
        do throws(PostgresError) {
            return try await body()
        } catch {
            throw InboxReader.translate(error)
        }
    }

    /// The same for a statement that writes: one that was cut off may have been committed.
    static func runWrite<Value: Sendable>(_ body: () async throws(PostgresError) -> Value) async throws(StoreError) -> Value {
        do throws(PostgresError) {
            return try await body()
        } catch {
            throw WriterLane.translate(error)
        }
    }

    static func translate(_ error: PostgresError) -> StoreError {
        // A read that was in doubt was only a read.
        let translated = WriterLane.translate(error)
        return translated.code == .inDoubt ? StoreError(code: .unavailable, message: translated.message) : translated
    }
}
