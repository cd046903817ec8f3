import NIOCore
import NIOEmbedded
import NIOHTTP1
import NotificationCore

@testable import API
@testable import Gateway
@testable import NotificationStore

/// Positions, cursors, ids, times, addresses, queries, and JSON itself.
extension Parser {
    private static func read(_ input: [UInt8], _ searched: Int = 0) -> PlainRequest.Reading {
        input.withUnsafeBufferPointer { PlainRequest.read($0, searched: searched, bound: 4096) }
    }

    static let core: [Parser] = [
        Parser("resume", words: ["-", "1-1", "0", "9223372036854775807"]) { input in
            let word = text(input)
            let header = ResumePoint(header: word, query: "1-1")
            switch header {
            case .fresh: throw Broken("a query was not looked at")
            case .malformed:
                try promise(StreamPosition(word) == nil, "a position was called malformed")
                return "malformed"
            case .after(let position):
                if word.isEmpty {
                    try promise(position == StreamPosition(epoch: 1, seq: 1), "the query was read as \(position)")
                    return "query"
                }
                try promise(position.description.utf8.elementsEqual(word.utf8), "\(position) has another spelling")
                try promise(position.epoch > 0 && position.seq >= 0, "\(position) cannot be")
                return "after"
            }
        },
        Parser("cursor", words: ["AQ", "Ag", "AA", "_", "-", "="], made: {
            InboxQuery.Order.allCases.flatMap { order in
                [0, 1, 77, Int64.max].map { Array(PageCursor.encode(InboxQuery.Cursor(unread: $0 == 1, seq: $0), order: order).utf8) }
            }
        }) { input in
            let word = text(input)
            var taken = 0
            for order in InboxQuery.Order.allCases {
                guard let cursor = PageCursor.decode(word, order: order) else { continue }
                taken += 1
                try promise(PageCursor.encode(cursor, order: order).utf8.elementsEqual(word.utf8), "a cursor has another spelling")
                try promise(cursor.seq >= 0, "a cursor at \(cursor.seq)")
            }
            try promise(taken <= 1, "a cursor of two orders")
            if let bytes = Base64Text.decode(word) { try promise(Base64Text.encode(bytes).utf8.elementsEqual(word.utf8), "base64 has another spelling") }
            return "\(taken)"
        },
        Parser("json", words: ["{\"a\":", "[", "]", "}", ",", ":", "\"", "\\u", "\\ud83d\\ude00", "true", "false", "null", "1e5", "-0", "1.0"]) { input in
            let value: JSONValue
            do throws(JSONError) { value = try JSONParser.parse(input) } catch {
                try promise(error.offset <= input.count, "an error behind the end")
                return refused(error.message)
            }
            let encoded = value.encoded
            try promise(!encoded.contains { $0 < 0x20 || $0 == 0x7F }, "a control character is written")
            try promise(try JSONParser.parse(encoded) == value, "what is written is read as something else")
            try promise(Self.depth(value) <= JSONParser.maximumDepth, "deeper than the bound")
            return "taken \(Self.kind(value))"
        },
        Parser("id", words: ["-", "0193", "7", "8"], made: { [Array(NotificationID.make().description.utf8)] }) { input in
            let word = text(input)
            var taken = ""
            if let id = NotificationID(word) {
                try promise(id.description.utf8.elementsEqual(word.lowercased().utf8), "an id has another spelling")
                taken += "uuid"
            }
            if let id = OpaqueID(word) {
                let scalars = id.value.unicodeScalars
                try promise((1...128).contains(scalars.count) && !scalars.contains { $0.properties.generalCategory == .control }, "an id that cannot be")
                taken += "opaque"
            }
            return taken
        },
        Parser("timestamp", words: ["T", "Z", "+", "-", ":", ".", "23:59:60", "02-29", "9999", "0001"]) { input in
            guard let time = Timestamp(text(input)) else { return "refused" }
            let written = time.description
            guard let again = Timestamp(written) else { throw Broken("\(written) is not read again") }
            try promise(again.microseconds == (time.microseconds - Self.modulo(time.microseconds, 1000)), "\(written) is another time")
            return "taken \(written.utf8.count)"
        },
        Parser("address", words: ["::", ":", ".", "/", "ffff", "64:ff9b::", "2002:", "127.0.0.1", "169.254.169.254", "%eth0", "0x7f"]) { input in
            let word = text(input)
            if let range = IPRange(word) {
                try promise(IPRange(range.description) == range, "\(range) is read as another range")
                try promise(range.contains(range.base), "\(range) does not hold its first")
            }
            guard let address = IPAddress(word) else { return IPRange(word) == nil ? "refused" : "range" }
            try promise(IPAddress(address.description) == address, "\(address) is read as another")
            let refusal = AddressGuard().refusal(of: address)
            if case .v4(let bits) = address {
                // However an IPv4 address is dressed, nothing is sent to it.
                for prefix: UInt128 in [0, 0xFFFF << 32, 0xFFFF << 48, 0x64_FF9B << 96] {
                    try promise(AddressGuard().refusal(of: .v6(prefix | UInt128(bits))) != nil, "\(address) within IPv6 is let through")
                }
                try promise(AddressGuard().refusal(of: .v6(0x2002 << 112 | UInt128(bits) << 80)) != nil, "\(address) by 6to4 is let through")
            }
            return refusal ?? "public"
        },
        Parser("query", words: ["&", "=", "%", "+", "limit=", "offset=", "after=", "status=unread", "order=newest", "since=", "customer_id=", "type="]) { input in
            let word = text(input)
            let query = Query(word)
            try promise(query.parameters.count <= word.utf8.count { $0 == UInt8(ascii: "&") } + 1, "more parameters than there are")
            let link = ListQuery.next(query, cursor: "x").utf8
            try promise(link.dropFirst().dropLast(13).allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: ">") && $0 != UInt8(ascii: "\"") }, "a link that breaks out")
            // From a query as from a body.
            var selector = "none"
            if (try? SelectorReader.selector(SelectorReader.json(query), isRest: { _ in false }, rest: "no")) != nil { selector = "selector" }
            do {
                let list = try ListQuery.parse(query, user: UserID("u")!, scope: nil, catalogue: Self.catalogue)
                try promise(ListQuery.limits.contains(list.limit) && ListQuery.offsets.contains(list.offset), "a page of \(list.limit) from \(list.offset)")
                try promise(list.after == nil || list.offset == 0, "a cursor and an offset")
                return "taken \(selector) \(list.status) \(list.order)"
            } catch let error as Problem {
                return refused("\(error.errors.first?.pointer.prefix(12) ?? "") \(error.errors.count)")
            }
        },
        Parser("path", words: ["/", "/v1", "/api", "/api/v1", "http://", "https://", "?", "#", "*", "%2F", "..", "//"]) { input in
            let word = text(input)
            guard let target = RequestTarget(word) else { return "refused" }
            try promise(!target.path.isEmpty && !target.path.utf8.contains(UInt8(ascii: "?")), "the path \(target.path)")
            let path = CanonicalPath(target.path)
            try promise(path.text == path.stripped || path.text.utf8.elementsEqual(("/v1" + path.stripped).utf8), "\(path)")
            return path.text == path.stripped ? "outside" : "of the service"
        },
        Parser("head", words: HTTPInputs.words + [
            "GET /a?b=c HTTP/1.1\r\n", "POST /v1/notifications/sse HTTP/1.1\r\n", "PATCH ", "DELETE ", "PUT ", "content-length: 0\r\n", "Content-Length: 12\r\n", "Content-Length: +1\r\n",
            "Authorization: Bearer x\r\n", "TE: trailers\r\n", "x:y\r\n", "x: \r\n", " x: y\r\n", "\r", "\n", ":", "http://a/", "#", "\u{7F}", "é",
        ]) { input in
            let reading = Self.read(input)
            // As it comes in pieces.
            var searched = 0
            var sofar: [UInt8] = []
            for piece in pieces(input) {
                sofar += piece
                guard case .more(let next) = Self.read(sofar, searched) else { break }
                try promise(next >= searched && next <= sofar.count, "searched \(next) of \(sofar.count)")
                searched = next
            }
            if sofar.count == input.count { try promise("\(Self.read(input, searched))" == "\(reading)", "in pieces it is something else") }
            switch reading {
            case .more: return "more"
            case .unusual: return "unusual"
            case .head(let head, let headBytes, let bodyBytes):
                // The library takes it for the same, and what follows for a request of its own.
                let body = Array((input[headBytes...] + [UInt8](repeating: UInt8(ascii: "a"), count: min(bodyBytes, 4096))).prefix(bodyBytes))
                guard body.count == bodyBytes else { return "large" }
                let channel = EmbeddedChannel(handler: ByteToMessageHandler(HTTPRequestDecoder()))
                defer { _ = try? channel.finish() }
                try channel.writeInbound(ByteBuffer(bytes: input[..<headBytes] + body + (head.isKeepAlive ? Array("GET /next HTTP/1.1\r\n\r\n".utf8) : [])))
                guard case .head(let other)? = try channel.readInbound(as: HTTPServerRequestPart.self) else { throw Broken("the library sees no head") }
                try promise(other.method == head.method && other.uri == head.uri && other.version == head.version && other.isKeepAlive == head.isKeepAlive, "\(other) for \(head)")
                try promise(zip(other.headers, head.headers).allSatisfy { $0 == $1 } && Array(other.headers).count == Array(head.headers).count, "\(other.headers) for \(head.headers)")
                var read: [UInt8] = []
                while let part = try channel.readInbound(as: HTTPServerRequestPart.self) {
                    if case .body(let bytes) = part { read += Array(buffer: bytes) } else { break }
                }
                try promise(read == body, "\(read.count) bytes of \(bodyBytes)")
                guard head.isKeepAlive else { return "taken, the last one" }
                guard case .head(let next)? = try channel.readInbound(as: HTTPServerRequestPart.self) else { throw Broken("the next request is not seen") }
                try promise(next.uri == "/next", next.uri)
                return "taken \(head.method) \(min(Array(head.headers).count, 4)) \(bodyBytes > 0)"
            }
        },
        Parser("traceparent", words: ["00-", "ff-", "-01", "-00", "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"]) { input in
            guard let context = TraceContext(parent: text(input)) else { return "refused" }
            try promise(context.header.utf8.count == 55 && TraceContext(parent: context.header)?.traceID == context.traceID, context.header)
            return "taken \(context.isSampled)"
        },
        Parser("template", words: ["{{", "}}", "{{{", "}}}", "{{#a}}", "{{/a}}", "{{^a}}", "{{!", "{{.}}", "{{a.b}}", "{{>", "{{=", "\n---\n", "{\"a\":[1,2]}"], cost: 4) { input in
            let parts = text(input).split(separator: "\n---\n", maxSplits: 1, omittingEmptySubsequences: false)
            let given = parts.count > 1 ? try? JSONParser.parse(Array(parts[1].utf8)) : nil
            let data = given ?? .object([("a", .array([.object([("b", .string("<x>\"&"))]), .number("2")])), ("c", .bool(true)), ("d", .string("\u{202E}d\u{0}"))])
            var outcome = ""
            for kind in [TextTemplate.Kind.line, .text, .html, .link] {
                do {
                    let template = try TextTemplate(String(parts[0]), kind: kind)
                    do {
                        let made = try template.render(data, limit: 500)
                        try promise(made.unicodeScalars.count <= 500, "a text of \(made.unicodeScalars.count)")
                        try promise(!made.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" && $0 != "\t" }, "a control character")
                        outcome += "made "
                    } catch is TextTemplate.TooLarge { outcome += "too large " }
                } catch let error as TextTemplate.SyntaxError { outcome += refused(error.detail.prefix(24)) }
            }
            return outcome
        },
    ]

    private static func depth(_ value: JSONValue) -> Int {
        switch value {
        case .array(let values): 1 + (values.map { self.depth($0) }.max() ?? 0)
        case .object(let members): 1 + (members.map { self.depth($0.value) }.max() ?? 0)
        case .null, .bool, .number, .string: 0
        }
    }

    private static func kind(_ value: JSONValue) -> String {
        switch value {
        case .null: "null"
        case .bool: "bool"
        case .number(let digits): "number \(digits.contains("."))\(digits.contains("e"))"
        case .string: "string"
        case .array(let values): "array \(min(values.count, 3)) \(self.depth(value))"
        case .object(let members): "object \(min(members.count, 3)) \(self.depth(value))"
        }
    }

    private static func modulo(_ value: Int64, _ divisor: Int64) -> Int64 { (value % divisor + divisor) % divisor }
}
