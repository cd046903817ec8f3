import NIOCore
import NotificationCore
import Testing

@testable import Edge

@Suite("the stream's events in the form of other transports")
struct TranslationTests {
    private static let created = #"{"id":"n","title":"a\nb","unread":4}"#
    private static let blocks: [(block: String, json: String, packet: String)] = [
        (
            "id: 1-2\ndata: \(created)\n\n", #"{"event":"notification","id":"1-2","data":{"id":"n","title":"a\nb","unread":4}}"#,
            #"42["notification",{"id":"n","title":"a\nb","unread":4,"last_event_id":"1-2"}]"#
        ),
        (
            "event: update\nid: 1-3\ndata: {\"seq\":3}\n\n", #"{"event":"update","id":"1-3","data":{"seq":3}}"#,
            #"42["notification:update",{"seq":3,"last_event_id":"1-3"}]"#
        ),
        (
            "event: delete\nid: 1-4\ndata: {\"seq\":4}\n\n", #"{"event":"delete","id":"1-4","data":{"seq":4}}"#,
            #"42["notification:delete",{"seq":4,"last_event_id":"1-4"}]"#
        ),
        (
            "event: read_all\nid: 1-5\ndata: {\"seq\":5}\n\n", #"{"event":"read_all","id":"1-5","data":{"seq":5}}"#,
            #"42["notification:read_all",{"seq":5,"last_event_id":"1-5"}]"#
        ),
        ("id: 1-6\n\n", #"{"event":"position","id":"1-6","data":{"last_event_id":"1-6"}}"#, #"42["position",{"last_event_id":"1-6"}]"#),
        ("data: {\"ephemeral\":true}\n\n", #"{"event":"notification","id":null,"data":{"ephemeral":true}}"#, #"42["notification",{"ephemeral":true}]"#),
        (
            "event: resync\nid: 2-7\ndata: {\"last_event_id\":\"2-7\"}\n\n", #"{"event":"resync","id":"2-7","data":{"last_event_id":"2-7"}}"#,
            #"42["resync",{"last_event_id":"2-7"}]"#
        ),
        (
            "retry: 900\nevent: close\ndata: {\"reason\":\"evicted\"}\n\n", #"{"event":"close","id":null,"data":{"reason":"evicted","retry":900}}"#,
            #"42["close",{"reason":"evicted","retry":900}]"#
        ),
        (
            "retry: 800\nevent: ready\nid: 1-1\ndata: {\"last_event_id\":\"1-1\"}\n\n",
            #"{"event":"ready","id":"1-1","data":{"last_event_id":"1-1","retry":800}}"#, #"42["ready",{"last_event_id":"1-1","retry":800}]"#
        ),
    ]

    private static func text(_ blocks: String, _ form: MessageForm) -> String { String(buffer: Translations.make(ByteBuffer(string: blocks), form).bytes) }

    /// As a server's frames.
    private static func frames(_ messages: [String]) -> String { String(buffer: messages.reduce(into: ByteBuffer()) { WebSocketFrame.write(.text, $1.utf8, to: &$0) }) }

    @Test("each event, alone")
    func each() {
        for (block, json, packet) in Self.blocks {
            #expect(Self.text(block, .webSocket) == Self.frames([json]))
            #expect(Self.text(block, .enginePolling) == packet)
            #expect(Self.text(block, .engineWebSocket) == Self.frames([packet]))
        }
    }

    @Test("all in one piece, with comments in between")
    func all() {
        let blocks = Self.blocks.map(\.block).joined(separator: ": ping\n\n")
        #expect(Self.text(blocks, .webSocket) == Self.frames(Self.blocks.map(\.json)))
        #expect(Self.text(blocks, .enginePolling) == Self.blocks.map(\.packet).joined(separator: "\u{1E}"))
        #expect(Translations.make(ByteBuffer(string: blocks), .webSocket).events == Self.blocks.count)
        // An answer says by itself where it stands.
        let shown = Self.blocks.filter { !$0.json.contains("\"ready\"") && !$0.json.contains("\"position\"") }
        #expect(Self.text(blocks, .list) == shown.map(\.json).joined(separator: ","))
        #expect(Translations.make(ByteBuffer(string: blocks), .list).events == shown.count)
    }

    @Test("what the stream's own frames hold comes through, whatever the text")
    func frames() throws {
        var bytes: [UInt8] = []
        StreamFrame.appendReady(
            retryMilliseconds: 700, position: StreamPosition(epoch: 3, seq: 9), connection: "a\"\\\n\u{1E}b", unread: 1, unseen: 2, node: "n", to: &bytes)
        let json = try JSONParser.parse(Array(Self.text(String(decoding: bytes, as: UTF8.self), .enginePolling).utf8.dropFirst(2)))
        guard case .array(let parts) = json else {
            Issue.record("no array")
            return
        }
        #expect(parts.first == .string("ready"))
        #expect(parts.last?["connection_id"] == .string("a\"\\\n\u{1E}b"))
        #expect(parts.last?["retry"] == .number("700"))
        // A record separator in a text would end its packet.
        #expect(!Self.text(String(decoding: bytes, as: UTF8.self), .enginePolling).contains("\u{1E}"))
    }

    @Test("connections that are told the same share one translation, and others do not get it")
    func memory() {
        var translations = Translations()
        let (one, other) = (ByteBuffer(string: Self.blocks[0].block), ByteBuffer(string: Self.blocks[1].block))
        for _ in 0..<10 {
            let json = translations.translate(one, into: .webSocket).bytes
            #expect(json == WebSocketFrame.make(.text, Self.blocks[0].json.utf8))
            #expect(String(buffer: translations.translate(one, into: .enginePolling).bytes) == Self.blocks[0].packet)
        }
        #expect(translations.made == 2)
        #expect(translations.translate(other, into: .webSocket).bytes == WebSocketFrame.make(.text, Self.blocks[1].json.utf8))
        #expect(translations.translate(one, into: .webSocket).bytes == WebSocketFrame.make(.text, Self.blocks[0].json.utf8))
        translations.forget()
        #expect(translations.translate(one, into: .webSocket).bytes == WebSocketFrame.make(.text, Self.blocks[0].json.utf8))
        #expect(translations.made == 5)
    }
}
