import Testing

@testable import NotificationCore

@Suite("Contacts")
struct ContactTests {
    private static let wrong: [(String, String)] = pairs([
        "email": ["", "a", "a@", "@b", "a@b@c", "a b@c.d", "a@b..c", ".a@b.c", "a.@b.c", "a@-b.c", "a@b_c.d", "a@b.c\r\nBcc: x@y.z", "<a@b.c>", "a@[127.0.0.1]", "\"a\"@b.c", "a@b.c,d@e.f",
            String(repeating: "a", count: 65) + "@b.c", "a@" + String(repeating: "b", count: 64) + ".c", "a\u{202E}@b.c", "a\u{A0}@b.c"],
        "phone": ["", "+", "33612345678", "+0123456", "+1", "+1234567890123456", "+33 6 12", "+33-612", "+٣٣٦١٢٣٤٥", "+33612345678\n"],
        "locale": ["", "x", "e", "en_US", "en-", "-en", "en-US-", "123", "en-toolongpart1", "en US", "е-US", String(repeating: "en-", count: 30) + "en"],
        "timezone": ["", "Paris", "Europe/Atlantis"],
        "telegram_chat_id": ["", "abc", "@", "@a b", "+12", "1.5", "99999999999999999999"],
    ])

    private static func pairs(_ table: KeyValuePairs<String, [String]>) -> [(String, String)] {
        table.flatMap { name, values in values.map { (name, $0) } }
    }

    @Test("all members are kept as they were given; null and absent ones are none")
    func whole() throws {
        let contact = try Contact(
            json: json(#"{"email":"a.b+c@example.com","phone":"+33612345678","locale":"pt-BR","timezone":"Europe/Paris","telegram_chat_id":-1001234567890}"#))
        #expect(contact.endpoint(.email) == "a.b+c@example.com" && contact.endpoint(.sms) == "+33612345678" && contact.endpoint(.telegram) == "-1001234567890")
        #expect(contact.locale == "pt-BR" && contact.timezone?.identifier == "Europe/Paris")
        #expect(contact.endpoint(.inApp) == nil && contact.endpoint(.webhook) == nil)
        #expect(try Contact(json: json(#"{"email":null,"user_id":"u","updated_at":"2026-01-01T00:00:00Z"}"#)) == Contact())
        #expect(try Contact(json: json(#"{"telegram_chat_id":"@a_channel"}"#)).telegramChatID == "@a_channel")
    }

    @Test(
        "what is no address is refused by its name",
        arguments: Self.wrong)
    func refused(_ name: String, _ value: String) throws {
        #expect(throws: ValidationError.self) { try Contact(json: .object([(name, .string(value))])) }
    }

    @Test(
        "what other alphabets and short domains have is taken",
        arguments: [
            ("email", "a@localhost"), ("email", "用户@例子.公司"), ("email", "o'brien@x-y.example"), ("email", "a@b.c"), ("phone", "+123"), ("phone", "+123456789012345"), ("locale", "en"),
            ("locale", "zh-Hant-TW"), ("locale", "de-CH-1996"), ("locale", "fil"), ("telegram_chat_id", "42"),
        ])
    func taken(_ name: String, _ value: String) throws {
        let contact = try Contact(json: .object([(name, .string(value))]))
        #expect([contact.email, contact.phone, contact.locale, contact.telegramChatID].contains(value))
    }

    @Test("values of another kind, and members that there are not, are refused together")
    func kinds() throws {
        do throws(ValidationError) {
            _ = try Contact(json: .object([("email", .number("1")), ("fax", .string("x")), ("phone", .bool(true)), ("telegram_chat_id", .number("1.5"))]))
            Issue.record("it was taken")
        } catch {
            #expect(error.errors.map(\.pointer) == ["/email", "/fax", "/phone", "/telegram_chat_id"])
        }
        #expect(throws: ValidationError.self) { try Contact(json: .array([])) }
    }
}
