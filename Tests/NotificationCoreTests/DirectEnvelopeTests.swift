import NotificationCore
import Testing

@Suite("direct events on their way")
struct DirectEnvelopeTests {
    private static let frame = Array("data: {}\n\n".utf8)
    private static let subject = DirectEnvelope.Subject(type: "chat", event: "message_received", isRequired: false)
    private static let at = Timestamp(microseconds: 1_795_000_000_123_456)

    @Test("a message comes out as it went in", arguments: [nil, "", "k", "ü{}%", String(repeating: "🔔", count: 128)] as [String?])
    func roundTrip(_ customer: String?) throws {
        let id = customer.flatMap { CustomerID($0) }
        for event in [nil, "ë", customer] {
            let subject = DirectEnvelope.Subject(type: "chat", event: event, isRequired: event == nil)
            let bytes = DirectEnvelope.encode(frame: Self.frame, customer: id, subject: subject, sentAt: Self.at)
            let read = try #require(bytes.withUnsafeBytes { DirectEnvelope($0) })
            #expect(read.customer == id?.value)
            #expect(bytes.withUnsafeBytes { read.subject(in: $0) } == subject)
            #expect(read.sentAt == Self.at)
            #expect(Array(bytes[read.frameOffset...]) == Self.frame)
        }
    }

    @Test("that something is kept of a user is no event")
    func known() {
        let other = DirectEnvelope.encode(frame: Self.frame, customer: nil, subject: Self.subject, sentAt: Self.at)
        #expect(DirectEnvelope.known.withUnsafeBytes { DirectEnvelope.saysKnown($0) })
        #expect(DirectEnvelope.known.withUnsafeBytes { DirectEnvelope($0) } == nil)
        #expect(DirectEnvelope.known.withUnsafeBytes { Envelope($0) } == nil)
        for bytes in [[], other, DirectEnvelope.known + [0]] { #expect(!bytes.withUnsafeBytes { DirectEnvelope.saysKnown($0) }) }
    }

    @Test("what is cut off or of another kind is nothing")
    func cutOff() {
        let bytes = DirectEnvelope.encode(frame: Self.frame, customer: CustomerID("customer"), subject: Self.subject, sentAt: Self.at)
        for count in 0...(bytes.count - Self.frame.count) { #expect(Array(bytes[..<count]).withUnsafeBytes { DirectEnvelope($0) } == nil, "\(count) bytes") }
        #expect(([Envelope.version] + bytes.dropFirst()).withUnsafeBytes { DirectEnvelope($0) } == nil)
        #expect(bytes.withUnsafeBytes { Envelope($0) } == nil)
    }

    @Test("its frame has neither id nor number nor count, and says that it passes by")
    func frame() throws {
        let json = try JSONParser.parse(Array("{\"broadcast\":true,\"title\":\"Maintenance\\r\\nat noon\"}".utf8))
        let catalogue = try Catalogue([])
        let request = try NotifyRequest(json: json, kind: .direct, catalogue: catalogue, now: Self.at)
        #expect(request.broadcast)
        #expect(request.users.isEmpty)
        var bytes: [UInt8] = []
        StreamFrame.appendDirect(id: NotificationID.make(), request, createdAt: Self.at, to: &bytes)
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.hasPrefix("data: {"))
        #expect(text.hasSuffix("}\n\n"))
        #expect(text.dropLast(2).allSatisfy { !$0.isNewline })
        let event = try JSONParser.parse(Array(text.dropFirst(6).dropLast(2).utf8))
        #expect(event["ephemeral"] == .bool(true))
        #expect(event["seq"] == nil)
        #expect(event["unread"] == nil)
        #expect(event["level"] == .string("INFO"))
    }
}
