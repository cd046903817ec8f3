import Crypto
import NotificationCore

/// Who sends: an address, and perhaps a name.
public struct MailSender: Sendable, Equatable {
    public var name: String?
    public var address: String

    /// `address`, or `Name <address>`. Nil when the address is none.
    public init?(_ text: String) {
        let text = text.trimmingBlanks
        if text.utf8.last == UInt8(ascii: ">"), let open = text.lastIndex(of: "<") {
            let address = String(text[text.index(after: open)...].dropLast())
            var name = String(text[..<open]).trimmingBlanks
            if name.utf8.count >= 2, name.hasPrefix("\""), name.hasSuffix("\"") { name = String(name.dropFirst().dropLast()) }
            guard MailAddress.isGood(address), !name.unicodeScalars.contains(where: \.isControl) else { return nil }
            self.address = address
            self.name = name.isEmpty ? nil : name
        } else {
            guard MailAddress.isGood(text) else { return nil }
            self.address = text
        }
    }
}

enum MailAddress {
    /// Nothing in it can end a header's line, or an envelope's path.
    static func isGood(_ text: String) -> Bool { (try? Contact(json: .object([("email", .string(text))]))) != nil }
}

/// An e-mail as it goes over the wire (RFC 5322, RFC 2045): text and HTML as alternatives, and the one-click unsubscription of RFC 8058.
struct MailMessage {
    var from: MailSender
    var to: String
    var subject: String
    var text: String?
    var html: String?
    /// Of the delivery; the message's id is made of it, so that an attempt that repeats another has the same.
    var id: String
    var date: Timestamp
    /// Printable ASCII without brackets.
    var unsubscribeURL: String?

    /// Of this message in all its attempts.
    var messageID: String {
        let isPlain = (1...128).contains(self.id.utf8.count) && self.id.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
        }
        let left = isPlain ? self.id : SHA256.hash(data: Array(self.id.utf8)).hex
        return "<\(left)@\(self.from.address.split(separator: "@").last ?? "carillon")>"
    }

    /// Whole, with CRLF line ends.
    var encoded: [UInt8] {
        var lines = [
            "From: " + (self.from.name.map { MailText.phrase($0) + " <\(self.from.address)>" } ?? self.from.address),
            "To: \(self.to)", MailText.header("Subject", self.subject), "Date: \(MailText.date(self.date))", "Message-ID: \(self.messageID)",
            "MIME-Version: 1.0", "Auto-Submitted: auto-generated",
        ]
        if let unsubscribeURL { lines += ["List-Unsubscribe: <\(unsubscribeURL)>", "List-Unsubscribe-Post: List-Unsubscribe=One-Click"] }
        let parts = [("plain", self.text), ("html", self.html)].compactMap { kind, body in body.map { (kind, $0) } }
        var bytes: [UInt8] = []
        if parts.count == 1 {
            lines += Self.partHeaders(parts[0].0) + ["", ""]
            bytes = Array(lines.joined(separator: "\r\n").utf8) + MailText.quotedPrintable(parts[0].1)
            return bytes
        }
        // No line of quoted-printable text holds "=_".
        let boundary = "=_" + SHA256.hash(data: Array(self.id.utf8)).prefix(16).hex
        lines += ["Content-Type: multipart/alternative;\r\n boundary=\"\(boundary)\"", "", ""]
        bytes = Array(lines.joined(separator: "\r\n").utf8)
        for (kind, body) in parts {
            bytes += Array((["--" + boundary] + Self.partHeaders(kind) + ["", ""]).joined(separator: "\r\n").utf8) + MailText.quotedPrintable(body)
        }
        bytes += Array("--\(boundary)--\r\n".utf8)
        return bytes
    }

    private static func partHeaders(_ kind: String) -> [String] {
        ["Content-Type: text/\(kind); charset=utf-8", "Content-Transfer-Encoding: quoted-printable"]
    }
}

extension String {
    var trimmingBlanks: String {
        let blanks: Set<Character> = [" ", "\t"]
        return String(self.drop { blanks.contains($0) }.reversed().drop { blanks.contains($0) }.reversed())
    }
}
