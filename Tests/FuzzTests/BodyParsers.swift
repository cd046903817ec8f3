import NIOCore
import NotificationCore

@testable import API
@testable import Gateway
@testable import NotificationStore
@testable import carillon

/// What requests carry.
extension Parser {
    static let catalogue: Catalogue = {
        do {
            return try CatalogueFile.parse(
                """
                types:
                  chat:
                    aliases: [chats]
                    channels: [in_app, email]
                    events:
                      message_received:
                        title: A message
                        templates:
                          default:
                            title: "Message of {{name}}"
                            content: "{{#lines}}{{.}}, {{/lines}}"
                            link_url: "/chat/{{room}}"
                          de: {title: "Nachricht von {{name}}"}
                  SYSTEM: {}
                """, file: "fuzz")
        } catch {
            preconditionFailure("\(error)")
        }
    }()

    private static let now = Timestamp(seconds: 1_800_000_000)
    private static let bodyWords = [
        "{", "}", "[", "]", ",", ":", "\"user_ids\":", "\"user_id\":", "\"title\":", "\"content\":", "\"body\":", "\"type\":\"chat\"", "\"event\":\"message_received\"", "\"level\":\"INFO\"",
        "\"priority\":\"URGENT\"", "\"link_url\":\"/a\"", "\"javascript:alert(1)\"", "\"customer_id\":\"c\"", "\"data\":{}", "\"template_data\":", "\"channels\":[\"email\"]",
        "\"deliver_at\":\"2030-01-01T00:00:00Z\"", "\"expires_at\":", "\"collapse_key\":\"k\"", "\"rec_type\":\"r\"", "\"rec_id\":\"1\"", "\"broadcast\":true", "null", "\"a\"",
    ]

    static let bodies: [Parser] = [
        Parser("notify", words: Self.bodyWords, cost: 2) { input in
            let json: JSONValue
            do throws(JSONError) { json = try JSONParser.parse(input) } catch { return "no JSON" }
            var outcome = ""
            for kind in [NotifyRequest.Kind.stored, .direct, .apart] {
                do {
                    try Self.check(try NotifyRequest(json: json, kind: kind, catalogue: Self.catalogue, now: Self.now), kind)
                    outcome += "taken "
                } catch let error as ValidationError {
                    try promise(!error.errors.isEmpty && error.errors.count <= 21, "\(error.errors.count) errors")
                    outcome += refused(error.errors.map { $0.pointer.prefix(10) + $0.detail.prefix(14) }.prefix(2).joined())
                }
            }
            return outcome
        },
        Parser("correction", words: Self.bodyWords) { input in
            let json: JSONValue
            do throws(JSONError) { json = try JSONParser.parse(input) } catch { return "no JSON" }
            var outcome = ""
            do {
                let correction = try NotificationCorrection(json: json, now: Self.now)
                let members = try JSONParser.parse(Array(correction.members.utf8))
                guard case .object(let list) = members else { throw Broken("no object") }
                try promise(!list.isEmpty && Set(list.map(\.name)).count == list.count, "\(correction.members)")
                try promise((members["title"]?.string?.unicodeScalars.count ?? 1) <= 200, "a long title")
                outcome = "taken \(list.count)"
            } catch let error as ValidationError { outcome = refused(error.errors.first?.detail ?? "") }
            do {
                let selector = try SelectorReader.selector(json, isRest: NotificationCorrection.isField, rest: "no")
                try promise((selector.users?.count ?? 1) <= 10_000, "many users")
                return outcome + " \(selector.mark)".prefix(8)
            } catch let error as Problem { return outcome + " " + refused(error.errors.first?.detail ?? error.detail) }
        },
        Parser("lines", words: ["\n", "\r\n", "\"", "{\"title\":\"x\"}\n", "null", "true", " ", "[", "\\u0041", "alice\n"]) { input in
            let (whole, cut) = (try Self.lines([input]), try Self.lines(pieces(input)))
            try promise(whole.outcome == cut.outcome && whole.users == cut.users, "in one piece \(whole.outcome), in several \(cut.outcome)")
            return whole.outcome + " \(min(whole.users.count, 3))"
        },
        Parser("preferences", words: [
            "\"channels\":", "\"in_app\":true", "\"email\":false", "\"types\":", "\"chat\":", "\"events\":", "\"message_received\":", "\"quiet_hours\":", "\"start\":\"22:00\"", "\"end\":\"07:00\"",
            "\"timezone\":\"Europe/Paris\"", "\"digest\":{\"email\":\"daily\"}", "null", "{", "}", ",", "\"categories\":", "\"inApp\":",
        ]) { input in
            let json: JSONValue
            do throws(JSONError) { json = try JSONParser.parse(input) } catch { return "no JSON" }
            do {
                let patch = try PreferencesPatch(json, catalogue: Self.catalogue)
                let made = try patch.applied(to: Preferences())
                let stored = String(decoding: made.json.encoded, as: UTF8.self)
                try promise(stored.utf8.count <= Preferences.maximumBytes, "\(stored.utf8.count) bytes")
                try promise(try Preferences(stored: stored) == made, "\(stored) is read as something else")
                try promise(try patch.applied(to: made).json == made.json, "applied twice it is something else: \(stored)")
                return "taken \(made.types.count) \(made.quietHours != nil) \(made.emailDigest != nil)"
            } catch let error as ValidationError { return refused(error.errors.first?.detail ?? "") }
        },
        Parser("contact", words: [
            "\"email\":\"a@b.c\"", "\"phone\":\"+491\"", "\"locale\":\"pt-BR\"", "\"timezone\":\"Europe/Paris\"", "\"telegram_chat_id\":", "@", "-1", "null", "{", "}", ",", "\"user_id\":\"x\"",
        ]) { input in
            let json: JSONValue
            do throws(JSONError) { json = try JSONParser.parse(input) } catch { return "no JSON" }
            do {
                let contact = try Contact(json: json)
                for value in [contact.email, contact.phone, contact.locale, contact.telegramChatID].compactMap({ $0 }) {
                    try promise(!value.isEmpty && value.utf8.count <= 254 && !value.unicodeScalars.contains { $0.properties.isWhitespace || $0.value < 0x21 || $0 == "<" }, value)
                }
                return "taken \([contact.email, contact.phone, contact.locale, contact.telegramChatID].map { $0 != nil })"
            } catch let error as ValidationError { return refused(error.errors.first?.detail ?? "") }
        },
        Parser("webhook", words: [
            "\"url\":\"https://example.org/\"", "\"events\":[\"*\"]", "\"secret\":\"12345678\"", "\"customer_id\":null", "\"description\":\"x\"", "\"status\":\"ACTIVE\"", "\"since\":\"2026-01-01T00:00:00Z\"",
            "\"until\":", "\"only\":\"all\"", "{", "}", ",", "\"id\":1",
        ]) { input in
            let body = ByteBuffer(bytes: input)
            var outcome = ""
            for isNew in [true, false] {
                do {
                    let webhook = try WebhookBody(body, isNew: isNew)
                    try promise(!isNew || (webhook.url != nil && webhook.events?.isEmpty == false), "a webhook without a place or events")
                    try promise((webhook.events?.count ?? 1) <= 100 && (8...512).contains(webhook.secret?.utf8.count ?? 8), "past a bound")
                    try promise((webhook.description?.unicodeScalars.count ?? 0) <= 500 && webhook.status != .failed, "past a bound")
                    outcome += "taken "
                } catch let error as Problem { outcome += refused(error.errors.first?.detail ?? String(error.detail.prefix(24))) }
            }
            do {
                let secret = try WebhookBody.secret(body)
                try promise((8...512).contains(secret?.utf8.count ?? 8), "a secret past its bounds")
                outcome += "secret "
            } catch is Problem { outcome += "no secret " }
            do {
                let replay = try ReplayBody(body, now: Self.now)
                try promise(replay.since < replay.until, "a time that goes backwards")
                outcome += "replay"
            } catch is Problem { outcome += "no replay" }
            return outcome
        },
        Parser("flags", words: ["\"read\":true", "\"seen\":false", "\"archived\":true", "{", "}", ",", "null"]) { input in
            do {
                let flags = try FlagsBody(ByteBuffer(bytes: input))
                try promise(!(flags.archived == true && flags.read == false), "archived and unread")
                return "taken \(flags)"
            } catch let error as Problem { return refused(error.errors.first?.detail ?? String(error.detail.prefix(24))) }
        },
    ]

