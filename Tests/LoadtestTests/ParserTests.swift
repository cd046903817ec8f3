import Testing

@testable import carillon_loadtest

private func bytes<Value>(_ text: String, _ body: (UnsafeRawBufferPointer) throws -> Value) rethrows -> Value {
    try Array(text.utf8).withUnsafeBytes(body)
}

@Suite("Parsers")
struct ParserTests {
    /// Feeds a text in pieces of one size and describes what came out.
    private func blocks(_ text: String, piece: Int) throws -> [String] {
        var parser = SSEParser()
        var seen: [String] = []
        let all = Array(text.utf8)
        for start in stride(from: 0, to: all.count, by: piece) {
            try all[start..<min(start + piece, all.count)].withUnsafeBytes { bytes in
                try parser.feed(bytes) { block throws(LoadtestError) in
                    let retry = block.retry.map { " retry=\($0)" } ?? ""
                    seen.append("\(block.name) \(block.id) [\(block.hasData ? String(decoding: block.data, as: UTF8.self) : "-")]\(retry)")
                }
            }
        }
        return seen
    }

    @Test("a stream means the same however it is cut", arguments: [1, 2, 3, 7, 1_000])
    func sse(piece: Int) throws {
        let text = "\u{feff}: hello\nretry: 1327\nevent: ready\nid: 1-41\ndata: {\"a\":1}\n\nid: 1-42\rdata:x\rdata: y\r\rid:1-43\r\n\r\n: ping\n\nevent: delete\ndata\n\nid: what\n\nevent: update\n\n"
        #expect(
            try blocks(text, piece: piece) == [
                "ready position(1-41) [{\"a\":1}] retry=1327",
                "message position(1-42) [x\ny]", "message position(1-43) [-]", "delete absent []", "message malformed [-]", "update absent [-]",
            ]
        )
    }

    @Test("a line without end is refused")
    func endless() {
        var parser = SSEParser()
        let long = [UInt8](repeating: 0x61, count: 2 << 20)
        #expect(throws: LoadtestError.self) {
            try long.withUnsafeBytes { try parser.feed($0) { _ throws(LoadtestError) in } }
        }
    }

    private func answers(_ text: String, piece: Int) throws -> [String] {
        var parser = HTTPResponseParser()
        var seen: [String] = []
        var body = ""
        let all = Array(text.utf8)
        for start in stride(from: 0, to: all.count, by: piece) {
            try all[start..<min(start + piece, all.count)].withUnsafeBytes { bytes in
                try parser.feed(bytes) { part throws(LoadtestError) in
                    switch part {
                    case .head(let head): seen.append("\(head.status)\(head.keepAlive ? " keep" : "")\(head.isEventStream ? " sse" : "")")
                    case .body(let bytes): body += String(decoding: bytes, as: UTF8.self)
                    case .end:
                        seen.append(body)
                        body = ""
                    }
                }
            }
        }
        if !body.isEmpty { seen.append("open: " + body) }
        seen.append(parser.isCompleteAtClose() ? "complete" : "cut off")
        return seen
    }

    @Test(
        "answers are delimited by length, chunks or close, however they are cut",
        arguments: [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 201 X\r\ncontent-length: 0\r\n\r\n",
             ["200 keep", "hello", "204 keep", "", "201 keep", "", "complete"]),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nT: x\r\n\r\n", ["200 keep", "hello", "complete"]),
            ("HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\ndata: x\n\n", ["200 sse", "open: data: x\n\n", "complete"]),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", ["200", "ok", "complete"]),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", ["200", "ok", "complete"]),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", ["200 keep", "open: ok", "cut off"]),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", ["200 keep", "open: ok", "cut off"]),
        ], [1, 3, 1_000]
    )
    func http(example: (String, [String]), piece: Int) throws {
        #expect(try answers(example.0, piece: piece) == example.1)
    }

    @Test("what is no HTTP answer is refused", arguments: [
        "SSH-2.0-x\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    ])
    func badHTTP(text: String) {
        #expect(throws: LoadtestError.self) { try answers(text, piece: 1_000) }
    }

    @Test("positions are two numbers and nothing else")
    func positions() {
        #expect(StreamPosition("1-42") == StreamPosition(epoch: 1, seq: 42))
        #expect(StreamPosition("18446744073709551615-0") == StreamPosition(epoch: .max, seq: 0))
        for text in ["", "1", "1-", "-1", "1-2-3", "1 -2", "1-18446744073709551616", "a-1"] { #expect(StreamPosition(text) == nil, "\(text)") }
    }

    @Test("identifiers are read and written alike")
    func identifiers() {
        let text = "0193f0e2-7a1b-7c3d-8e4f-0123456789ab"
        #expect(NotificationID(text)?.description == text)
        #expect(NotificationID(text.uppercased())?.description == text)
        for text in ["", "0193", text + "0", text.replacingFirst("-", with: "0"), text.replacingFirst("a", with: "g")] {
            #expect(NotificationID(text) == nil, "\(text)")
        }
    }

    @Test("facts are taken from the outer object, whatever the inner ones and strings say")
    func facts() throws {
        let json = #"{"id":"0193f0e2-7a1b-7c3d-8e4f-0123456789ab","title":"\"unread\":5","data":{"unread":7,"due":123,"run":"r","x":[{"unread":8}]},"read":true,"customer_id":null,"un\u0072ead":4}"#
        let block = try bytes(json) { data throws -> StreamEvent in
            try StreamEvent(SSEBlock(name: .message, id: .absent, data: data, hasData: true, retry: nil), run: Array("r".utf8))
        }
        #expect(block.facts.unread == 4)
        #expect(block.facts.due == 123)
        #expect(block.facts.read == true)
        #expect(!block.facts.filtered)
        #expect(block.facts.notification != nil)
        let other = try bytes(json) { data throws -> StreamEvent in
            try StreamEvent(SSEBlock(name: .message, id: .absent, data: data, hasData: true, retry: nil), run: Array("s".utf8))
        }
        #expect(other.facts.due == nil)
    }

    @Test("what is no JSON object is refused", arguments: ["", "1", "[]", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1} x", "{\"a\":\"", "{a:1}", "{\"a\":tru}"])
    func badJSON(text: String) {
        #expect(throws: LoadtestError.self) {
            try bytes(text) { data in
                _ = try StreamEvent(SSEBlock(name: .message, id: .absent, data: data, hasData: true, retry: nil), run: [])
            }
        }
    }

    @Test("nesting is bounded")
    func nesting() {
        let text = "{\"a\":" + String(repeating: "[", count: 10_000)
        #expect(throws: LoadtestError.self) {
            try bytes(text) { data in
                var reader = JSONReader(data)
                try reader.skip()
            }
        }
    }

    @Test("numbers are exact, also when they became doubles on the way", arguments: [("12", 12), ("-3", -3), ("1.5e3", 1_500), ("7.0", 7)])
    func numbers(example: (String, Int64)) throws {
        let value = try bytes(example.0) { data in
            var reader = JSONReader(data)
            return try reader.integerIfAny()
        }
        #expect(value == example.1)
    }

    @Test("escapes are taken away")
    func escapes() throws {
        let text = try bytes(#""a\"\\\/\n\u00e9\ud83d\ude00""#) { data in
            var reader = JSONReader(data)
            return try reader.string().string
        }
        #expect(text == "a\"\\/\né😀")
    }
}

extension String {
    fileprivate func replacingFirst(_ part: String, with other: String) -> String {
        guard let range = firstRange(of: part) else { return self }
        return String(self[..<range.lowerBound]) + other + String(self[range.upperBound...])
    }
}
