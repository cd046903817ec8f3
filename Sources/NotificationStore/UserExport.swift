public import NotificationCore
public import PostgresClient

/// Everything about one user as JSON lines, in portions by key: a large inbox takes no more memory than a small one. Each portion is what is there when
/// it is read.
public struct UserExport: Sendable {
    public struct Portion: Sendable {
        public var bytes: [UInt8] = []
        public var lines = 0
    }

    /// What there is, in this order. Each statement takes the user, and the key after which it goes on (null: from the start), and answers lines
    /// with their keys.
    struct Source: Sendable {
        var table: String
        var sql: String
    }

    static let rows = 500

    static let sources: [Source] = [
        // Index: heads_pkey.
        Source(
            table: "heads",
            sql: """
                SELECT 'head', jsonb_build_object('kind', 'inbox', 'user_id', user_id, 'unread', unread, 'unseen', unseen, 'last_event_id',
                                                  GREATEST(h.epoch, c.epoch) || '-' || seq)::text
                FROM heads h CROSS JOIN cluster c WHERE user_id = $1 AND $2::text IS NULL
                """),
        // Index: changes_pkey of each partition.
        Source(
            table: "changes",
            sql: """
                SELECT seq::text AS key, jsonb_build_object('kind', 'change', 'seq', seq, 'change', (ARRAY['created', 'updated', 'deleted', 'all_read', 'all_seen',
                                                     'expired', 'replaced', 'erased'])[kind], 'notification_id', notification_id, 'read', state & 1 = 1,
                                                     'seen', state & 2 = 2, 'archived', state & 4 = 4, 'customer_id', customer_id, 'type', type,
                                                     'unread', unread, 'unseen', unseen, 'at', at)::text
                FROM changes WHERE user_id = $1 AND seq > COALESCE($2::text::bigint, 0) ORDER BY seq LIMIT \(rows)
                """),
        // A few rows a user. Index: preferences_pkey, contacts_pkey.
        Source(
            table: "preferences",
            sql: """
                SELECT 'all', jsonb_build_object('kind', 'preferences', 'customer_id', NULLIF(customer_id, ''), 'preferences', body::jsonb,
                                                 'updated_at', updated_at)::text
                FROM preferences WHERE user_id = $1 AND $2::text IS NULL
                """),
        Source(
            table: "contacts",
            sql: "SELECT 'all', (jsonb_build_object('kind', 'contact') || to_jsonb(t))::text FROM contacts t WHERE user_id = $1 AND $2::text IS NULL"),
        // Index: deliveries_pkey.
        Source(
            table: "deliveries",
            sql: """
                SELECT jsonb_build_array(notification_id, channel, endpoint)::text,
                       (jsonb_build_object('kind', 'delivery') || (to_jsonb(d) - 'user_id'))::text
                FROM deliveries d WHERE user_id = $1
                  AND ($2::text IS NULL OR (notification_id, channel, endpoint) > (($2::jsonb ->> 0)::uuid, $2::jsonb ->> 1, $2::jsonb ->> 2))
                ORDER BY notification_id, channel, endpoint LIMIT \(rows)
                """),
        // What the user asked for. Index: audit_subject.
        Source(
            table: "audit",
            sql: """
                SELECT id::text, jsonb_build_object('kind', 'request', 'at', at, 'method', method, 'route', route, 'ids', ids, 'status', status,
                                                    'count', count, 'address', address, 'request_id', request_id)::text
                FROM audit WHERE subject = $1 AND subject_kind = 'user' AND ($2::text IS NULL OR id > $2::uuid) ORDER BY id LIMIT \(rows)
                """),
    ]

