import Gateway
import NotificationCore
import NotificationStore

/// The query of a list, checked.
enum ListQuery {
    static let limits = 1...200
    /// Past this, pages are cut by cursor: skipping costs what reading costs.
    static let offsets = 0...100_000

    static func parse(_ query: Query, user: UserID, scope: [String]?, catalogue: Catalogue) throws(Problem) -> InboxQuery {
        var reader = ParameterReader(query)
        var result = InboxQuery(user: user)
        result.scope = scope
        result.limit = reader.number("limit", self.limits) ?? result.limit
        result.offset = reader.number("offset", self.offsets) ?? 0
        result.status = reader.choice("status", InboxQuery.Status.init(rawValue:), InboxQuery.Status.allCases.map(\.rawValue)) ?? .all
        result.archived = reader.choice("archived", InboxQuery.Archived.init(rawValue:), InboxQuery.Archived.allCases.map(\.rawValue)) ?? .no
        result.order = reader.choice("order", InboxQuery.Order.init(rawValue:), InboxQuery.Order.allCases.map(\.rawValue)) ?? .unreadFirst
        result.customer = reader.word("customer_id")
        // An alias finds what its type finds.
        result.type = reader.word("type").map { catalogue[$0]?.name ?? $0 }
        result.event = reader.word("event")
        result.level = reader.choice("level", Level.init(name:), Level.allCases.map(\.name))
        result.priority = reader.choice("priority", Priority.init(name:), Priority.allCases.map(\.name))
        result.since = reader.time("since")
        result.until = reader.time("until")
        if let text = reader.text("after") {
            if reader.has("offset") {
                reader.fail("after", "cannot stand together with offset")
            } else if let cursor = PageCursor.decode(text, order: result.order) {
                result.after = cursor
            } else {
                reader.fail("after", "must be the page.next of a list in the same order")
            }
        }
        try reader.check()
        return result
    }

    /// The same list from the cursor on, as the target of a `Link` (RFC 8288).
    static func next(_ query: Query, cursor: String) -> String {
        var parts: [String] = []
        var seen: Set<String> = ["after", "offset"]
        for (name, value) in query.parameters where seen.insert(name).inserted { parts.append(self.escape(name) + "=" + self.escape(value)) }
        parts.append("after=" + cursor)
        return "</v1/notifications?" + parts.joined(separator: "&") + ">; rel=\"next\""
    }

    /// Percent-encodes all but the unreserved characters (RFC 3986, 2.3).
    private static func escape(_ text: String) -> String {
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                bytes.append(byte)
            default:
                bytes.append(UInt8(ascii: "%"))
                bytes.append(hexDigit(byte >> 4))
                bytes.append(hexDigit(byte & 15))
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
