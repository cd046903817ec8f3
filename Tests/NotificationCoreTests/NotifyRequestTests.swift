import NotificationCore
import Testing

@Suite("requests to notify")
struct NotifyRequestTests {
    static let now = Timestamp("2026-11-21T10:30:00Z")!

    static func catalogue() throws -> Catalogue {
        try Catalogue([
            .init(
                name: "chat", aliases: ["chats"], defaults: .init(level: .success, priority: .high, channels: [.inApp, .email]),
                events: [
                    "message_received": .init(title: "New message", level: .warning, priority: .urgent, channels: [.inApp, .sms]), "typing": .init(),
                ]),
            .init(name: "WARNING"),
        ])
    }

    static func request(_ json: String) throws -> NotifyRequest {
        try NotifyRequest(json: try JSONTests.parse(json), catalogue: try Self.catalogue(), now: Self.now)
    }

    static func errors(_ json: String) throws -> ValidationError {
        let value = try JSONTests.parse(json)
        let catalogue = try Self.catalogue()
        do throws(ValidationError) {
            _ = try NotifyRequest(json: value, catalogue: catalogue, now: Self.now)
        } catch {
            return error
        }
        throw Missing()
    }

    struct Missing: Error, CustomStringConvertible {
        var description: String { "the request was taken" }
    }

