import NIOCore
import NIOHTTP1

/// The head of a request as nearly all clients write it, read without a parser for all of HTTP/1.1 (RFC 9112).
///
/// What is taken is a subset in which nobody can differ about where a request ends: one of five methods, a path of plain characters, lines that end in CRLF,
/// names and values of visible ASCII, a body of at most one `Content-Length`, no transfer coding, nothing that is expected or upgraded to. Whatever is
/// written otherwise, right or wrong, is ``Reading/unusual``: a library's affair.
enum PlainRequest {
    enum Reading {
        /// The head's end is not there; the next search begins at `searched`.
        case more(searched: Int)
        case unusual
        /// `headBytes`: with the empty line.
        case head(HTTPRequestHead, headBytes: Int, bodyBytes: Int)
    }

    private static let headersBound = 64

    /// - Parameters:
    ///   - searched: what ``Reading/more(searched:)`` said of the same bytes when there were fewer; 0 else.
    ///   - bound: the most bytes that a head may have.
    static func read(_ bytes: UnsafeBufferPointer<UInt8>, searched: Int = 0, bound: Int) -> Reading {
        guard let end = Self.end(bytes, from: searched) else {
            return bytes.count > bound || !Self.mayBecome(bytes, from: searched) ? .unusual : .more(searched: max(0, bytes.count - 3))
        }
        if end > bound { return .unusual }
        var lines = Lines(bytes: UnsafeBufferPointer(rebasing: bytes[..<end]))
        guard let method = lines.method(), let target = lines.target() else { return .unusual }
        var headers: [(String, String)] = []
        headers.reserveCapacity(12)
        var length: Int?
        var saysConnection = false
        while !lines.isAtEnd {
            guard let name = lines.name(), let value = lines.value(), headers.count < Self.headersBound else { return .unusual }
            switch Self.meaning(name, value) {
            case .none: break
            case .unusual: return .unusual
            case .connection:
                if saysConnection { return .unusual }
                saysConnection = true
            case .length(let bytes):
                if length != nil { return .unusual }
                length = bytes
            }
            headers.append((String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self)))
        }
        let head = HTTPRequestHead(version: .http1_1, method: method, uri: String(decoding: target, as: UTF8.self), headers: HTTPHeaders(headers))
        return .head(head, headBytes: end, bodyBytes: length ?? 0)
    }

    /// The offset behind the first empty line.
    private static func end(_ bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> Int? {
        var at = start + 3
        while at < bytes.count {
            switch bytes[at] {
            case UInt8(ascii: "\n"):
                if bytes[at - 1] == UInt8(ascii: "\r"), bytes[at - 2] == UInt8(ascii: "\n"), bytes[at - 3] == UInt8(ascii: "\r") { return at + 1 }
                at += 2
            case UInt8(ascii: "\r"): at += 1
            default: at += 4
            }
        }
        return nil
    }

    /// Whether these bytes, in which no head ends, are the beginning of one: who speaks something else is told so at once.
    private static func mayBecome(_ bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> Bool {
        var lines = Lines(bytes: bytes)
        guard let line = bytes.firstIndex(of: UInt8(ascii: "\n")) else { return lines.mayBeginWithMethod() }
        lines = Lines(bytes: UnsafeBufferPointer(rebasing: bytes[...line]))
        guard lines.method() != nil, lines.target() != nil else { return false }
        for index in max(start, 1)..<max(bytes.count, 1) where bytes[index] == UInt8(ascii: "\n") && bytes[index - 1] != UInt8(ascii: "\r") { return false }
        return true
    }

    private enum Meaning {
        case none
        case connection
        case length(Int)
        case unusual
    }

    /// What a header says about where the request ends, or about anything that is not carried out here.
    private static func meaning(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) -> Meaning {
        switch name.count {
        case 2: return name.isText("te") ? .unusual : .none
        case 6: return name.isText("expect") ? .unusual : .none
        case 7: return name.isText("upgrade") || name.isText("trailer") ? .unusual : .none
        case 10:
            if name.isText("connection") { return value.isText("keep-alive") || value.isText("close") ? .connection : .unusual }
            return name.isText("keep-alive") ? .unusual : .none
        case 14:
            guard name.isText("content-length") else { return name.isText("http2-settings") ? .unusual : .none }
            // As many digits as fit whatever the bound of bodies is.
            guard (1...9).contains(value.count) else { return .unusual }
            var length = 0
            for byte in value {
                guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return .unusual }
                length = length * 10 + Int(byte - UInt8(ascii: "0"))
            }
            return .length(length)
        case 16: return name.isText("proxy-connection") ? .unusual : .none
        case 17: return name.isText("transfer-encoding") ? .unusual : .none
        default: return .none
        }
    }

    /// Steps through a head that ends with its empty line.
    private struct Lines {
        let bytes: UnsafeBufferPointer<UInt8>
        private var at = 0

        init(bytes: UnsafeBufferPointer<UInt8>) {
            self.bytes = bytes
        }

        var isAtEnd: Bool { self.at == self.bytes.count - 2 }

        mutating func method() -> HTTPMethod? {
            if self.skip("POST ") { return .POST }
            if self.skip("GET ") { return .GET }
            if self.skip("PATCH ") { return .PATCH }
            if self.skip("PUT ") { return .PUT }
            if self.skip("DELETE ") { return .DELETE }
            return nil
        }

        /// Whether all of what is there could be one of these and a path.
        func mayBeginWithMethod() -> Bool {
            for method in ["POST /", "GET /", "PATCH /", "PUT /", "DELETE /"] as [StaticString] {
                let count = min(method.utf8CodeUnitCount, self.bytes.count)
                if (0..<count).allSatisfy({ self.bytes[$0] == method.utf8Start[$0] }) { return true }
            }
            return false
        }

        /// Origin form (RFC 9112, 3.2.1) of the characters of RFC 3986.
        mutating func target() -> UnsafeBufferPointer<UInt8>? {
            let start = self.at
            guard self.bytes[start] == UInt8(ascii: "/") else { return nil }
            while PlainRequest.isOfPath(self.bytes[self.at]) { self.at += 1 }
            let target = UnsafeBufferPointer(rebasing: self.bytes[start..<self.at])
            return self.skip(" HTTP/1.1\r\n") ? target : nil
        }

        mutating func name() -> UnsafeBufferPointer<UInt8>? {
            let start = self.at
            while PlainRequest.isOfToken(self.bytes[self.at]) { self.at += 1 }
            guard self.at > start, self.bytes[self.at] == UInt8(ascii: ":") else { return nil }
            self.at += 1
            return UnsafeBufferPointer(rebasing: self.bytes[start..<self.at - 1])
        }

        /// With its line's end; not empty, and without space around it but the usual one.
        mutating func value() -> UnsafeBufferPointer<UInt8>? {
            if self.bytes[self.at] == UInt8(ascii: " ") { self.at += 1 }
            let start = self.at
            while (0x20...0x7E).contains(self.bytes[self.at]) { self.at += 1 }
            let end = self.at
            guard end > start, self.bytes[start] != UInt8(ascii: " "), self.bytes[end - 1] != UInt8(ascii: " "), self.skip("\r\n") else { return nil }
            return UnsafeBufferPointer(rebasing: self.bytes[start..<end])
        }

        private mutating func skip(_ text: StaticString) -> Bool {
            let count = text.utf8CodeUnitCount
            guard self.bytes.count - self.at >= count else { return false }
            for index in 0..<count where self.bytes[self.at + index] != text.utf8Start[index] { return false }
            self.at += count
            return true
        }
    }

    /// Unreserved characters, sub-delimiters and those that part a path and its query.
    private static let ofPath = Table("!$&'()*+,-./:;=?@_~%")
    /// RFC 9110, 5.6.2.
    private static let ofToken = Table("!#$%&'*+-.^_`|~")

    private static func isOfPath(_ byte: UInt8) -> Bool { Self.ofPath.has(byte) }
    private static func isOfToken(_ byte: UInt8) -> Bool { Self.ofToken.has(byte) }

    /// Letters, digits and some more.
    private struct Table: Sendable {
        private var low: UInt64 = 0
        private var high: UInt64 = 0

        init(_ more: StaticString) {
            for byte in UInt8(ascii: "0")...UInt8(ascii: "9") { self.add(byte) }
            for byte in UInt8(ascii: "a")...UInt8(ascii: "z") {
                self.add(byte)
                self.add(byte - 32)
            }
            for index in 0..<more.utf8CodeUnitCount { self.add(more.utf8Start[index]) }
        }

        private mutating func add(_ byte: UInt8) {
            if byte < 64 { self.low |= 1 << UInt64(byte) } else { self.high |= 1 << UInt64(byte - 64) }
        }

        @inline(__always)
        func has(_ byte: UInt8) -> Bool {
            byte < 64 ? self.low & (1 << UInt64(byte)) != 0 : byte < 128 && self.high & (1 << UInt64(byte - 64)) != 0
        }
    }
}

