import NotificationStore

/// The opaque `after` of a list: base64url (RFC 4648, 5) of the order that it belongs to and the place where the page before ended.
enum PageCursor {
    /// Order, flag, and eight bytes of the number.
    private static let size = 10

    static func encode(_ cursor: InboxQuery.Cursor, order: InboxQuery.Order) -> String {
        var bytes: [UInt8] = [self.mark(order), cursor.unread ? 1 : 0]
        for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: cursor.seq >> Int64(shift))) }
        return Base64Text.encode(bytes)
    }

    /// Nil for anything that was not made for a list in that order.
    static func decode(_ text: String, order: InboxQuery.Order) -> InboxQuery.Cursor? {
        guard let bytes = Base64Text.decode(text), bytes.count == self.size, bytes[0] == self.mark(order), bytes[1] <= 1 else { return nil }
        let seq = bytes[2...].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard let seq = Int64(exactly: seq) else { return nil }
        return InboxQuery.Cursor(unread: bytes[1] == 1, seq: seq)
    }

    private static func mark(_ order: InboxQuery.Order) -> UInt8 {
        switch order {
        case .unreadFirst: 1
        case .newest: 2
        }
    }
}
