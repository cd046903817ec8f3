import Gateway
import NIOCore
import NIOHTTP1
import Testing

@testable import Edge

@Suite("reading a WebSocket")
struct WebSocketReaderTests {
    private static let bound = 300

    /// A client's frame.
    static func frame(
        _ opcode: UInt8, _ payload: [UInt8] = [], final: Bool = true, reserved: UInt8 = 0, masked: Bool = true, lengthBytes: Int? = nil
    ) -> [UInt8] {
        var bytes = [(final ? 0x80 : 0) | reserved << 4 | opcode]
        let size = lengthBytes ?? (payload.count < 126 ? 0 : payload.count < 65536 ? 2 : 8)
        bytes.append((masked ? 0x80 : 0) | (size == 0 ? UInt8(payload.count) : size == 2 ? 126 : 127))
        for shift in stride(from: 8 * (size - 1), through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: payload.count >> shift)) }
        let mask: [UInt8] = [0xA1, 0x02, 0xFF, 0x5C]
        if masked { bytes += mask }
        return bytes + payload.enumerated().map { masked ? $0.element ^ mask[$0.offset & 3] : $0.element }
    }

    static func text(_ text: String, final: Bool = true) -> [UInt8] { Self.frame(0x1, Array(text.utf8), final: final) }
    private static func close(_ code: UInt16, _ reason: [UInt8] = []) -> [UInt8] { Self.frame(0x8, [UInt8(code >> 8), UInt8(code & 255)] + reason) }

    /// All that is read of these pieces, up to the end of them or of the conversation.
    private static func read(_ pieces: [ArraySlice<UInt8>]) -> [WebSocketReader.Reading] {
        var reader = WebSocketReader(bound: Self.bound)
        var found: [WebSocketReader.Reading] = []
        for piece in pieces {
            reader.feed(ByteBuffer(bytes: piece))
            while true {
                let reading = reader.next()
                if reading == .incomplete { break }
                found.append(reading)
                if case .failed = reading { return found }
            }
        }
        return found
    }

    private static func read(_ bytes: [UInt8]) -> [WebSocketReader.Reading] { Self.read([bytes[...]]) }

    private static let conversation: [UInt8] =
        Self.text("Grüße") + Self.frame(0x9, [1, 2, 3]) + Self.frame(0x1, Array(repeating: 0x61, count: 200)) + Self.text("a", final: false)
        + Self.frame(0x9) + Self.frame(0x0, Array("b".utf8), final: false) + Self.frame(0x0, [], final: false) + Self.frame(0x0, Array("ç".utf8))
        + Self.frame(0xA, [7]) + Self.frame(0x2, [0xFF, 0xFE]) + Self.close(1000, Array("bye".utf8)) + Self.text("too late")

    private static let messages: [WebSocketReader.Reading] = [
        .message(.text(ByteBuffer(string: "Grüße"))), .message(.ping(ByteBuffer(bytes: [1, 2, 3]))),
        .message(.text(ByteBuffer(repeating: 0x61, count: 200))), .message(.ping(ByteBuffer())), .message(.text(ByteBuffer(string: "abç"))),
        .message(.pong), .message(.binary(ByteBuffer(bytes: [0xFF, 0xFE]))), .message(.close(.normal)),
    ]

    @Test("a conversation is the same in whatever two pieces it comes, and byte by byte")
    func pieces() {
        let bytes = Self.conversation
        #expect(Self.read(bytes) == Self.messages)
        #expect(Self.read(bytes.indices.map { bytes[$0...$0] }) == Self.messages)
        for cut in bytes.indices { #expect(Self.read([bytes[..<cut], bytes[cut...]]) == Self.messages, "cut at \(cut)") }
    }

    @Test(
        "what breaks the protocol ends it with the code that says how",
        arguments: [
            ("not masked", frame(0x1, [0x61], masked: false), .protocolError),
            ("a reserved bit", frame(0x1, [0x61], reserved: 4), .protocolError),
            ("another reserved bit", frame(0x9, reserved: 1), .protocolError),
            ("a continuation of nothing", frame(0x0, [0x61]), .protocolError),
            ("a message within a message", text("a", final: false) + text("b"), .protocolError),
            ("binary within text", text("a", final: false) + frame(0x2, [1]), .protocolError),
            ("a ping in pieces", frame(0x9, final: false), .protocolError),
            ("a long ping", frame(0x9, Array(repeating: 0, count: 126)), .protocolError),
            ("a close of one byte", frame(0x8, [3]), .protocolError),
            ("a length in too many bytes", frame(0x1, [0x61], lengthBytes: 2), .protocolError),
            ("a length in far too many bytes", frame(0x1, Array(repeating: 0x61, count: 126), lengthBytes: 8), .protocolError),
            ("a negative length", [0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], .protocolError),
            ("text that is not UTF-8", frame(0x1, [0xC3, 0x28]), .notText),
            ("text that is cut off within a character", frame(0x1, [0xC3]), .notText),
            ("a surrogate", frame(0x1, [0xED, 0xA0, 0x80]), .notText),
            ("text in pieces that is not UTF-8", frame(0x1, [0xC3], final: false) + frame(0x0, [0x28]), .notText),
            ("a reason that is not UTF-8", close(1000, [0xFF]), .notText),
            ("too large", frame(0x1, Array(repeating: 0x61, count: 301)), .tooLarge),
            ("too large by its header", [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], .tooLarge),
            ("too large in pieces", frame(0x1, Array(repeating: 0x61, count: 200), final: false) + frame(0x0, Array(repeating: 0x61, count: 101)), .tooLarge),
        ] as [(String, [UInt8], WebSocketCode)])
    func broken(_ what: String, _ bytes: [UInt8], _ code: WebSocketCode) {
        #expect(Self.read(bytes).last == .failed(code))
        #expect(Self.read(bytes.indices.map { bytes[$0...$0] }).last == .failed(code))
        // Nothing after it counts.
        var reader = WebSocketReader(bound: Self.bound)
        reader.feed(ByteBuffer(bytes: bytes))
        while reader.next() != .failed(code) {}
        reader.feed(ByteBuffer(bytes: Self.text("more")))
        #expect(reader.next() == .incomplete)
    }

    @Test("each reserved opcode is refused", arguments: [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] as [UInt8])
    func opcodes(_ opcode: UInt8) { #expect(Self.read(Self.frame(opcode)) == [.failed(.protocolError)]) }

    @Test("a client may say each code that may be said", arguments: [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4001, 4999] as [UInt16])
    func codes(_ code: UInt16) { #expect(Self.read(Self.close(code)) == [.message(.close(WebSocketCode(rawValue: code)))]) }

    @Test("and no other", arguments: [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535] as [UInt16])
    func otherCodes(_ code: UInt16) { #expect(Self.read(Self.close(code)) == [.failed(.protocolError)]) }

    @Test("noise ends it or waits for more, and crashes nothing")
    func noise() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            var bytes = Self.conversation
            for _ in 0..<Int.random(in: 1...4) { bytes[Int.random(in: bytes.indices)] = UInt8.random(in: 0...255, using: &generator) }
            let start = Int.random(in: bytes.indices)
            for reading in Self.read([bytes[start...]]) {
                if case .message(.text(let text)) = reading { #expect(text.readableBytes <= Self.bound) }
            }
        }
    }
}

@Suite("opening and writing a WebSocket")
struct WebSocketOpeningTests {
    private static let good: [(String, String)] = [
        ("host", "a"), ("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]

    private static func open(_ headers: [(String, String)], version: HTTPVersion = .http1_1) throws -> String {
        try WebSocketOpening(HTTPRequestHead(version: version, method: .GET, uri: "/", headers: HTTPHeaders(headers))).accept
    }

    @Test("the example of RFC 6455, 1.3")
    func example() throws { #expect(try Self.open(Self.good) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") }

    @Test("words in lists and in any case count")
    func lists() throws {
        var headers = Self.good
        headers[1].1 = "h2c, WebSocket"
        headers[2].1 = "keep-alive, upgrade"
        #expect(try Self.open(headers) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    }

    @Test(
        "what is no handshake is refused",
        arguments: [
            (1, "h2c", 426), (1, "", 426), (2, "keep-alive", 400), (3, "8", 426), (3, "", 426), (4, "", 400), (4, "dGhlIHNhbXBsZSBub25jZQ", 400),
            (4, "dGhlIHNhbXBsZSBub25jZQ==AAAA", 400), (4, "**********************==", 400),
        ] as [(Int, String, UInt)])
    func refused(_ index: Int, _ value: String, _ status: UInt) {
        var headers = Self.good
        headers[index].1 = value
        let error = #expect(throws: Problem.self) { try Self.open(headers) }
        #expect(error?.status.code == status)
        headers.remove(at: index)
        #expect(throws: Problem.self) { try Self.open(headers) }
    }

    @Test("two keys, and HTTP/1.0, are refused")
    func more() {
        #expect(throws: Problem.self) { try Self.open(Self.good + [Self.good[4]]) }
        #expect(throws: Problem.self) { try Self.open(Self.good, version: .http1_0) }
    }

    @Test("a frame's length stands in as few bytes as it takes", arguments: [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
    func lengths(_ length: Int, _ header: Int) {
        let frame = WebSocketFrame.make(.text, [UInt8](repeating: 0x61, count: length))
        #expect(frame.readableBytes == header + length)
        var bytes = Array(frame.readableBytesView)
        // As a client would have sent it: with a mask of zeros.
        bytes[1] |= 0x80
        bytes.insert(contentsOf: [0, 0, 0, 0], at: header)
        var reader = WebSocketReader(bound: 100_000)
        reader.feed(ByteBuffer(bytes: bytes))
        #expect(reader.next() == .message(.text(ByteBuffer(repeating: 0x61, count: length))))
    }
}
