import NotificationCore
import Testing

@Suite("what notifications say")
struct WordingTests {
    static func template(_ standard: String?, _ kind: TextTemplate.Kind = .text, _ translations: [String: String] = [:]) throws -> LocalizedTemplate {
        var all = LocalizedTemplate(standard: try standard.map { try TextTemplate($0, kind: kind) })
        for (locale, source) in translations { all.translations[try #require(LocaleTag(locale))] = try TextTemplate(source, kind: kind) }
        return all
    }

    static func catalogue() throws -> Catalogue {
        var message = Templates()
        message[.title] = try Self.template("{{sender}} wrote", .line, ["fr": "{{sender}} a écrit", "pt": "{{sender}} escreveu", "pt-BR": "{{sender}} mandou"])
        message[.content] = try Self.template("In {{room}}", .text, ["fr": "Dans {{room}}"])
        message[.linkURL] = try Self.template("/rooms/{{room}}", .link)
        message[.emailSubject] = try Self.template("{{title}} ({{count}})", .line, ["fr": "{{title}} ! ({{count}})"])
        message[.emailHTML] = try Self.template("<h1>{{title}}</h1><p>{{content}}</p><a href=\"{{link_url}}\">{{room}}</a>", .html)
        message[.emailText] = try Self.template("{{title}}\n{{content}}")
        message[.sms] = try Self.template("{{title}}: {{content}}")
        var chat = Templates()
        chat[.title] = try Self.template("Chat: {{subject}}", .line, ["fr": "Discussion : {{subject}}"])
        chat[.content] = try Self.template("{{subject}}")
        return try Catalogue([
            .init(
                name: "chat", defaults: .init(title: "Chat", level: .success, channels: [.email], required: [.sms], templates: chat),
                events: [
                    "message": .init(title: "New message", required: [.inApp], templates: message), "plain": .init(), "titled": .init(title: "Titled", level: .error),
                    "bare": .init(templates: try { () throws -> Templates in
                        var bare = Templates()
                        bare[.title] = try Self.template("{{x}}", .line)
                        return bare
                    }()),
                ]),
            .init(
                name: "link",
                defaults: .init(templates: try { () throws -> Templates in
                    var link = Templates()
                    link[.title] = try Self.template("{{t}}", .line)
                    link[.linkURL] = try Self.template("{{{url}}}", .link)
                    return link
                }())),
        ])
    }

    static func request(_ fields: String, kind: NotifyRequest.Kind = .stored) throws -> NotifyRequest {
        let json = try JSONTests.parse(#"{"user_id":"u",\#(fields)}"#)
        return try NotifyRequest(json: json, kind: kind, catalogue: Self.catalogue(), now: NotifyRequestTests.now)
    }

    static func errors(_ fields: String) throws -> [FieldError] {
        let error = #expect(throws: ValidationError.self) { try Self.request(fields) }
        #expect(error?.code == .invalidBody)
        return error?.errors ?? []
    }

    static let message = #""type":"chat","event":"message","template_data":{"sender":"Ada","room":"a/b","count":2}"#

    @Test(
        "a reader gets the closest language, word by word",
        arguments: [
            (nil, "Ada wrote", "In a/b"), ("en", "Ada wrote", "In a/b"), ("fr", "Ada a écrit", "Dans a/b"), ("FR_ca", "Ada a écrit", "Dans a/b"),
            ("pt-BR", "Ada mandou", "In a/b"), ("pt-BR-x-foo", "Ada mandou", "In a/b"), ("pt-PT", "Ada escreveu", "In a/b"), ("not a locale", "Ada wrote", "In a/b"),
            ("", "Ada wrote", "In a/b"), ("f", "Ada wrote", "In a/b"), ("fra", "Ada wrote", "In a/b"),
        ] as [(String?, String, String)])
    func languages(locale: String?, title: String, content: String) throws {
        let request = try Self.request(Self.message)
        let localized = request.localized(locale)
        #expect(localized.title == title)
        #expect(localized.content == content)
        #expect(localized.linkURL == "/rooms/a%2Fb")
        #expect(request.isTranslated)
        #expect((request.translation(for: locale) == nil) == (title == "Ada wrote"))
        // Once localized, it can be asked for another language.
        #expect(localized.localized("fr").title == "Ada a écrit")
    }

    @Test("what the caller gives goes before every template")
    func given() throws {
        let request = try Self.request(Self.message + #","title":"T","content":"C","link_url":"/l""#)
        #expect(request.title == "T" && request.content == "C" && request.linkURL == "/l")
        #expect(!request.isTranslated)
        #expect(request.localized("fr").title == "T")
        let half = try Self.request(Self.message + #","title":"T""#)
        #expect(half.localized("fr").title == "T" && half.localized("fr").content == "Dans a/b" && half.localized("pt").content == "In a/b")
        #expect(half.translation(for: "pt") == nil)
    }

    @Test("an event's title goes before its type's templates, and a title that comes to nothing before none")
    func order() throws {
        #expect(try Self.request(#""type":"chat","event":"titled","template_data":{"subject":"S"}"#).title == "Titled")
        #expect(try Self.request(#""type":"chat","event":"titled","template_data":{"subject":"S"}"#).content == "S")
        #expect(try Self.request(#""type":"chat","event":"plain","template_data":{"subject":"S"}"#).localized("fr").title == "Discussion : S")
        #expect(try Self.request(#""type":"chat","template_data":{"subject":"S"}"#).localized("fr").title == "Discussion : S")
        #expect(try Self.request(#""type":"chat","event":"bare""#).title == "Chat")
        #expect(try Self.request(#""type":"chat","event":"bare","template_data":{"x":"X"}"#).title == "X")
        #expect(try Self.request(#""type":"chat","event":"plain""#).content == nil)
    }

    @Test("without a title from anywhere the request is refused")
    func noTitle() throws {
        #expect(try Self.errors(#""type":"link""#) == [FieldError(pointer: "/title", detail: "is required")])
        #expect(try Self.errors(#""type":"link","template_data":null"#) == [FieldError(pointer: "/title", detail: "is required")])
    }

    @Test("a title that a template may make is not missed while other fields are wrong")
    func otherErrors() throws {
        #expect(try Self.errors(#""type":"link","rec_id":"","template_data":{"t":"T"}"#).map(\.pointer) == ["/rec_id"])
        #expect(try Self.errors(#""type":"link","template_data":{"t":"\#(String(repeating: "x", count: 201))"}"#).map(\.pointer) == ["/template_data"])
    }

    @Test("text beyond its field's limit is refused, in every language, and so is a link that is none")
    func limits() throws {
        let long = String(repeating: "x", count: 195)
        let errors = try Self.errors(#""type":"chat","event":"message","template_data":{"sender":"\#(long)"}"#)
        #expect(errors.map(\.pointer) == Array(repeating: "/template_data", count: 4))
        #expect(Set(errors.map(\.detail)) == [
            "makes title longer than 200 characters", "makes title (fr) longer than 200 characters", "makes title (pt) longer than 200 characters",
            "makes title (pt-br) longer than 200 characters",
        ])
        for link in ["javascript:alert(1)", "//evil.example", "ftp://a", "a b"] {
            let errors = try Self.errors(#""type":"link","template_data":{"t":"T","url":"\#(link)"}"#)
            #expect(errors.map(\.pointer) == ["/template_data"])
            #expect(errors.first?.detail.contains("link_url") == true)
        }
        #expect(try Self.request(#""type":"link","template_data":{"t":"T","url":"https://example.org"}"#).linkURL == "https://example.org")
        #expect(try Self.request(#""type":"link","template_data":{"t":"T"}"#).linkURL == nil)
    }

    @Test("template data that is no object, or too large, is refused before anything is rendered")
    func badData() throws {
        for data in ["[]", "1", #""x""#, "true"] { #expect(try Self.errors(#""type":"chat","template_data":\#(data)"#).map(\.pointer) == ["/template_data"]) }
        let large = String(repeating: "x", count: 8 * 1024)
        #expect(try Self.errors(#""type":"chat","template_data":{"subject":"\#(large)"}"#).map(\.detail) == ["must have at most 8192 bytes"])
    }

    @Test("a direct event is said in the standard language, to all")
    func direct() throws {
        let request = try Self.request(Self.message, kind: .direct)
        #expect(request.title == "Ada wrote" && !request.isTranslated && request.localized("fr").title == "Ada wrote")
    }

    @Test("e-mails and text messages know the notification's own words, and HTML is escaped")
    func email() throws {
        let request = try Self.request(#""type":"chat","event":"message","template_data":{"sender":"<Ada>","room":"a","count":2}"#)
        let email = try request.renderEmail(nil)
        #expect(email.subject == "<Ada> wrote (2)")
        #expect(email.html == "<h1>&lt;Ada&gt; wrote</h1><p>In a</p><a href=\"/rooms/a\">a</a>")
        #expect(email.text == "<Ada> wrote\nIn a")
        let french = try request.renderEmail("fr-FR")
        #expect(french.subject == "<Ada> a écrit ! (2)")
        #expect(french.html == "<h1>&lt;Ada&gt; a écrit</h1><p>Dans a</p><a href=\"/rooms/a\">a</a>")
        #expect(try request.renderSMS("fr") == "<Ada> a écrit: Dans a")
        #expect(try Self.request(#""type":"chat","event":"plain""#).renderEmail("fr") == RenderedEmail())
        #expect(try Self.request(#""type":"chat","event":"plain""#).renderSMS(nil) == nil)
        // Data go before the notification's words, and a given title before a template's.
        #expect(try Self.request(#""type":"chat","event":"message","title":"T","template_data":{"count":1}"#).renderEmail("fr").subject == "T ! (1)")
        #expect(try Self.request(#""type":"chat","event":"message","template_data":{"title":"D","count":1}"#).renderEmail(nil).subject == "D (1)")
    }

    @Test("an e-mail's part that would be too long is told of")
    func emailLimit() throws {
        let request = try Self.request(#""type":"chat","event":"message","title":"\#(String(repeating: "x", count: 199))","template_data":{"count":1}"#)
        #expect(throws: TextTemplate.TooLarge.self) { try request.renderEmail(nil) }
    }

    @Test("an event's settings are complete: what it does not say, its type says")
    func settings() throws {
        let chat = try #require(Self.catalogue()["chat"])
        #expect(chat.settings(of: "titled").level == .error)
        #expect(chat.settings(of: "plain").level == .success)
        #expect(chat.settings(of: "plain").channels == [.email])
        #expect(chat.settings(of: "message").required == [.inApp, .sms])
        #expect(chat.settings(of: "plain").required == [.sms])
        #expect(chat.settings(of: nil).required == [.sms])
        #expect(chat.settings(of: "unknown") == chat.defaults)
        #expect(try Self.catalogue().locales.map(\.description) == ["fr", "pt", "pt-br"])
        #expect(try Self.catalogue().eventCount == 4)
    }

    @Test("locales are compared by their letters", arguments: [("pt-BR", "pt-br"), ("PT_br", "pt-br"), ("en", "en"), ("zh-Hant-TW", "zh-hant-tw"), ("es-419", "es-419")])
    func tags(text: String, expected: String) throws {
        #expect(LocaleTag(text)?.description == expected)
        #expect(try #require(LocaleTag(text)).hashValue == LocaleTag(expected)?.hashValue)
    }

    @Test("what is no locale is none", arguments: ["", "e", "-", "en-", "-en", "en--US", "1n", "en US", "default-äö", "é", "en-abcdefghi", "languages", String(repeating: "a-", count: 20)])
    func noTags(text: String) {
        #expect(LocaleTag(text) == nil)
    }
}
