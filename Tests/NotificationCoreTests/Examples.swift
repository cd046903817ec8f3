import NotificationCore

/// Text that has broken programs before.
enum Examples {
    static let awkward: [String] = [
        "", " ", "plain", "line\nline", "carriage\rreturn", "both\r\n\r\ndata: x", "nul\u{0}nul", "tab\tquote\"back\\slash/", "\u{7F}\u{80}\u{9F}\u{1B}[31m",
        "\u{2028}\u{2029}\u{85}", "grüße, 世界, 🚢👩‍👩‍👧‍👦", "e\u{301} and é", "\u{202E}reversed\u{2066}", "{}", "/%:", "id: 1-1\n\nevent: close\n\n", "x\u{FEFF}bom",
        String(repeating: "x", count: 190), "\u{10FFFF}\u{FFFF}\u{FFFD}", "</script><!--", "a\u{0B}b\u{0C}c\u{1F}",
    ]

    static let id = NotificationID(high: 0x0193_4567_89AB_7CDE, low: 0x8123_4567_89AB_CDEF)
    static let moment = Timestamp(microseconds: 1_795_602_600_123_456)

    static func body(_ text: String) throws -> [UInt8] {
        let json = JSONValue.object([
            ("title", .string("t" + text)), ("content", .string(text)), ("user_id", .string("u")), ("data", .object([(text, .string(text))])),
        ])
        return try NotifyRequest(json: json, catalogue: Catalogue([]), now: Self.moment).encodeBody(createdAt: Self.moment)
    }

    static func change(_ kind: InboxChange.Kind, seq: Int64 = 42, text: String = "hello", gone: Bool = false) throws -> InboxChange {
        let named: Bool
        switch kind {
        case .created, .updated, .deleted, .expired, .replaced: named = true
        case .readAll, .seenAll, .erased: named = false
        }
        return InboxChange(
            seq: seq, kind: kind, notification: named ? Self.id : nil, state: kind == .updated ? [.read, .seen] : [],
            readAt: kind == .updated ? Self.moment : nil, unread: 4, unseen: 2, customer: text, customerUnread: 3, customerUnseen: 1,
            customerCounts: "{\"c\":[3,1]}", type: named ? nil : text, upToSeq: named ? nil : 40, body: gone ? nil : try Self.body(text))
    }
}
