import Foundation

/// What the head of an answer said, as far as the tool needs it.
struct HTTPHead: Equatable, Sendable {
    let status: Int
    /// Whether the connection may carry another request after this answer.
    let keepAlive: Bool
    let isEventStream: Bool
}

/// An incremental parser of HTTP/1.x answers (RFC 9112): a status line, headers, and a body that is delimited by its
/// length, by chunks, or by the end of the connection.
///
/// All three must work for a stream: the server delimits it by close, a proxy may chunk it. Body bytes are handed out
/// where they lie, without a copy.
struct HTTPResponseParser {
    enum Part {
        case head(HTTPHead)
        case body(UnsafeRawBufferPointer)
        case end
    }

    private enum State: Equatable {
        case head
        case length(UInt64)
        case chunkSize
        case chunk(UInt64)
        case chunkEnd
        case trailer
        case untilClose
    }

    /// Bytes of a head, a chunk's size line or a trailer line.
    private static let lineLimit = 64 * 1024

    private var state = State.head
    private var held: [UInt8] = []

    /// Takes what was read and calls `body` for every part that is complete.
    mutating func feed(_ bytes: UnsafeRawBufferPointer, _ body: (Part) throws(LoadtestError) -> Void) throws(LoadtestError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            switch state {
            case .head:
                let (head, next): (HTTPHead, State)
                if held.isEmpty, let length = Self.headLength(rest) {
                    // As nearly always: in one piece, and read where it lies.
                    (head, next) = try Self.parseHead(UnsafeRawBufferPointer(rebasing: rest.prefix(length)))
                    rest = rest.dropFirst(length)
                } else {
                    let line = rest.firstIndex(of: 0x0a).map { rest[...$0] } ?? rest
                    held.append(contentsOf: line)
                    rest = rest[line.endIndex...]
                    guard held.count <= Self.lineLimit else { throw .malformed("The head of an answer is longer than 64 KiB") }
                    guard held.hasSuffix([0x0a, 0x0d, 0x0a]) || held.hasSuffix([0x0a, 0x0a]) else { continue }
                    (head, next) = try Self.parsed(held)
                    held.removeAll(keepingCapacity: false)
                }
                guard head.status >= 200 else { continue }
                state = next
                try body(.head(head))
                if next == .head { try body(.end) }
            case .length(let remaining):
                let count = Int(min(remaining, UInt64(rest.count)))
                state = remaining == UInt64(count) ? .head : .length(remaining - UInt64(count))
                try body(.body(UnsafeRawBufferPointer(rebasing: rest.prefix(count))))
                rest = rest.dropFirst(count)
                if state == .head { try body(.end) }
            case .chunk(let remaining):
                let count = Int(min(remaining, UInt64(rest.count)))
                state = remaining == UInt64(count) ? .chunkEnd : .chunk(remaining - UInt64(count))
                try body(.body(UnsafeRawBufferPointer(rebasing: rest.prefix(count))))
                rest = rest.dropFirst(count)
            case .chunkSize, .chunkEnd, .trailer:
                guard let end = rest.firstIndex(of: 0x0a) else {
                    held.append(contentsOf: rest)
                    guard held.count <= Self.lineLimit else { throw .malformed("A chunk's line is longer than 64 KiB") }
                    return
                }
                held.append(contentsOf: rest[rest.startIndex..<end])
                rest = rest[(end + 1)...]
                if held.last == 0x0d { held.removeLast() }
                try line(body)
                held.removeAll(keepingCapacity: true)
            case .untilClose:
                try body(.body(UnsafeRawBufferPointer(rebasing: rest)))
                return
            }
        }
    }

    /// The connection ended: true when that is a proper end (of a body delimited by close, or between answers).
    func isCompleteAtClose() -> Bool {
        switch state {
        case .untilClose: true
        case .head: held.isEmpty
        case .length, .chunkSize, .chunk, .chunkEnd, .trailer: false
        }
    }

    private mutating func line(_ body: (Part) throws(LoadtestError) -> Void) throws(LoadtestError) {
        switch state {
        case .chunkSize:
            var digits = held.prefix { $0 != UInt8(ascii: ";") }
            while digits.last == 0x20 || digits.last == 0x09 { digits.removeLast() }
            guard digits.count <= 15, let size = UInt64(String(decoding: digits, as: UTF8.self), radix: 16), digits.first != UInt8(ascii: "+") else {
                throw .malformed("A chunk's size is not a hexadecimal number")
            }
            state = size == 0 ? .trailer : .chunk(size)
        case .chunkEnd:
            guard held.isEmpty else { throw .malformed("A chunk is longer than its size says") }
            state = .chunkSize
        case .trailer:
            guard held.isEmpty else { return }
            state = .head
            try body(.end)
        case .head, .length, .chunk, .untilClose:
            preconditionFailure("only chunk framing is read line by line, not \(state)")
        }
    }

    /// Bytes up to and with the empty line that ends a head, when it is there and its length allowed.
    private static func headLength(_ bytes: Slice<UnsafeRawBufferPointer>) -> Int? {
        let bytes = UnsafeRawBufferPointer(rebasing: bytes.prefix(lineLimit))
        var start = 0
        while start < bytes.count, let found = memchr(bytes.baseAddress! + start, 0x0a, bytes.count - start) {
            let after = bytes.baseAddress!.distance(to: found) + 1
            if after < bytes.count, bytes[after] == 0x0a { return after + 1 }
            if after + 1 < bytes.count, bytes[after] == 0x0d, bytes[after + 1] == 0x0a { return after + 2 }
            start = after
        }
        return nil
    }

    private static func parsed(_ head: [UInt8]) throws(LoadtestError) -> (HTTPHead, State) {
        let parsed = head.withUnsafeBytes { bytes in Result { () throws(LoadtestError) in try parseHead(bytes) } }
        return try parsed.get()
    }

    /// Reads a head that is there as a whole, and says what follows it.
    private static func parseHead(_ bytes: UnsafeRawBufferPointer) throws(LoadtestError) -> (HTTPHead, State) {
        var rest = bytes[...]
        let first = takeLine(&rest)
        // "HTTP/1.1 200", and a space before the reason if there is one.
        guard first.count >= 12, first.prefix(7).elementsEqual("HTTP/1.".utf8), first[8] == 0x20, first.count == 12 || first[12] == 0x20,
            first[9..<12].allSatisfy({ (0x30...0x39).contains($0) })
        else {
            throw .malformed("An answer does not begin with an HTTP/1 status line")
        }
        let status = first[9..<12].reduce(0) { $0 * 10 + Int($1 - 0x30) }
        var keepAlive = first[7] != UInt8(ascii: "0")
        var length: UInt64?
        var chunked = false
        var isEventStream = false
        while !rest.isEmpty {
            let line = takeLine(&rest)
            if line.isEmpty { continue }
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { throw .malformed("A header line has no colon") }
            let name = UnsafeRawBufferPointer(rebasing: line[..<colon])
            // Most headers are none of these: what they say is not looked at.
            if name.isLike("content-length") {
                guard let number = UInt64(value(line, colon)) else { throw .malformed("Content-Length is not a number") }
                length = number
            } else if name.isLike("transfer-encoding") {
                chunked = value(line, colon).contains("chunked")
            } else if name.isLike("connection") {
                let value = value(line, colon)
                if value.contains("close") { keepAlive = false }
                if value.contains("keep-alive") { keepAlive = true }
            } else if name.isLike("content-type") {
                isEventStream = value(line, colon).hasPrefix("text/event-stream")
            }
        }
        let next: State
        if status < 200 || status == 204 || status == 304 {
            next = .head
        } else if chunked {
            next = .chunkSize
        } else if let length {
            next = length == 0 ? .head : .length(length)
        } else {
            next = .untilClose
            keepAlive = false
        }
        return (HTTPHead(status: status, keepAlive: keepAlive, isEventStream: isEventStream), next)
    }

    /// The bytes before the next end of line, which are taken away together with it.
    private static func takeLine(_ rest: inout Slice<UnsafeRawBufferPointer>) -> UnsafeRawBufferPointer {
        let end = rest.firstIndex(of: 0x0a) ?? rest.endIndex
        var line = rest[..<end]
        rest = rest[min(end + 1, rest.endIndex)...]
        if line.last == 0x0d { line = line.dropLast() }
        return UnsafeRawBufferPointer(rebasing: line)
    }

    /// A header's value in small letters, without the space around it.
    private static func value(_ line: UnsafeRawBufferPointer, _ colon: Int) -> String {
        var value = line[(colon + 1)...]
        while let first = value.first, first == 0x20 || first == 0x09 { value = value.dropFirst() }
        while let last = value.last, last == 0x20 || last == 0x09 { value = value.dropLast() }
        return String(decoding: value, as: UTF8.self).lowercased()
    }
}

extension UnsafeRawBufferPointer {
    /// Whether these are the letters of `name`, which has small ones, in any case.
    fileprivate func isLike(_ name: StaticString) -> Bool {
        guard count == name.utf8CodeUnitCount else { return false }
        for index in 0..<count {
            let byte = self[index]
            guard (0x41...0x5a).contains(byte) ? byte | 0x20 == name.utf8Start[index] : byte == name.utf8Start[index] else { return false }
        }
        return true
    }
}

extension [UInt8] {
    fileprivate func hasSuffix(_ suffix: [UInt8]) -> Bool { suffix.count <= count && self[(count - suffix.count)...].elementsEqual(suffix) }
}
