import FoundationEssentials
import NotificationCore

/// The encodings of e-mail: words and phrases of headers (RFC 2047, RFC 5322), and bodies (quoted-printable, RFC 2045).
enum MailText {
    /// An unstructured header, folded where it must be. What is not plain printable ASCII becomes encoded words, so that no value can end its line.
    static func header(_ name: String, _ value: String) -> String {
        let isPlain = value.utf8.allSatisfy { (0x20...0x7E).contains($0) } && name.utf8.count + 2 + value.utf8.count <= 78 && !value.contains("=?")
        if isPlain, value.utf8.first != UInt8(ascii: " "), value.utf8.last != UInt8(ascii: " ") { return "\(name): \(value)" }
        return "\(name): " + self.encodedWords(value, room: 76 - name.utf8.count - 2).joined(separator: "\r\n ")
    }

    /// The name before an address.
    static func phrase(_ name: String) -> String {
        if name.utf8.allSatisfy({ (0x20...0x7E).contains($0) && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }), name.utf8.count <= 60, !name.contains("=?") {
            return "\"\(name)\""
        }
        return self.encodedWords(name, room: 60).joined(separator: "\r\n ")
    }

    /// Words of at most 75 characters, none of which breaks a character in two.
    private static func encodedWords(_ text: String, room: Int) -> [String] {
        let frame = "=?UTF-8?B??=".utf8.count
        var words: [String] = []
        var bytes: [UInt8] = []
        // The first stands behind the header's name.
        var most = (min(75, room) - frame) / 4 * 3
        for scalar in text.unicodeScalars {
            let encoded = Array(String(scalar).utf8)
            if bytes.count + encoded.count > most {
                words.append("=?UTF-8?B?\(self.base64(bytes))?=")
                bytes = []
                most = (75 - frame) / 4 * 3
            }
            bytes += encoded
        }
        words.append("=?UTF-8?B?\(self.base64(bytes))?=")
        return words
    }

    private static func base64(_ bytes: [UInt8]) -> String { Data(bytes).base64EncodedString() }

    /// Lines of at most 76 characters that end with CRLF. No line begins with a dot, so that no server on the way has to know about that.
    static func quotedPrintable(_ text: String) -> [UInt8] {
        let hex = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        var column = 0
        let bytes = Array(text.utf8)
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            let next = index + 1 < bytes.count ? bytes[index + 1] : UInt8(ascii: "\n")
            index += 1
            if byte == UInt8(ascii: "\r"), next == UInt8(ascii: "\n"), index < bytes.count { continue }
            if byte == UInt8(ascii: "\n") {
                result += [0x0D, 0x0A]
                column = 0
                continue
            }
            let isBlank = byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
            let endsLine = next == UInt8(ascii: "\n") || next == UInt8(ascii: "\r")
            let isPlain = ((0x21...0x7E).contains(byte) && byte != UInt8(ascii: "=") && !(column == 0 && byte == UInt8(ascii: "."))) || (isBlank && !endsLine)
            // Room for the sign of a line that goes on.
            if column + (isPlain ? 1 : 3) > 75 {
                result += [UInt8(ascii: "="), 0x0D, 0x0A]
                column = 0
                if isPlain, byte == UInt8(ascii: ".") {
                    result += [UInt8(ascii: "="), hex[2], hex[14]]
                    column = 3
                    continue
                }
            }
            if isPlain {
                result.append(byte)
                column += 1
            } else {
                result += [UInt8(ascii: "="), hex[Int(byte >> 4)], hex[Int(byte & 15)]]
                column += 3
            }
        }
        result += [0x0D, 0x0A]
        return result
    }

    /// RFC 5322, 3.3, in UTC.
    static func date(_ time: Timestamp) -> String {
        // 2026-11-21T16:12:44…
        let text = Array(time.description.utf8)
        func number(_ range: Range<Int>) -> Int { text[range].reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) } }
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        // 1970 began on a Thursday.
        let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        let day = Int((time.seconds / 86_400) % 7)
        let clock = String(decoding: text[11..<19], as: UTF8.self)
        return "\(days[max(0, day)]), \(number(8..<10)) \(months[number(5..<7) - 1]) \(number(0..<4)) \(clock) +0000"
    }
}
