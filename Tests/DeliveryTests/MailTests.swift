import NotificationCore
import Testing

@testable import Delivery

@Suite("e-mail")
struct MailTests {
    @Test("a subject cannot begin another header", arguments: ["a\r\nBcc: eve@example.com", "a\nX: y", "a\rb", "ü\r\nBcc: x"])
    func injection(_ subject: String) {
        let lines = MailText.header("Subject", subject).split(separator: "\r\n", omittingEmptySubsequences: false)
        #expect(lines.dropFirst().allSatisfy { $0.hasPrefix(" ") } && !lines.contains { $0.hasPrefix("Bcc") || $0.hasPrefix("X") })
        #expect(!MailText.header("Subject", subject).replacing("\r\n", with: "").unicodeScalars.contains { $0 == "\r" || $0 == "\n" })
    }

    @Test("no line of a header is longer than 78, whatever the subject", arguments: [10, 60, 70, 200])
    func folded(_ count: Int) {
        for piece in ["a", "ü", "😀", "x y"] {
            for line in MailText.header("Subject", String(repeating: piece, count: count)).split(separator: "\r\n") { #expect(line.utf8.count <= 78) }
        }
    }

    @Test("lines of quoted-printable text have at most 76 characters, and none begins with a dot")
    func quotedPrintable() {
        var generator = SystemRandomNumberGenerator()
        let pieces = [".", "=", "a", " ", "\t", "\n", "\r\n", "ü", "😀", ".\n", "word"]
        for _ in 0..<300 {
            let text = (0..<200).map { _ in pieces.randomElement(using: &generator) ?? "" }.joined()
            let encoded = String(decoding: MailText.quotedPrintable(text), as: UTF8.self)
            for line in encoded.split(separator: "\r\n", omittingEmptySubsequences: false) { #expect(line.utf8.count <= 76 && !line.hasPrefix(".") && line.last != " ") }
        }
    }

    @Test("dates are those of RFC 5322", arguments: [("2026-11-21T16:12:44Z", "Sat, 21 Nov 2026 16:12:44 +0000"), ("2024-02-29T00:00:00.5Z", "Thu, 29 Feb 2024 00:00:00 +0000")])
    func date(_ text: String, _ expected: String) throws {
        #expect(MailText.date(try #require(Timestamp(text))) == expected)
    }

    @Test(
        "senders are an address, perhaps with a name",
        arguments: [("a@b.example", nil, "a@b.example"), ("Ann <a@b.example>", "Ann", "a@b.example"), ("\"Ann, Bob\" <a@b.example>", "Ann, Bob", "a@b.example")] as [(String, String?, String)])
    func sender(_ text: String, _ name: String?, _ address: String) throws {
        let sender = try #require(MailSender(text))
        #expect(sender.name == name && sender.address == address)
    }

    @Test("what is no sender is none", arguments: ["", "Ann", "a@", "<>", "Ann <a b@c>", "a@b\r\nX: y", "Ann\r\nX: y <a@b.example>"])
    func noSender(_ text: String) { #expect(MailSender(text) == nil) }

    @Test(
        "a server's URL is understood",
        arguments: [
            ("smtp://mail.example", "smtp://mail.example", nil, nil, .opportunistic), ("smtps://u%40x:p%3Aw@mail.example:465/", "smtps://mail.example:465", "u@x", "p:w", .none),
            ("smtp://u:p@mail.example:587/carillon?starttls=opportunistic", "smtp://mail.example:587/carillon", "u", "p", .opportunistic), ("smtp://u:p@m.example", "smtp://m.example", "u", "p", .required),
            ("smtp://127.0.0.1:2525?starttls=none", "smtp://127.0.0.1:2525", nil, nil, .none),
        ] as [(String, String, String?, String?, TransferRequest.StartTLS)])
    func server(_ text: String, _ url: String, _ user: String?, _ password: String?, _ startTLS: TransferRequest.StartTLS) throws {
        let server = try MailServer(url: text)
        #expect(server.url == url && server.user == user && server.password == password && server.startTLS == startTLS)
    }

    @Test(
        "a URL that is none is refused", arguments: ["", "http://mail.example", "smtp://", "mail.example", "smtp://m.example?starttls=maybe", "smtps://m.example?starttls=required", "smtp://m.example/a/b", "smtp://m.example\r\nx", "smtp://m.example#x"])
    func noServer(_ text: String) { #expect(throws: SenderSettingError.self) { try MailServer(url: text) } }

    @Test("the id of a message is the same for all attempts, and fit for a header whatever the delivery's id is")
    func messageID() throws {
        let from = try #require(MailSender("a@b.example"))
        func id(_ id: String) -> String {
            MailMessage(from: from, to: "c@d.example", subject: "", text: "", id: id, date: .now()).messageID
        }
        #expect(id("0193-a") == "<0193-a@b.example>")
        #expect(id("😀> \r\n") == id("😀> \r\n") && id("😀> \r\n").utf8.allSatisfy { (0x21...0x7E).contains($0) } && id("😀> \r\n") != id("😀"))
    }
}
