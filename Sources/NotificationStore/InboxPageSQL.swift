import NotificationCore
import PostgresClient

/// The statement of one page. Its text depends on which filters there are, never on their values.
struct InboxPageSQL {
    private let query: InboxQuery
    private let columns: String
    private(set) var values: [PostgresValue]

    init(query: InboxQuery, columns: String) {
        self.query = query
        self.columns = columns
        self.values = [.text(query.user.value)]
    }

    private mutating func bind(_ value: PostgresValue) -> String {
        self.values.append(value)
        return "$\(self.values.count)"
    }

    private mutating func filters() -> [String] {
        var filters = ["n.user_id = $1", "n.seq IS NOT NULL"]
        if let customer = self.query.customer { filters.append("n.customer_id = " + self.bind(.text(customer))) }
        if let scope = self.query.scope { filters.append("(n.customer_id IS NULL OR n.customer_id = ANY(\(self.bind(.textArray(scope)))))") }
        if let type = self.query.type { filters.append("n.type = " + self.bind(.text(type))) }
        if let event = self.query.event { filters.append("n.event = " + self.bind(.text(event))) }
        if let level = self.query.level { filters.append("n.level = " + self.bind(.int2(level.rawValue))) }
        if let priority = self.query.priority { filters.append("n.priority = " + self.bind(.int2(priority.rawValue))) }
        if let since = self.query.since { filters.append("n.created_at >= " + self.bind(.timestamptz(microsecondsSince1970: since.microseconds))) }
        if let until = self.query.until { filters.append("n.created_at < " + self.bind(.timestamptz(microsecondsSince1970: until.microseconds))) }
        return filters
    }

    /// Where rows lie, each range in the order of an index: without filters, as many are read as are asked for, whatever the size of the inbox.
    private enum Range: CaseIterable {
        /// Unread ones that came after the mark.
        case above
        /// Unread ones from before it.
        case revived
        /// Read ones that only the mark says so of.
        case marked
        case read
        case archived

        // Index: notifications_inbox; of `revived`, notifications_revived.
        var condition: String {
            switch self {
            case .above: "NOT n.archived AND NOT n.read AND n.seq > h.mark_seq"
            case .revived: "n.revived AND NOT n.read AND n.seq <= h.mark_seq AND n.state_seq > h.mark_seq"
            case .marked: "NOT n.archived AND NOT n.read AND n.seq <= h.mark_seq AND n.state_seq <= h.mark_seq"
            case .read: "NOT n.archived AND n.read"
            case .archived: "n.archived AND n.read"
            }
        }

        var isUnread: Bool { self == .above || self == .revived }
    }

    /// What is asked for, in the order in which it is shown: of a group the rows are merged, and the second is looked at only when the first
    /// does not fill the page.
    private var groups: [[Range]] {
        let shown = Range.allCases.filter { range in
            let isShown =
                switch self.query.archived {
                case .no: range != .archived
                case .yes: range == .archived
                case .all: true
                }
            return isShown
                && {
                    switch self.query.status {
                    case .all: true
                    case .unread: range.isUnread
                    case .read: !range.isUnread
                    }
                }()
        }
        let groups =
            switch self.query.order {
            case .newest: [shown]
            case .unreadFirst: [shown.filter(\.isUnread), shown.filter { !$0.isUnread }]
            }
        return groups.filter { !$0.isEmpty }
    }

    mutating func build() -> String {
        let filters = self.filters().joined(separator: " AND ")
        let want = self.bind(.int8(Int64(self.query.limit + self.query.offset + 1)))
        var groups = self.groups
        var after = ""
        if let cursor = self.query.after {
            after = " AND n.seq < " + self.bind(.int8(cursor.seq))
            // The page before ended among the read ones.
            if self.query.order == .unreadFirst, !cursor.unread { groups.removeAll { $0.contains(where: \.isUnread) } }
            // It ended among unread ones, of which there are none here.
            if self.query.order == .unreadFirst, cursor.unread, !groups.contains(where: { $0.contains(where: \.isUnread) }) { after = "" }
        }
        var texts: [String] = []
        for (rank, ranges) in groups.enumerated() {
            let isFirst = rank == 0
            let gate = isFirst ? after : " AND (SELECT count(*) FROM g0) < \(want)"
            let parts = ranges.map { range in
                "(SELECT \(rank) AS rank, \(self.columns) FROM notifications n WHERE \(filters) AND \(range.condition)\(gate) "
                    + "ORDER BY n.seq DESC LIMIT \(want))"
            }
            let merged = parts.count == 1 ? parts[0] : parts.joined(separator: " UNION ALL ") + " ORDER BY 3 DESC LIMIT \(want)"
            texts.append("g\(rank)(\(Self.names)) AS MATERIALIZED (\(merged))")
        }
        if texts.isEmpty { texts = ["g0(\(Self.names)) AS (SELECT 0, \(self.columns) FROM notifications n WHERE n.user_id = $1 AND \(want) < 0)"] }
        let all = texts.indices.map { "SELECT * FROM g\($0)" }.joined(separator: " UNION ALL ")
        let offset = self.bind(.int8(Int64(self.query.offset)))
        let limit = self.bind(.int8(Int64(self.query.limit + 1)))
        // The head is one value, since each row repeats it. The rows come as the inner statement sorted them; to sort them again costs a copy of all bodies.
        return """
            SELECT h.head, l.*
            FROM (
                SELECT \(Self.head) AS head, COALESCE(e.mark_seq, 0) AS mark_seq, COALESCE(e.seen_seq, 0) AS seen_seq
                FROM cluster c LEFT JOIN heads e ON e.user_id = $1 OFFSET 0
            ) h LEFT JOIN LATERAL (
                WITH \(texts.joined(separator: ", ")) \(all) ORDER BY rank, seq DESC OFFSET \(offset) LIMIT \(limit)
            ) l ON true
            """
    }

    // Index: heads_pkey.
    private static let head = """
        concat_ws('|', GREATEST(e.epoch, c.epoch), COALESCE(e.seq, 0), COALESCE(e.unread, 0), COALESCE(e.unseen, 0), COALESCE(e.counts, '{}')::text)
        """

    /// Reads the head as this statement gives it; nil when it is none.
    static func head(_ text: String) -> InboxHead? {
        let parts = text.split(separator: "|", maxSplits: 4, omittingEmptySubsequences: false)
        guard parts.count == 5, let epoch = Int64(parts[0]), let seq = Int64(parts[1]), let unread = Int32(parts[2]), let unseen = Int32(parts[3]) else { return nil }
        return InboxHead(position: StreamPosition(epoch: epoch, seq: seq), unread: unread, unseen: unseen, counts: String(parts[4]))
    }

    private static let names = "rank, id, seq, state_seq, read, seen, archived, read_at, body"
}
