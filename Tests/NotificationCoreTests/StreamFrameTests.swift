import NotificationCore
import Testing

@Suite("frames of the stream")
struct StreamFrameTests {
    /// One event as a client reads it: by the rules of WHATWG HTML 9.2.6, less those for what this service never writes.
    struct Event {
        var name = "message"
        var id: String?
        var retry: String?
        var data: [String] = []

        init(_ bytes: [UInt8]) throws {
            let text = try #require(String(validating: bytes, as: UTF8.self))
            try #require(text.unicodeScalars.last == "\n")
            var lines = text.unicodeScalars.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r" }.map { String($0) }
            try #require(lines.suffix(2) == ["", ""])
            lines.removeLast(2)
            for line in lines {
                let parts = line.split(separator: ":", maxSplits: 1).map(String.init)
                try #require(parts.count == 2)
                try #require(parts[1].hasPrefix(" "))
                let value = String(parts[1].dropFirst())
                switch parts[0] {
                case "event": self.name = value
                case "id": self.id = value
                case "retry": self.retry = value
                case "data": self.data.append(value)
                default: Issue.record("a field named \(parts[0])")
                }
            }
        }

        func json() throws -> JSONValue {
            try #require(self.data.count == 1)
            return try JSONParser.parse(Array(self.data[0].utf8))
        }
    }

    static func frame(_ change: InboxChange) -> (bytes: [UInt8], unread: Int) {
        // Something stands before it: the offset counts from the frame.
        var bytes: [UInt8] = Array("before".utf8)
        let unread = StreamFrame.append(change, epoch: 3, to: &bytes)
        return (Array(bytes.dropFirst(6)), unread)
    }

    @Test(
        "each kind of change has its event",
        arguments: [
            (.created, "message"), (.updated, "update"), (.deleted, "delete"), (.expired, "delete"), (.replaced, "delete"), (.readAll, "read_all"), (.seenAll, "update"),
        ] as [(InboxChange.Kind, String)])
    func kinds(_ kind: InboxChange.Kind, _ name: String) throws {
        let event = try Event(Self.frame(Examples.change(kind)).bytes)
        #expect(event.name == name)
        #expect(event.id == "3-42")
        let json = try event.json()
        #expect(json["seq"] == .number("42"))
        #expect(json["unread"] == .number("4"))
    }