    // Index: notifications_pkey. Also those that have no number.
    private static let notifications = PostgresStatement(
        """
        SELECT n.id, n.state_seq, n.read OR COALESCE(n.state_seq <= h.mark_seq, false),
               n.seen OR n.read OR COALESCE(n.state_seq <= GREATEST(h.seen_seq, h.mark_seq), false), n.archived,
               CASE WHEN n.read THEN n.read_at WHEN n.state_seq <= h.mark_seq THEN
                   (SELECT m.at FROM marks m WHERE m.user_id = n.user_id AND m.seq >= n.state_seq ORDER BY m.seq LIMIT 1) END, n.body
        FROM notifications n LEFT JOIN heads h ON h.user_id = n.user_id
        WHERE n.user_id = $1 AND n.id > $2 ORDER BY n.id LIMIT \(rows)
        """)
    private static let presence = PostgresStatement("SELECT name FROM unnest($1::text[]) AS t(name) WHERE to_regclass(name) IS NOT NULL")

    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    public func walk(_ user: UserID) -> Walk { Walk(pool: self.pool, user: user) }

    /// The way through it.
    public struct Walk: Sendable {
        private enum Place: Sendable {
            case notifications(after: NotificationID)
            /// The rest of the sources that there are, the first of them from this key.
            case sources([Source], after: String?)
        }

        private let pool: PostgresPool
        private let user: UserID
        private var place = Place.notifications(after: NotificationID(high: 0, low: 0))

        fileprivate init(pool: PostgresPool, user: UserID) {
            self.pool = pool
            self.user = user
        }

        /// Nil at the end. A portion may be empty.
        public mutating func next() async throws(StoreError) -> Portion? {
            switch self.place {
            case .notifications(let after): return try await self.notifications(after: after)
            case .sources(let sources, let after):
                guard let source = sources.first else { return nil }
                return try await self.lines(source, after: after, rest: Array(sources.dropFirst()))
            }
        }

        private mutating func notifications(after: NotificationID) async throws(StoreError) -> Portion {
            let (pool, user) = (self.pool, self.user)
            let (portion, last, present) = try await InboxReader.run { () async throws(PostgresError) in
                var portion = Portion()
                var last: NotificationID?
                for row in try await pool.execute(UserExport.notifications, [.text(user.value), .uuid(UUIDBytes(high: after.high, low: after.low))]) {
                    let id = try row.uuid(0)
                    last = NotificationID(high: id.high, low: id.low)
                    var state: InboxChange.State = []
                    if try row.bool(2) { state.insert(.read) }
                    if try row.bool(3) { state.insert(.seen) }
                    if try row.bool(4) { state.insert(.archived) }
                    portion.bytes.append(ascii: "{\"kind\":\"notification\",\"notification\":")
                    NotificationJSON.append(
                        id: NotificationID(high: id.high, low: id.low), seq: try row.optionalInt8(1), body: try row.text(6).utf8, state: state,
                        readAt: try row.optionalTimestamptz(5).map { Timestamp(microseconds: $0) }, to: &portion.bytes)
                    portion.bytes.append(ascii: "}\n")
                    portion.lines += 1
                }
                var present: Set<String> = []
                for row in try await pool.execute(UserExport.presence, [.textArray(UserExport.sources.map(\.table))]) { present.insert(try row.text(0)) }
                return (portion, last, present)
            }
            if portion.lines == UserExport.rows, let last {
                self.place = .notifications(after: last)
            } else {
                self.place = .sources(UserExport.sources.filter { present.contains($0.table) }, after: nil)
            }
            return portion
        }

        private mutating func lines(_ source: Source, after: String?, rest: [Source]) async throws(StoreError) -> Portion {
            let (pool, user) = (self.pool, self.user)
            let (portion, last) = try await InboxReader.run { () async throws(PostgresError) in
                var portion = Portion()
                var last: String?
                for row in try await pool.execute(PostgresStatement(source.sql), [.text(user.value), after.map { .text($0) } ?? .null]) {
                    last = try row.text(0)
                    portion.bytes.append(contentsOf: try row.text(1).utf8)
                    portion.bytes.append(UInt8(ascii: "\n"))
                    portion.lines += 1
                }
                return (portion, last)
            }
            self.place = portion.lines == UserExport.rows ? .sources([source] + rest, after: last) : .sources(rest, after: nil)
            return portion
        }
    }
}
