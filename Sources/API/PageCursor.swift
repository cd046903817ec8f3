import NotificationStore

/// The opaque `after` of a list: base64url (RFC 4648, 5) of the order that it belongs to and the place where the page before ended.
enum PageCursor {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    /// Order, flag, and eight bytes of the number.
    private static let size = 10

    static func encode(_ cursor: InboxQuery.Cursor, order: InboxQuery.Order) -> String {
        var bytes: [UInt8] = [self.mark(order), cursor.unread ? 1 : 0]
        for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: cursor.seq >> Int64(shift))) }
        var text: [UInt8] = []
        var pending: UInt32 = 0
        var bits: UInt32 = 0
        for byte in bytes {
            pending = pending << 8 | UInt32(byte)
            bits += 8
            while bits >= 6 {
                bits -= 6
                text.append(self.alphabet[Int(pending >> bits & 0x3F)])
                pending &= (1 << bits) - 1
            }
        }
        if bits > 0 { text.append(self.alphabet[Int(pending << (6 - bits) & 0x3F)]) }
        return String(decoding: text, as: UTF8.self)
    }

    /// Nil for anything that was not made for a list in that order.
    static func decode(_ text: String, order: InboxQuery.Order) -> InboxQuery.Cursor? {
        guard text.utf8.count == (self.size * 8 + 5) / 6 else { return nil }
        var bytes: [UInt8] = []
        var pending: UInt32 = 0
        var bits: UInt32 = 0
        for character in text.utf8 {
            guard let value = self.alphabet.firstIndex(of: character) else { return nil }
            pending = pending << 6 | UInt32(value)
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: pending >> bits))
                pending &= (1 << bits) - 1
            }
        }
        guard pending == 0, bytes.count == self.size, bytes[0] == self.mark(order), bytes[1] <= 1 else { return nil }
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