    @Test("a frame stands on the socket exactly so")
    func exact() throws {
        #expect(
            String(decoding: Self.frame(try Examples.change(.deleted)).bytes, as: UTF8.self)
                == "event: delete\nid: 3-42\ndata: {\"id\":\"01934567-89ab-7cde-8123-456789abcdef\",\"seq\":42,\"unread\":4}\n\n")
        #expect(
            String(decoding: Self.frame(InboxChange(seq: 7, kind: .readAll, unread: 0, unseen: 0)).bytes, as: UTF8.self)
                == "event: read_all\nid: 3-7\ndata: {\"seq\":7,\"unread\":0}\n\n")
        #expect(
            String(decoding: Self.frame(InboxChange(seq: 7, kind: .readAll, unread: 1, unseen: 0, customer: "", type: "chat", upToSeq: 5)).bytes, as: UTF8.self)
                == "event: read_all\nid: 3-7\ndata: {\"seq\":7,\"customer_id\":null,\"type\":\"chat\",\"up_to_seq\":5,\"unread\":1}\n\n")
        #expect(
            String(decoding: Self.frame(InboxChange(seq: 7, kind: .seenAll, unread: 2, unseen: 0)).bytes, as: UTF8.self)
                == "event: update\nid: 3-7\ndata: {\"seq\":7,\"all\":true,\"seen\":true,\"unseen\":0,\"unread\":2}\n\n")
    }

    @Test("a notification is shown whole, with its state")
    func whole() throws {
        let created = try Event(Self.frame(Examples.change(.created)).bytes).json()
        guard case .object(let members) = created else {
            Issue.record("not an object")
            return
        }
        #expect(
            members.map(\.name) == [
                "id", "seq", "type", "event", "level", "priority", "title", "content", "link_url", "link_text", "customer_id", "rec_type", "rec_id", "data", "created_at",
                "expires_at", "read", "read_at", "seen", "archived", "unread",
            ])
        #expect(created["read"] == .bool(false))
        #expect(created["read_at"] == .null)
        let updated = try Event(Self.frame(Examples.change(.updated)).bytes).json()
        #expect(updated["read"] == .bool(true))
        #expect(updated["seen"] == .bool(true))
        #expect(updated["archived"] == .bool(false))
        #expect(updated["read_at"] == .string("2026-11-25T10:30:00.123Z"))
    }

    @Test("no text breaks a line or a field", arguments: Examples.awkward)
    func lines(_ text: String) throws {
        for kind in InboxChange.Kind.allCases {
            let frame = Self.frame(try Examples.change(kind, text: text)).bytes
            #expect(!frame.contains { $0 == 0 || $0 == UInt8(ascii: "\r") })
            _ = try Event(frame).json()
        }
        var bytes: [UInt8] = []
        let position = StreamPosition(epoch: 1, seq: 41)
        StreamFrame.appendReady(retryMilliseconds: 1327, position: position, connection: text, unread: 3, unseen: 1, node: text, to: &bytes)
        let ready = try Event(bytes)
        #expect(ready.name == "ready" && ready.id == "1-41" && ready.retry == "1327")
        #expect(
            try ready.json()
                == .object([
                    ("connection_id", .string(text)), ("unread", .number("3")), ("unseen", .number("1")), ("last_event_id", .string("1-41")), ("node", .string(text)),
                ]))
        bytes = []
        StreamFrame.appendAuthExpiring(expiresAt: Examples.moment, connection: text, to: &bytes)
        let expiring = try Event(bytes)
        #expect(expiring.name == "auth_expiring" && expiring.id == nil)
        #expect(try expiring.json() == .object([("expires_at", .string("2026-11-25T10:30:00.123Z")), ("connection_id", .string(text))]))
    }

    @Test("what follows the returned offset is the unread count and the end", arguments: InboxChange.Kind.allCases)
    func unreadOffset(_ kind: InboxChange.Kind) throws {
        for unread in [Int32(0), 4, 1000, .max] {
            var change = try Examples.change(kind, text: ",\"unread\":9}\n\n")
            change.unread = unread
            let frame = Self.frame(change)
            #expect(Array(frame.bytes[frame.unread...]) == Array("\(unread)}\n\n".utf8))
            #expect(String(decoding: frame.bytes[..<frame.unread], as: UTF8.self).hasSuffix(",\"unread\":"))
        }
    }

    @Test("a creation or an update of a notification that is gone is shown as its deletion", arguments: [InboxChange.Kind.created, .updated])
    func gone(_ kind: InboxChange.Kind) throws {
        let event = try Event(Self.frame(Examples.change(kind, gone: true)).bytes)
        #expect(event.name == "delete")
        #expect(event.id == "3-42")
        #expect(try event.json() == .object([("id", .string(Examples.id.description)), ("seq", .number("42")), ("unread", .number("4"))]))
    }

    @Test("the other events")
    func others() throws {
        let position = StreamPosition(epoch: 2, seq: 5)
        var bytes: [UInt8] = []
        StreamFrame.appendPosition(position, to: &bytes)
        #expect(bytes == Array("id: 2-5\n\n".utf8))
        bytes = []
        StreamFrame.appendResync(position: position, unread: 8, to: &bytes)
        #expect(bytes == Array("event: resync\nid: 2-5\ndata: {\"last_event_id\":\"2-5\",\"unread\":8}\n\n".utf8))
        for reason in StreamFrame.CloseReason.allCases {
            bytes = []
            StreamFrame.appendClose(reason, retryMilliseconds: 60_000, to: &bytes)
            #expect(bytes == Array("retry: 60000\nevent: close\ndata: {\"reason\":\"\(reason.rawValue)\"}\n\n".utf8))
        }
        #expect(StreamFrame.CloseReason.allCases.map(\.rawValue) == ["evicted", "token_expired", "draining", "stalled", "disconnected"])
        #expect(StreamFrame.ping == Array(": ping\n\n".utf8))
    }

    @Test("a notification's JSON is an object, with a number or without", arguments: Examples.awkward)
    func notification(_ text: String) throws {
        let body = try Examples.body(text)
        for raw in Int16(0)..<8 {
            let state = InboxChange.State(rawValue: raw)
            var bytes: [UInt8] = []
            NotificationJSON.append(id: Examples.id, seq: raw == 0 ? nil : 7, body: body, state: state, readAt: state.contains(.read) ? Examples.moment : nil, to: &bytes)
            let value = try JSONParser.parse(bytes)
            #expect(value["id"] == .string(Examples.id.description))
            #expect(value["seq"] == (raw == 0 ? .null : .number("7")))
            #expect(value["read"] == .bool(state.contains(.read)))
            #expect(value["seen"] == .bool(state.contains(.seen)))
            #expect(value["archived"] == .bool(state.contains(.archived)))
            #expect(value["content"] == .string(TextRules.clean(text, multiline: true)))
        }
    }
}
