import NIOCore
import NotificationCore

@testable import Edge
@testable import RedisClient

/// What comes over WebSockets, Engine.IO, Socket.IO and from Redis.
extension Parser {
    /// A frame as a client sends it.
    private static func frame(_ first: UInt8, _ payload: [UInt8], mask: [UInt8] = [1, 2, 3, 4]) -> [UInt8] {
        var bytes: [UInt8] = [first]
        switch payload.count {
        case ...125: bytes.append(0x80 | UInt8(payload.count))
        case ...0xFFFF: bytes += [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
        default: bytes += [0x80 | 127] + (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
        }
        return bytes + mask + payload.enumerated().map { $1 ^ mask[$0 & 3] }
    }

    private static let moment = Timestamp(microseconds: 1_795_602_600_123_456)

    private static func changes() -> [InboxChange] {
        InboxChange.Kind.allCases.enumerated().map { index, kind in
            InboxChange(
                seq: 100 + Int64(index), kind: kind, notification: index < 3 ? NotificationID(high: 1, low: 2) : nil, unread: 4, unseen: 2, customer: index % 2 == 0 ? "c 🚢" : nil,
                customerUnread: 3, customerUnseen: -1, customerCounts: index % 3 == 0 ? "{\"c\":[3,1]}" : nil, type: "chat", upToSeq: 40, body: Array("\"title\":\"x\"".utf8))
        }
    }

    static let transports: [Parser] = [
        Parser("websocket", made: {
            let texts = ["", "a", "{\"x\":1}", String(repeating: "ü", count: 100), String(repeating: "x", count: 5000), String(repeating: "y", count: 70_000)].map { Array($0.utf8) }
            return texts.flatMap { [Self.frame(0x81, $0), Self.frame(0x01, $0) + Self.frame(0x89, [1]) + Self.frame(0x80, $0), Self.frame(0x82, $0)] }
                + [Self.frame(0x88, [3, 0xE8, 0x61]), Self.frame(0x88, []), Self.frame(0x8A, [1]), Self.frame(0xC1, [1]), Self.frame(0x8B, []), Self.frame(0x88, [1])]
        }) { input in
            let bound = 4096
            func read(_ parts: [[UInt8]]) -> [WebSocketReader.Reading] {
                var (reader, readings) = (WebSocketReader(bound: bound), [WebSocketReader.Reading]())
                for part in parts {
                    reader.feed(ByteBuffer(bytes: part))
                    while true {
                        let reading = reader.next()
                        if reading == .incomplete { break }
                        readings.append(reading)
                    }
                }
                return readings
            }
            let (whole, cut) = (read([input]), read(pieces(input)))
            try promise(whole == cut, "in one piece \(whole), in several \(cut)")
            for reading in whole {
                switch reading {
                case .message(.text(let bytes)):
                    try promise(bytes.readableBytes <= bound && String(validating: bytes.readableBytesView, as: UTF8.self) != nil, "a text past its bound, or none")
                    // What is written is read as what it was.
                    var frame = Self.frame(0x81, Array(bytes.readableBytesView))
                    let written = Array(WebSocketFrame.make(.text, bytes.readableBytesView).readableBytesView)
                    frame[1] &= 0x7F
                    try promise(written.starts(with: frame.prefix(written.count - bytes.readableBytes)), "a frame's head")
                case .message(.binary(let bytes)): try promise(bytes.readableBytes <= bound, "a message past its bound")
                case .message(.ping(let bytes)): try promise(bytes.readableBytes <= 125, "a ping past its bound")
                case .message(.pong), .message(.close), .failed: break
                case .incomplete: throw Broken("nothing was read, and taken for something")
                }
            }
            return whole.prefix(4).map { String("\($0)".prefix(14)) }.joined(separator: " ")
        },
        Parser("engine", words: ["\u{1E}", "0", "1", "2probe", "3", "4", "5", "6", "40", "40{}", "42[\"a\"]", "41", "b4AQ=="]) { input in
            let bytes = ByteBuffer(bytes: input)
            let parts = EnginePacket.split(bytes)
            try promise(Array(parts.map { Array($0.readableBytesView) }.joined(separator: [EnginePacket.separator])) == input, "the parts are not the whole")
            var polling = EngineMachine(isWebSocket: false, now: 0)
            let (isTaken, actions) = polling.posted(bytes, now: 1)
            try promise(isTaken == (EnginePacket.payload(bytes) != nil), "a payload that is none was taken")
            let ends = actions.filter { if case .end = $0 { true } else { false } }.count
            try promise(ends <= 1 && (ends == 0) == polling.isOpen, "\(ends) ends")
            var socket = EngineMachine(isWebSocket: true, now: 0)
            _ = socket.received(bytes, now: 1)
            var upgrading = EngineMachine(isWebSocket: false, now: 0)
            _ = upgrading.candidateOpened(now: 0)
            for part in parts.prefix(10) { _ = upgrading.candidateReceived(part, now: 1) }
            let kinds = (EnginePacket.payload(bytes) ?? []).prefix(4).map { String("\($0)".prefix(4)) }
            return "\(isTaken) \(kinds) \(socket.isOpen) \(upgrading.form)"
        },
        Parser("socketio", words: ["0", "1", "2", "3", "4", "5", "/", ",", "{\"token\":\"x\"}", "[\"a\"]", "/admin,", "{\"last_event_id\":\"1-1\"}"]) { input in
            let packet = SocketPacket(ByteBuffer(bytes: input))
            if case .connect(let namespace, let auth)? = packet {
                try promise(namespace.utf8.first == UInt8(ascii: "/"), "the namespace \(namespace)")
                if let auth { try promise(auth.encoded.first == UInt8(ascii: "{"), "auth is no object") }
                // What is answered to it is one packet on one line.
                let answer = SocketPacket.refused(namespace: namespace, message: "no")
                try promise(answer.count < input.count * 3 + 64, "an answer that is far longer than its request")
                return "connect \(namespace == "/") \(auth != nil)"
            }
            return String("\(packet.map { "\($0)" } ?? "none")".prefix(10))
        },
        Parser("envelope", made: {
            let all = Self.changes()
            return [all, [all[0]], Array(all[3...])].map { Envelope.encode($0, epoch: 9, committedAt: Self.moment, place: LogPosition(timeline: 3, lsn: 77)) }
        }) { input in
            guard let envelope = input.withUnsafeBytes({ Envelope($0) }) else { return "refused" }
            var end = envelope.changes[0].frame.lowerBound
            for change in envelope.changes {
                try promise(change.frame.lowerBound == end && change.frame.upperBound <= input.count && change.unreadOffset <= change.frame.count, "\(change.frame) of \(input.count)")
                end = change.frame.upperBound
                // As an edge does for its other transports.
                let frame = ByteBuffer(bytes: input[change.frame])
                for form in MessageForm.allCases { _ = Translations.make(frame, form) }
            }
            try promise(end == input.count && envelope.first > 0 && envelope.last >= envelope.first, "\(envelope.first) to \(envelope.last)")
            return "taken \(min(envelope.changes.count, 9)) \(envelope.place != nil)"
        },
        Parser("direct", made: {
            [nil, CustomerID("c"), CustomerID("ü🚢")].map {
                let subject = DirectEnvelope.Subject(type: "chat", event: $0?.value, isRequired: $0 == nil)
                return DirectEnvelope.encode(frame: Array("data: {}\n\n".utf8), customer: $0, subject: subject, sentAt: Self.moment)
            } + [DirectEnvelope.known]
        }) { input in
            guard let envelope = input.withUnsafeBytes({ DirectEnvelope($0) }) else { return "refused" }
            try promise((16..<input.count).contains(envelope.frameOffset), "a frame at \(envelope.frameOffset) of \(input.count)")
            try promise(!input.withUnsafeBytes { DirectEnvelope.saysKnown($0) }, "an event is taken for something else")
            let subject = input.withUnsafeBytes { envelope.subject(in: $0) }
            // What is not UTF-8 is mended when it is read.
            let isWhole = !"\(subject)".unicodeScalars.contains("\u{FFFD}")
            if isWhole, let customer = envelope.customer.flatMap({ CustomerID($0) }) {
                let again = DirectEnvelope.encode(frame: Array(input[envelope.frameOffset...]), customer: customer, subject: subject, sentAt: envelope.sentAt)
                try promise(again == input, "what is read is written as something else")
            }
            return "taken \(envelope.customer != nil)"
        },
        Parser("blocks", words: ["event: ", "data: ", "id: ", "retry: ", ": ping", "\n", "\n\n", "{}", "1-1", ":", "ready", "update"]) { input in
            let bytes = ByteBuffer(bytes: input)
            var counts: [Int] = []
            for form in MessageForm.allCases {
                let made = Translations.make(bytes, form)
                counts.append(made.events)
                try promise(made.events <= input.count && made.bytes.readableBytes <= 64 + input.count * 3 + made.events * 96, "\(made.bytes.readableBytes) bytes of \(input.count)")
            }
            try promise(Set(counts.dropFirst()).count == 1 && counts[0] <= counts[1], "\(counts) events")
            return "\(counts.map { min($0, 4) })"
        },
        Parser("resp", words: ["\r\n", "*1\r\n", "*-1\r\n", "$1\r\n", "$-1\r\n", ":1\r\n", "+OK\r\n", "-ERR x\r\n", "*2\r\n", "$3\r\nabc\r\n"]) { input in
            // A server that claims more elements than there is memory is no server: the parser of hiredis believes it.
            if Self.claimsMany(input) { return "left out" }
            let (whole, cut) = (Self.replies([input], bound: 1 << 20), Self.replies(pieces(input), bound: 1 << 20))
            try promise(whole.values == cut.values && (whole.failure == nil) == (cut.failure == nil), "in one piece \(whole), in several \(cut)")
            let bounded = Self.replies(pieces(input), bound: 1024).values
            try promise(bounded.elementsEqual(whole.values.prefix(bounded.count)) && bounded.allSatisfy { ($0.bytes?.readableBytes ?? 0) <= 1024 + 4096 }, "a reply past the bound")
            return "\(whole.values.prefix(3).map { String("\($0)".prefix(6)) }) \(whole.failure.map { String($0.prefix(40)) } ?? "")"
        },
    ]

    private static func replies(_ parts: [[UInt8]], bound: Int) -> (values: [RedisValue], failure: String?) {
        var reader = ReplyReader(maximumReplyBytes: bound)
        var values: [RedisValue] = []
        for part in parts {
            do throws(RedisError) {
                try reader.feed(ByteBuffer(bytes: part)) { view throws(RedisError) in values.append(try view.value()) }
            } catch { return (values, error.message) }
        }
        return (values, nil)
    }

    private static func claimsMany(_ input: [UInt8]) -> Bool {
        var digits: Int?
        for byte in input {
            if "*%~>|".utf8.contains(byte) {
                digits = 0
            } else if let count = digits {
                digits = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) ? count + 1 : nil
                if count > 5 { return true }
            }
        }
        return false
    }
}