extension UnsafeBufferPointer<UInt8> {
    /// Whatever the case of its letters.
    ///
    /// - Parameter text: of as many bytes or fewer, in lower case.
    fileprivate func isText(_ text: StaticString) -> Bool {
        guard self.count == text.utf8CodeUnitCount else { return false }
        for index in 0..<self.count {
            let byte = self[index]
            let lower = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
            if lower != text.utf8Start[index] { return false }
        }
        return true
    }
}

extension HTTPResponseHead {
    /// As it goes on the wire (RFC 9112, 4), with a body whose length it names, or none.
    func encoded(with body: ByteBuffer, allocator: ByteBufferAllocator) -> ByteBuffer {
        var size = 32 + body.readableBytes
        for (name, value) in self.headers { size += name.utf8.count + value.utf8.count + 4 }
        var bytes = allocator.buffer(capacity: size)
        bytes.writeStaticString("HTTP/1.1 ")
        bytes.writeString(String(self.status.code))
        bytes.writeStaticString(" ")
        bytes.writeString(self.status.reasonPhrase)
        bytes.writeStaticString("\r\n")
        for (name, value) in self.headers {
            bytes.writeString(name)
            bytes.writeStaticString(": ")
            bytes.writeString(value)
            bytes.writeStaticString("\r\n")
        }
        bytes.writeStaticString("\r\n")
        if self.status.mayHaveResponseBody { bytes.writeImmutableBuffer(body) }
        return bytes
    }
}
