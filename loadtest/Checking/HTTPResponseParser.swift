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
                // Byte by byte only here: a head comes once per answer.
                let byte = rest.removeFirst()
                held.append(byte)
                guard held.count <= Self.lineLimit else { throw .malformed("The head of an answer is longer than 64 KiB") }
                guard byte == 0x0a, held.hasSuffix([0x0d, 0x0a, 0x0d, 0x0a]) || held.hasSuffix([0x0a, 0x0a]) else { continue }
                let (head, next) = try parseHead()
                held.removeAll(keepingCapacity: false)
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

    private func parseHead() throws(LoadtestError) -> (HTTPHead, State) {
        let text = String(decoding: held, as: UTF8.self)
        var lines = text.split(omittingEmptySubsequences: true, whereSeparator: \.isNewline)
        let words = lines.isEmpty ? [] : lines.removeFirst().split(separator: " ", maxSplits: 2)
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), words[1].utf8.count == 3, let status = Int(words[1]) else {
            throw .malformed("An answer does not begin with an HTTP/1 status line")
        }
        var keepAlive = words[0] != "HTTP/1.0"
        var length: UInt64?
        var chunked = false
        var isEventStream = false
        for line in lines {
            guard let colon = line.firstIndex(of: ":") else { throw .malformed("A header line has no colon") }
            let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }.lowercased()
            switch line[..<colon].lowercased() {
            case "content-length":
                guard let number = UInt64(value.filter { $0 != " " }) else { throw .malformed("Content-Length is not a number") }
                length = number
            case "transfer-encoding": chunked = value.contains("chunked")
            case "connection":
                if value.contains("close") { keepAlive = false }
                if value.contains("keep-alive") { keepAlive = true }
            case "content-type": isEventStream = value.hasPrefix("text/event-stream")
            default: break
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
}

extension [UInt8] {
    fileprivate func hasSuffix(_ suffix: [UInt8]) -> Bool { suffix.count <= count && self[(count - suffix.count)...].elementsEqual(suffix) }
}
