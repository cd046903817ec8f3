import Crypto
import Gateway
import NIOHTTP1

/// The opening handshake of a WebSocket (RFC 6455, 4.2).
struct WebSocketOpening {
    /// The value of `Sec-WebSocket-Accept`.
    let accept: String

    private static let guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

    /// - Throws: ``Problem``: 426 for another version or none, 400 for what is no handshake.
    init(_ head: HTTPRequestHead) throws(Problem) {
        guard head.headers[canonicalForm: "upgrade"].contains(where: { $0.lowercased() == "websocket" }) else { throw .upgradeRequired }
        guard head.version.major == 1, head.version.minor >= 1, head.headers[canonicalForm: "connection"].contains(where: { $0.lowercased() == "upgrade" }) else {
            throw .handshake("A WebSocket begins with HTTP/1.1 and Connection: Upgrade.")
        }
        guard head.headers["sec-websocket-version"] == ["13"] else { throw .upgradeRequired }
        let keys = head.headers["sec-websocket-key"]
        guard keys.count == 1, Self.isKey(keys[0]) else { throw .handshake("Sec-WebSocket-Key must be 16 bytes in base64.") }
        self.accept = Self.accept(key: keys[0])
    }

    static func accept(key: String) -> String {
        Self.base64(Array(Insecure.SHA1.hash(data: Array((key + Self.guid).utf8))))
    }

    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    private static func isKey(_ key: String) -> Bool {
        let bytes = Array(key.utf8)
        return bytes.count == 24 && bytes.suffix(2).elementsEqual("==".utf8) && bytes.dropLast(2).allSatisfy(Self.alphabet.contains)
    }

    private static func base64(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let part = bytes[start..<min(start + 3, bytes.count)]
            let bits = part.enumerated().reduce(UInt32(0)) { $0 | UInt32($1.element) << UInt32(16 - 8 * $1.offset) }
            for index in 0..<4 {
                text.append(index <= part.count ? Self.alphabet[Int(bits >> UInt32(18 - 6 * index) & 63)] : UInt8(ascii: "="))
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}

extension Problem {
    static let upgradeRequired = Problem(
        .upgradeRequired, "upgrade_required", "This is a WebSocket (RFC 6455), version 13.",
        headers: ["upgrade": "websocket", "sec-websocket-version": "13"])

    static func handshake(_ detail: String) -> Problem { Problem(.badRequest, "invalid_request", detail) }
}
