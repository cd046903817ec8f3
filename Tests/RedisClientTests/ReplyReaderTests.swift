import NIOCore
import Testing

@testable import RedisClient

@Suite("Parsing replies")
struct ReplyReaderTests {
    static func values(_ pieces: [ByteBuffer], maximum: Int = 1 << 20) throws(RedisError) -> [RedisValue] {
        var reader = ReplyReader(maximumReplyBytes: maximum)
        var values: [RedisValue] = []
        for piece in pieces { try reader.feed(piece) { (view: ReplyView) throws(RedisError) in values.append(try view.value()) } }
        return values
    }

    static let wire = ByteBuffer(string: "$7\r\na\0\r\n\n\r!\r\n*3\r\n:1\r\n*0\r\n-ERR no\r\n*-1\r\n-NOSCRIPT x y\r\n")
    static let expected: [RedisValue] = [
        .bulk(ByteBuffer(string: "a\0\r\n\n\r!")),
        .array([.integer(1), .array([]), .error(RedisError(code: .server, message: "ERR no"))]),
        .null,
        .error(RedisError(code: .server, message: "NOSCRIPT x y")),
    ]

    @Test("replies come out the same wherever the stream is cut")
    func cuts() throws {
        let simple = ByteBuffer(string: "+OK\r\n:-42\r\n$-1\r\n$0\r\n\r\n")
        var all = simple
        all.writeImmutableBuffer(Self.wire)
        let expected: [RedisValue] = [.status("OK"), .integer(-42), .null, .bulk(ByteBuffer())] + Self.expected
        for cut in 0...all.readableBytes {
            var rest = all
            let head = rest.readSlice(length: cut) ?? ByteBuffer()
            #expect(try Self.values([head, rest]) == expected, "cut at \(cut)")
        }
        #expect(try Self.values(all.readableBytesView.map { ByteBuffer(bytes: [$0]) }) == expected)
    }

    @Test("many replies in one read, and replies longer than a slice, come out whole and in order")
    func long() throws {
        var wire = ByteBuffer()
        var expected: [RedisValue] = []
        for number in 0..<500 {
            let text = String(repeating: "x", count: (number * 37) % 20_000)
            wire.writeBulk(text)
            expected.append(.bulk(ByteBuffer(string: text)))
        }
        #expect(try Self.values([wire], maximum: 1 << 24) == expected)
    }

    @Test(
        "what is no RESP is a protocol violation",
        arguments: ["HTTP/1.1 400 Bad Request\r\n", "@\r\n", "$-2x\r\n", "*1\r\n?\r\n", ":12a\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"]
    )
    func garbage(wire: String) {
        #expect { try Self.values([ByteBuffer(string: wire)]) } throws: { ($0 as? RedisError)?.code == .protocolViolation }
    }

    @Test("a reply beyond the bound is a protocol violation before it is complete")
    func bound() {
        #expect { try Self.values([ByteBuffer(string: "$100000\r\n" + String(repeating: "x", count: 50_000))], maximum: 10_000) } throws: {
            ($0 as? RedisError)?.code == .protocolViolation
        }
    }

    @Test("values read as text and numbers")
    func conveniences() {
        #expect(RedisValue.bulk(ByteBuffer(string: "17")).int == 17)
        #expect(RedisValue.integer(17).string == "17")
        #expect(RedisValue.status("OK").string == "OK")
        #expect(RedisValue.null.string == nil)
        #expect(RedisValue.array([.null]).array == [.null])
        #expect(RedisValue.null.isNull)
    }
}