    @Test("every field is read")
    func everyField() throws {
        let request = try Self.request(
            #"""
            {"type":"chat","event":"message_received","title":"T\u0007","content":"a\nb\r","level":"ERROR","priority":"LOW","link_url":"/x","link_text":"X\n",
            "customer_id":"c","user_ids":["a","b"],"rec_type":"room","rec_id":"7","data":{"k":[1,2.50]},"channels":["in_app","webhook","telegram"],
            "deliver_at":"2026-11-21T11:00:00Z","expires_at":"2026-11-21T12:00:00Z","collapse_key":"ck","template_data":{"n":1}}
            """#)
        #expect(request.users.map(\.value) == ["a", "b"])
        #expect(request.type == "chat")
        #expect(request.event == "message_received")
        #expect(request.title == "T")
        #expect(request.content == "a\nb")
        #expect(request.level == .error)
        #expect(request.priority == .low)
        #expect(request.linkURL == "/x")
        #expect(request.linkText == "X")
        #expect(request.customer?.value == "c")
        #expect(request.recType == "room")
        #expect(request.recID == "7")
        #expect(request.data == Array(#"{"k":[1,2.50]}"#.utf8))
        #expect(request.channels == [.inApp, .webhook, .telegram])
        #expect(request.deliverAt == Timestamp("2026-11-21T11:00:00Z"))
        #expect(request.expiresAt == Timestamp("2026-11-21T12:00:00Z"))
        #expect(request.collapseKey == "ck")
        #expect(request.templateData == .object([("n", .number("1"))]))
    }

    @Test("a title and a user are enough, and null is the same as absent")
    func least() throws {
        for json in [
            #"{"title":"T","user_id":"u"}"#,
            #"{"title":"T","user_id":"u","user_ids":null,"type":null,"event":null,"content":null,"level":null,"priority":null,"link_url":null,"link_text":null,"customer_id":null,"rec_type":null,"rec_id":null,"data":null,"channels":null,"deliver_at":null,"expires_at":null,"collapse_key":null,"template_data":null,"unknown":1}"#,
        ] {
            let request = try Self.request(json)
            #expect(request.users.map(\.value) == ["u"])
            #expect(request.type == "SYSTEM")
            #expect(request.level == .info)
            #expect(request.priority == .medium)
            #expect(request.channels == [.inApp])
            #expect(request.event == nil && request.content == nil && request.linkURL == nil && request.linkText == nil && request.customer == nil)
            #expect(request.recType == nil && request.recID == nil && request.data == nil && request.deliverAt == nil && request.expiresAt == nil)
            #expect(request.collapseKey == nil && request.templateData == nil)
        }
    }

    @Test("synonyms mean the same, and the canonical name counts first")
    func synonyms() throws {
        let request = try Self.request(#"{"title":"T","body":"B","link":"/l","userId":"u"}"#)
        #expect(request.content == "B")
        #expect(request.linkURL == "/l")
        #expect(request.users.map(\.value) == ["u"])
        let both = try Self.request(#"{"title":"T","content":"C","body":"B","link_url":"/c","link":"/l","user_id":"v","userId":"u"}"#)
        #expect(both.content == "C")
        #expect(both.linkURL == "/c")
        #expect(both.users.map(\.value) == ["v"])
    }

    @Test("what the request leaves open comes from the event, else from the type")
    func defaults() throws {
        let event = try Self.request(#"{"type":"chats","event":"message_received","user_id":"u"}"#)
        #expect(event.type == "chat")
        #expect(event.title == "New message")
        #expect(event.level == .warning)
        #expect(event.priority == .urgent)
        #expect(event.channels == [.inApp, .sms])
        let type = try Self.request(#"{"type":"chat","event":"typing","title":"T","user_id":"u"}"#)
        #expect(type.level == .success)
        #expect(type.priority == .high)
        #expect(type.channels == [.inApp, .email])
        #expect(try Self.request(#"{"type":"chat","event":"message_received","title":"T","user_id":"u","channels":["email"]}"#).channels == [.email])
    }

    @Test("a level's name as type means that level, unless a type has that name")
    func levelAsType() throws {
        let error = try Self.request(#"{"type":"ERROR","title":"T","user_id":"u"}"#)
        #expect(error.type == "SYSTEM")
        #expect(error.level == .error)
        #expect(try Self.request(#"{"type":"ERROR","level":"INFO","title":"T","user_id":"u"}"#).level == .info)
        let warning = try Self.request(#"{"type":"WARNING","title":"T","user_id":"u"}"#)
        #expect(warning.type == "WARNING")
        #expect(warning.level == .info)
        #expect(try Self.errors(#"{"type":"error","title":"T","user_id":"u"}"#).code == .invalidGroup)
    }

    @Test("doubles count once, in the order of the request")
    func doubles() throws {
        #expect(try Self.request(#"{"title":"T","user_ids":["b","a","b"],"user_id":"a"}"#).users.map(\.value) == ["b", "a"])
        #expect(try Self.request("{\"title\":\"T\",\"user_ids\":[\"\u{E9}\",\"e\u{301}\"]}").users.count == 2)
        #expect(try Self.request(#"{"title":"T","user_ids":[],"user_id":"a"}"#).users.map(\.value) == ["a"])
    }

    @Test("10,000 users are taken, doubles not counted, and 10,001 are not")
    func users() throws {
        func json(_ count: Int, doubles: Int = 0) -> String {
            #"{"title":"T","user_ids":["# + (0..<(count + doubles)).map { "\"u\($0 % count)\"" }.joined(separator: ",") + "]}"
        }
        #expect(try Self.request(json(10_000)).users.count == 10_000)
        #expect(try Self.request(json(10_000, doubles: 5)).users.count == 10_000)
        #expect(try Self.errors(json(10_001)).errors.map(\.pointer) == ["/user_ids"])
    }

    @Test(
        "each wrong field is named by its pointer",
        arguments: [
            (#""title":7"#, "/title"), (#""title":"""#, "/title"), (#""title":"\u0007\n""#, "/title"), (#""content":{}"#, "/content"), (#""body":[]"#, "/body"),
            (#""level":"info""#, "/level"), (#""level":1"#, "/level"), (#""priority":"NONE""#, "/priority"), (#""link_url":"javascript:x""#, "/link_url"),
            (#""link":"//evil""#, "/link_url"), (#""link_url":7"#, "/link_url"), (#""link_text":false"#, "/link_text"), (#""customer_id":"""#, "/customer_id"),
            (#""customer_id":7"#, "/customer_id"), (#""customer_id":"a\u0000""#, "/customer_id"), (#""user_ids":"u""#, "/user_ids"), (#""user_ids":{}"#, "/user_ids"),
            (#""user_ids":["a",7]"#, "/user_ids/1"), (#""user_ids":["",""]"#, "/user_ids/0"), (#""user_id":"""#, "/user_id"), (#""user_id":["a"]"#, "/user_id"),
            (#""user_id":null,"userId":7"#, "/userId"), (#""rec_type":"""#, "/rec_type"), (#""rec_id":7"#, "/rec_id"), (#""data":[]"#, "/data"), (#""data":"x""#, "/data"),
            (#""template_data":1"#, "/template_data"), (#""channels":"email""#, "/channels"), (#""channels":[]"#, "/channels"),
            (#""deliver_at":"tomorrow""#, "/deliver_at"), (#""deliver_at":7"#, "/deliver_at"), (#""expires_at":"x""#, "/expires_at"),
            (#""expires_at":"2026-11-21T10:30:00Z""#, "/expires_at"),
            (#""deliver_at":"2026-11-22T00:00:00Z","expires_at":"2026-11-22T00:00:00Z""#, "/expires_at"), (#""collapse_key":"\n""#, "/collapse_key"),
            (#""type":"""#, "/type"), (#""type":7"#, "/type"), (#""event":"""#, "/event"), (#""event":{}"#, "/event"),
        ])
    func pointers(_ member: String, _ pointer: String) throws {
        // The last of two members counts.
        let error = try Self.errors(#"{"title":"T","user_id":"u","# + member + "}")
        #expect(error.code == .invalidBody)
        #expect(error.errors.first?.pointer == pointer)
    }

    @Test("unknown types, events and channels have codes of their own")
    func codes() throws {
        let type = try Self.errors(#"{"title":"T","user_id":"u","type":"nope"}"#)
        #expect(type.code == .invalidGroup)
        #expect(type.errors.map(\.pointer) == ["/type"])
        let event = try Self.errors(#"{"title":"T","user_id":"u","type":"chat","event":"nope"}"#)
        #expect(event.code == .invalidEvent)
        #expect(event.errors.map(\.pointer) == ["/event"])
        #expect(try Self.errors(#"{"title":"T","user_id":"u","event":"nope"}"#).code == .invalidEvent)
        let channels = try Self.errors(#"{"title":"T","user_id":"u","channels":["email","fax",7]}"#)
        #expect(channels.code == .invalidChannel)
        #expect(channels.errors.map(\.pointer) == ["/channels/1", "/channels/2"])
    }

    @Test("all that is wrong is named at once")
    func several() throws {
        let error = try Self.errors(#"{"level":"x","user_ids":[7],"data":1,"channels":["fax"]}"#)
        #expect(error.code == .invalidBody)
        #expect(error.errors.map(\.pointer) == ["/user_ids/0", "/level", "/data", "/channels/0", "/title"])
        #expect(try Self.errors("{}").errors.map(\.pointer) == ["/user_ids", "/title"])
        let many = "[" + Array(repeating: "7", count: 10_000).joined(separator: ",") + "]"
        #expect(try Self.errors("{\"title\":\"T\",\"user_ids\":\(many)}").errors.count < 30)
    }

    @Test("a body that is no object is refused", arguments: ["[]", "7", "null", "\"x\""])
    func noObject(_ json: String) throws {
        #expect(try Self.errors(json).errors.map(\.pointer) == [""])
    }

    @Test(
        "a field is taken at its bound and refused one past it",
        arguments: [
            ("title", 200), ("content", 4000), ("link_text", 200), ("customer_id", 128), ("rec_type", 128), ("rec_id", 128), ("collapse_key", 128), ("user_id", 128),
        ])
    func bounds(_ name: String, _ bound: Int) throws {
        func json(_ count: Int) -> String { "{\"title\":\"T\",\"user_id\":\"u\",\"\(name)\":\"\(String(repeating: "🚢", count: count))\"}" }
        _ = try Self.request(json(bound))
        #expect(try Self.errors(json(bound + 1)).errors.map(\.pointer) == ["/" + name])
    }

    @Test("links and data have their bounds")
    func moreBounds() throws {
        func link(_ count: Int) -> String { "{\"title\":\"T\",\"user_id\":\"u\",\"link_url\":\"/\(String(repeating: "x", count: count - 1))\"}" }
        _ = try Self.request(link(2000))
        #expect(try Self.errors(link(2001)).errors.map(\.pointer) == ["/link_url"])
        for name in ["data", "template_data"] {
            func data(_ count: Int) -> String { "{\"title\":\"T\",\"user_id\":\"u\",\"\(name)\":  { \"k\": \"\(String(repeating: "x", count: count - 8))\" } }" }
            _ = try Self.request(data(8192))
            #expect(try Self.errors(data(8193)).errors.map(\.pointer) == ["/" + name])
        }
    }

    @Test("the encoded body is the inside of an object, on one line", arguments: Examples.awkward)
    func body(_ text: String) throws {
        let bytes = try Examples.body(text)
        #expect(!bytes.contains { $0 < 0x20 })
        let value = try JSONParser.parse(Array("{".utf8) + bytes + Array("}".utf8))
        #expect(value["title"] == .string("t" + TextRules.clean(text, multiline: false)))
        #expect(value["content"] == .string(TextRules.clean(text, multiline: true)))
        #expect(value["data"] == .object([(text, .string(text))]))
        #expect(value["created_at"] == .string("2026-11-25T10:30:00.123Z"))
        #expect(value["expires_at"] == .null)
        guard case .object(let members) = value else { throw Missing() }
        #expect(
            members.map(\.name) == [
                "type", "event", "level", "priority", "title", "content", "link_url", "link_text", "customer_id", "rec_type", "rec_id", "data", "created_at",
                "expires_at",
            ])
    }

    @Test("a name or alias that stands twice in a catalogue is refused")
    func catalogueDoubles() throws {
        #expect(throws: ValidationError.self) { try Catalogue([.init(name: "a"), .init(name: "a")]) }
        #expect(throws: ValidationError.self) { try Catalogue([.init(name: "a"), .init(name: "b", aliases: ["a"])]) }
        #expect(throws: ValidationError.self) { try Catalogue([.init(name: "a", aliases: ["a"])]) }
        #expect(try Self.catalogue().types == ["SYSTEM", "WARNING", "chat"])
    }
}
