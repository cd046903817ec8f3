import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import Testing

@testable import API

@Suite("Users line by line")
struct TriggerLinesTests {
    /// All users, with the text coming in parts of that many bytes.
    private func read(_ text: [UInt8], parts: Int) throws(Problem) -> (users: [String], first: JSONValue?) {
        var lines = TriggerLines()
        var users: [UserID] = []
        var from = 0
        while from < text.count {
            try lines.add(ByteBuffer(bytes: text[from..<min(from + parts, text.count)]), to: &users)
            from += parts
        }
        try lines.end(to: &users)
        #expect(lines.count == users.count)
        return (users.map(\.value), lines.first)
    }

    private func read(_ text: String, parts: Int = .max / 2) throws(Problem) -> [String] { try self.read(Array(text.utf8), parts: parts).users }

    @Test("however the parts fall, the lines are the same", arguments: [1, 2, 3, 7, 64, 10_000])
    func parts(size: Int) throws {
        let text = "{\"title\":\"ü\\n\"}\r\n\"a\"\nb c\n\r\n\"\\u00e9\\ud83e\\udded\"\n\n🧭\r\n12\n\"last\""
        let read = try self.read(Array(text.utf8), parts: size)
        #expect(read.users == ["a", "b c", "é🧭", "🧭", "12", "last"])
        #expect(read.first == .object([("title", .string("ü\n"))]))
    }

    @Test("what could be something else is refused by its line", arguments: [
        "\"a", "a\"b\"\n\"", "{}", "[\"a\"]", "null", "true", "false", " a", "a ", "\"\"", "\"a\" b", "\"\\u0007\"", "\u{7}", "\"a\",", "\u{1F}",
        String(repeating: "x", count: 129), "\"" + String(repeating: "x", count: 129) + "\"",
    ])
    func wrong(line: String) {
        let error = #expect(throws: Problem.self) { try self.read("{}\nfine\n" + line) }
        let wanted = line.hasPrefix("a\"") ? 4 : 3
        #expect(error?.status == .unprocessableEntity && error?.detail.hasPrefix("Line \(wanted): ") == true)
    }

    @Test("what is not UTF-8 is refused")
    func encoding() {
        let error = #expect(throws: Problem.self) { try self.read(Array("{}\n".utf8) + [0x61, 0xFF, 0x0A], parts: 100) }
        #expect(error?.detail.hasPrefix("Line 2: ") == true)
    }

    @Test("an id of the greatest length fits however it is written")
    func longest() throws {
        let escaped = String(repeating: "\\ud83e\\udded", count: 128)
        #expect(try self.read("{}\n\"\(escaped)\"\n" + String(repeating: "🧭", count: 128)) == [String](repeating: String(repeating: "🧭", count: 128), count: 2))
    }

    @Test("a line without an end is not collected for ever", arguments: [("{}\n", 3000, 2), ("", 200_000, 1)])
    func endless(start: String, count: Int, number: Int) {
        let error = #expect(throws: Problem.self) { try self.read(start + String(repeating: "x", count: count), parts: 100) }
        #expect(error?.status == .payloadTooLarge && error?.detail.hasPrefix("Line \(number) ") == true)
    }

    @Test("nothing, or nobody, is no request")
    func empty() {
        #expect(throws: Problem.self) { try self.read("") }
        #expect(throws: Problem.self) { try self.read("{}") }
        #expect(throws: Problem.self) { try self.read("{}\n\n\r\n") }
        #expect(throws: Problem.self) { try self.read("nonsense\na\n") }
    }

    @Test("one user too many is refused by its line")
    func tooMany() throws {
        var lines = TriggerLines()
        var users: [UserID] = []
        try lines.add(ByteBuffer(string: "{}\n"), to: &users)
        let portion = ByteBuffer(string: String(repeating: "u\n", count: 100_000))
        for _ in 0..<10 {
            users = []
            try lines.add(portion, to: &users)
        }
        let error = #expect(throws: Problem.self) { try lines.add(ByteBuffer(string: "u\n"), to: &users) }
        #expect(error?.status == .payloadTooLarge && error?.detail.hasPrefix("Line 1000002 ") == true)
    }
}
