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

    private static let unread = "(NOT n.read AND n.state_seq > h.mark_seq)"

    private mutating func filters() -> [String] {
        var filters = ["n.user_id = $1", "n.seq IS NOT NULL"]
        switch self.query.archived {
        case .no: filters.append("NOT n.archived")
        case .yes: filters.append("n.archived")
        case .all: break
        }
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

    // Index: notifications_inbox backwards; unread ones are those above the mark and, below it, notifications_touched.
    private mutating func part(_ rank: Int, _ condition: String, _ filters: [String], _ want: String) -> String? {
        var conditions = filters
        if !condition.isEmpty { conditions.append(condition) }
        if let after = self.query.after {
            let afterRank = self.query.order == .newest || after.unread ? 0 : 1
            if rank < afterRank { return nil }
            if rank == afterRank { conditions.append("n.seq < " + self.bind(.int8(after.seq))) }
        }
        return "(SELECT \(rank) AS rank, \(self.columns) FROM notifications n WHERE \(conditions.joined(separator: " AND ")) "
            + "ORDER BY n.seq DESC LIMIT \(want))"
    }

    mutating func build() -> String {
        let filters = self.filters()
        let want = self.bind(.int8(Int64(self.query.limit + self.query.offset + 1)))
        let above = "NOT n.read AND n.seq > h.mark_seq"
        let touched = "NOT n.read AND n.state_seq > n.seq AND n.seq <= h.mark_seq AND n.state_seq > h.mark_seq"
        var parts: [(rank: Int, condition: String)] = []
        switch (self.query.order, self.query.status) {
        case (_, .unread): parts = [(0, above), (0, touched)]
        case (.newest, .read): parts = [(0, "NOT \(Self.unread)")]
        case (.unreadFirst, .read): parts = [(1, "NOT \(Self.unread)")]
        case (.newest, .all): parts = [(0, "")]
        case (.unreadFirst, .all): parts = [(0, above), (0, touched), (1, "NOT \(Self.unread)")]
        }
        var texts: [String] = []
        for (rank, condition) in parts {
            if let text = self.part(rank, condition, filters, want) { texts.append(text) }
        }
        if texts.isEmpty { texts = ["(SELECT 0 AS rank, \(self.columns) FROM notifications n WHERE n.user_id = $1 AND \(want) < 0)"] }
        let offset = self.bind(.int8(Int64(self.query.offset)))
        let limit = self.bind(.int8(Int64(self.query.limit + 1)))
        return """
            SELECT GREATEST(h.epoch, c.epoch), h.seq, h.unread, h.unseen, h.counts::text, l.*
            FROM cluster c CROSS JOIN LATERAL (
                SELECT epoch, seq, unread, unseen, counts, mark_seq, seen_seq FROM heads WHERE user_id = $1
                UNION ALL SELECT 0, 0, 0, 0, '{}', 0, 0 WHERE NOT EXISTS (SELECT FROM heads WHERE user_id = $1)
            ) h LEFT JOIN LATERAL (
                SELECT * FROM (\(texts.joined(separator: " UNION ALL "))) AS u(rank, id, seq, state_seq, read, seen, archived, read_at, body)
                ORDER BY rank, seq DESC OFFSET \(offset) LIMIT \(limit)
            ) l ON true
            ORDER BY l.rank, l.seq DESC
            """
    }
}