    private static func lines(_ parts: [[UInt8]]) throws -> (users: [UserID], outcome: String) {
        var lines = TriggerLines()
        var users: [UserID] = []
        do {
            for part in parts { try lines.add(ByteBuffer(bytes: part), to: &users) }
            try lines.end(to: &users)
        } catch {
            return (users, refused(error.detail))
        }
        try promise(users.count == lines.count && lines.first != nil, "users were lost")
        return (users, "taken")
    }

    private static func check(_ request: NotifyRequest, _ kind: NotifyRequest.Kind) throws {
        let limits = NotifyRequest.Limits()
        try promise(request.users.count <= limits.users && Set(request.users).count == request.users.count, "\(request.users.count) users")
        try promise(!request.users.isEmpty || request.broadcast || kind == .apart, "nobody")
        for readers in [nil, "de"] {
            let one = request.localized(readers)
            try promise((1...limits.title).contains(one.title.unicodeScalars.count), "a title of \(one.title.unicodeScalars.count)")
            try promise((one.content?.unicodeScalars.count ?? 0) <= limits.content && (one.linkURL?.unicodeScalars.count ?? 0) <= limits.link, "a long text")
            try promise(one.linkURL.map { TextRules.isAllowedLink($0) } ?? true, "the link \(one.linkURL ?? "")")
            try promise(!one.title.unicodeScalars.contains { $0.isControl || $0.isBidiOverride }, "a control character in a title")
            try promise((one.data?.count ?? 0) <= limits.dataBytes, "data of \(one.data?.count ?? 0)")
            let body = one.encodeBody(createdAt: Self.now)
            try promise(!body.contains { $0 < 0x20 || $0 == 0x7F }, "a line that ends early")
            try promise((try? JSONParser.parse([UInt8(ascii: "{")] + body + [UInt8(ascii: "}")]))?["title"]?.string == one.title, "the body is no JSON")
        }
    }
}
