import Foundation
import Logging
import NotificationCore
import Testing

@testable import carillon

@Suite("the catalogue's file")
struct CatalogueFileTests {
    static func faults(_ yaml: String) throws -> [String] {
        let error = try #require(throws: CatalogueError.self) { try CatalogueFile.parse(yaml, file: "f") }
        return error.faults.map { "\($0.line) \($0.pointer) \($0.detail)" }
    }

    /// What stands in the file, and the starts of all faults in order: line and pointer, and words that the fault says.
    struct Case: CustomTestStringConvertible, Sendable {
        let name: String
        let yaml: String
        let faults: [(place: String, says: String)]

        init(_ name: String, _ yaml: String, _ faults: (String, String)...) {
            self.name = name
            self.yaml = yaml
            self.faults = faults
        }

        var testDescription: String { self.name }
    }

    static let cases = [
        Case("nothing", "", ("1 ", "empty")),
        Case("only comments", "# x\n", ("1 ", "empty")),
        Case("no YAML", "types:\n  a: [1\n", ("3 ", "is not YAML")),
        Case("a tab", "types:\n\ta: {}\n", ("2 ", "is not YAML")),
        Case("an unknown alias", "types:\n  a: *x\n", ("2 ", "is not YAML")),
        Case("two documents", "types: {}\n---\ntypes: {}\n", ("2 ", "is not YAML")),
        Case("a list", "- types\n", ("1 ", "must be a mapping")),
        Case("no types", "other: {}\n", ("1 /other", "is not known"), ("1 /types", "is missing")),
        Case("types as a list", "types: [a]\n", ("1 /types", "must be a mapping")),
        Case("types as nothing", "types:\n", ("1 /types", "must be a mapping")),
        Case("a type as text", "types:\n  a: text\n", ("2 /types/a", "must be a mapping")),
        Case("an unknown setting of a type", "types:\n  a:\n    titel: x\n", ("3 /types/a/titel", "no setting of a type")),
        Case("an unknown setting of an event", "types:\n  a:\n    events:\n      b: {aliases: [c]}\n", ("4 /types/a/events/b/aliases", "no setting of an event")),
        Case("a number as title", "types:\n  a:\n    title: 5\n", ("3 /types/a/title", "must be text: put 5 in quotes")),
        Case("a date as title", "types:\n  a:\n    title: 2026-01-01\n", ("3 /types/a/title", "must be text")),
        Case("a bool as title", "types:\n  a: {title: yes}\n", ("2 /types/a/title", "must be text: put yes in quotes")),
        Case("nothing as title", "types:\n  a:\n    title:\n", ("3 /types/a/title", "must be text")),
        Case("a list as title", "types:\n  a:\n    title: [x]\n", ("3 /types/a/title", "must be text")),
        Case("an empty title", "types:\n  a:\n    title: ''\n", ("3 /types/a/title", "1 to 200")),
        Case("a title of two lines", "types:\n  a:\n    title: \"a\\nb\"\n", ("3 /types/a/title", "one line")),
        Case("a title that is too long", "types:\n  a:\n    title: \(String(repeating: "x", count: 201))\n", ("3 /types/a/title", "1 to 200")),
        Case("no such level", "types:\n  a: {level: warning}\n", ("2 /types/a/level", "INFO, SUCCESS, WARNING, ERROR")),
        Case("a list as level", "types:\n  a: {level: [INFO]}\n", ("2 /types/a/level", "must be one of")),
        Case("no such priority", "types:\n  a: {priority: 1}\n", ("2 /types/a/priority", "must be one of")),
        Case("no such channel", "types:\n  a:\n    channels:\n      - in_app\n      - mail\n", ("5 /types/a/channels/1", "must be one of in_app")),
        Case("a channel twice", "types:\n  a: {channels: [email, email]}\n", ("2 /types/a/channels/1", "twice")),
        Case("channels as text", "types:\n  a: {channels: email}\n", ("2 /types/a/channels", "must be a list")),
        Case("no such required channel", "types:\n  a: {required: [pigeon]}\n", ("2 /types/a/required/0", "must be one of")),
        Case("required as a bool", "types:\n  a: {required: true}\n", ("2 /types/a/required", "must be a list")),
        Case("events as a list", "types:\n  a:\n    events: [b, c]\n", ("3 /types/a/events", "must be a mapping")),
        Case("an event as text", "types:\n  a:\n    events: {b: text}\n", ("3 /types/a/events/b", "must be a mapping")),
        Case("an event as a list", "types:\n  a:\n    events: {b: [title]}\n", ("3 /types/a/events/b", "must be a mapping")),
        Case("an event with a space", "types:\n  a:\n    events: {\"b c\": {}}\n", ("3 /types/a/events/b c", "is no name")),
        Case("an event with an empty name", "types:\n  a:\n    events: {'': {}}\n", ("3 /types/a/events/", "is no name")),
        Case("an event with a control character", "types:\n  a:\n    events: {\"b\\u0007\": {}}\n", ("3 /types/a/events/b\u{7}", "is no name")),
        Case("an event of 129 letters", "types:\n  a:\n    events: {\(String(repeating: "b", count: 129)): {}}\n", ("3 /types/a/events/b", "is no name")),
        Case("the event of all webhooks", "types:\n  a:\n    events: {'*': {}}\n", ("3 /types/a/events/*", "is no name")),
        Case("a number as event", "types:\n  a:\n    events: {12: {}}\n", ("3 /types/a/events/12", "put 12 in quotes")),
        Case("a bool as type", "types:\n  no: {}\n", ("2 /types/no", "put no in quotes")),
        Case("a slash in a name", "types:\n  a/b~c: {level: x}\n", ("2 /types/a~1b~0c/level", "must be one of")),
        Case("a mapping as key", "types:\n  ? {a: b}\n  : {}\n", ("2 /types", "not a word")),
        Case("aliases as text", "types:\n  a: {aliases: b}\n", ("2 /types/a/aliases", "must be a list")),
        Case("a number as alias", "types:\n  a: {aliases: [b, 2]}\n", ("2 /types/a/aliases/1", "must be text")),
        Case("an alias twice", "types:\n  a: {aliases: [b]}\n  c:\n    aliases: [b]\n", ("4 /types/c/aliases/0", "already, in line 2")),
        Case("an alias that is a name", "types:\n  a: {aliases: [c]}\n  c: {}\n", ("2 /types/a/aliases/0", "already, in line 3")),
        Case("an alias of its own name", "types:\n  a: {aliases: [a]}\n", ("2 /types/a/aliases/0", "already, in line 2")),
        Case("a type twice", "types:\n  a: {}\n  b: {}\n  a: {title: x}\n", ("4 /types/a", "stands twice: also in line 2")),
        Case("a type thrice", "types:\n  a: {}\n  a: {}\n  a: {}\n", ("3 /types/a", "also in line 2"), ("4 /types/a", "also in line 3")),
        Case("a quoted type twice", "types:\n  \"a\": {}\n  'a': {}\n", ("3 /types/a", "also in line 2")),
        Case("an event twice", "types:\n  a:\n    events:\n      b: {}\n      b: {}\n", ("5 /types/a/events/b", "also in line 4")),
        Case("a setting twice", "types:\n  a: {title: x, level: INFO, title: y}\n", ("2 /types/a/title", "also in line 2")),
        Case("types twice", "types: {}\ntypes: {}\n", ("2 /types", "also in line 1")),
        Case("digest as text", "types:\n  a: {digest: daily}\n", ("2 /types/a/digest", "must be a mapping")),
        Case("no such digest", "types:\n  a: {digest: {email: weekly}}\n", ("2 /types/a/digest/email", "immediate, hourly, daily")),
        Case("a digest of another channel", "types:\n  a: {digest: {sms: daily}}\n", ("2 /types/a/digest/sms", "only: email")),
        Case("a delay without unit", "types:\n  a: {email: {delay: 10}}\n", ("2 /types/a/email/delay", "90s, 10m")),
        Case("a delay of nothing", "types:\n  a: {email: {delay: 0m}}\n", ("2 /types/a/email/delay", "90s, 10m")),
        Case("a delay that is too long", "types:\n  a: {email: {delay: 31d}}\n", ("2 /types/a/email/delay", "at most 30d")),
        Case("a delay beyond numbers", "types:\n  a: {email: {delay: 9223372036854775807d}}\n", ("2 /types/a/email/delay", "at most 30d")),
        Case("unless another thing", "types:\n  a: {email: {delay: 1m, unless: seen}}\n", ("2 /types/a/email/unless", "must be one of read")),
        Case("unless without a delay", "types:\n  a: {email: {unless: read}}\n", ("2 /types/a/email", "needs a delay")),
        Case("an unknown setting of e-mail", "types:\n  a: {email: {delay: 1m, subject: x}}\n", ("2 /types/a/email/subject", "is not known")),
        Case("templates as text", "types:\n  a: {templates: x}\n", ("2 /types/a/templates", "must be a mapping")),
        Case("templates without a locale", "types:\n  a:\n    templates: {title: x}\n", ("3 /types/a/templates/title", "must be a mapping")),
        Case("no locale", "types:\n  a:\n    templates: {'f!': {title: x}}\n", ("3 /types/a/templates/f!", "is no locale")),
        Case(
            "a locale twice", "types:\n  a:\n    templates:\n      default: {title: x}\n      pt-BR: {title: x}\n      pt_br: {title: x}\n",
            ("6 /types/a/templates/pt_br", "also in line 5")),
        Case("a translation without a standard", "types:\n  a:\n    templates:\n      fr: {content: x}\n", ("4 /types/a/templates/fr/content", "under default")),
        Case("an unknown part", "types:\n  a:\n    templates:\n      default: {body: x}\n", ("4 /types/a/templates/default/body", "title, content")),
        Case("an unknown part of an e-mail", "types:\n  a:\n    templates:\n      default: {email: {title: x}}\n", ("4 /types/a/templates/default/email/title", "subject, html, text")),
        Case("a number as template", "types:\n  a:\n    templates:\n      default: {sms: 5}\n", ("4 /types/a/templates/default/sms", "put 5 in quotes")),
        Case("an empty template", "types:\n  a:\n    templates:\n      default: {sms: ' '}\n", ("4 /types/a/templates/default/sms", "is empty")),
        Case("an unclosed section", "types:\n  a:\n    templates:\n      default: {sms: '{{#a}}'}\n", ("4 /types/a/templates/default/sms", "{{#a}} is not closed")),
        Case(
            "a fault in the third line of a block",
            "types:\n  a:\n    templates:\n      default:\n        email:\n          html: |\n            <p>\n            {{a}}\n            {{/b}}\n            </p>\n",
            ("9 /types/a/templates/default/email/html", "{{/b}} closes nothing")),
        Case("a partial", "types:\n  a:\n    templates:\n      default:\n        content: >-\n          a\n          {{>b}}\n", ("5 /types/a/templates/default/content", "partials")),
        Case(
            "many faults at once", """
                types:
                  a:
                    title: 1
                    level: X
                    title: 2
                    events:
                      b: {channels: [x, y], zzz: 1}
                      "c d": {}
                      b: {}
                    templates: {default: {title: "{{", sms: "{{>a}}"}}
                  d: {aliases: [a]}
                other: 1
                """,
            ("3 /types/a/title", "must be text"), ("4 /types/a/level", "must be one of"), ("5 /types/a/title", "must be text"),
            ("5 /types/a/title", "stands twice: also in line 3"), ("7 /types/a/events/b/channels/0", "must be one of"),
            ("7 /types/a/events/b/channels/1", "must be one of"), ("7 /types/a/events/b/zzz", "no setting"), ("8 /types/a/events/c d", "is no name"),
            ("9 /types/a/events/b", "stands twice: also in line 7"), ("10 /types/a/templates/default/sms", "partials"),
            ("10 /types/a/templates/default/title", "not closed"), ("11 /types/d/aliases/0", "already, in line 2"), ("12 /other", "is not known")),
    ]

    @Test("a file with faults is refused: all of them are told, with their lines and places", arguments: Self.cases)
    func refused(_ file: Case) throws {
        let faults = try Self.faults(file.yaml)
        #expect(faults.count == file.faults.count, "\(faults)")
        for (fault, expected) in zip(faults, file.faults) {
            #expect(fault.hasPrefix(expected.place) && fault.contains(expected.says), "\(fault)")
        }
    }

    @Test("a fault names the file, the line and the place")
    func description() throws {
        let error = try #require(throws: CatalogueError.self) { try CatalogueFile.parse("types:\n  a: {level: x, priority: y}\n", file: "/etc/c.yaml") }
        #expect(error.lines.first == "/etc/c.yaml:2: /types/a/level: must be one of INFO, SUCCESS, WARNING, ERROR")
        #expect(error.lines.count == 2)
        #expect(error.description.hasPrefix("CARILLON_CATALOGUE: /etc/c.yaml:2: /types/a/level: ") && !error.description.contains("\n"))
    }

    @Test("every setting is read, of a type and of an event")
    func everything() throws {
        let settings = """
            title: A title
            level: ERROR
            priority: URGENT
            channels: [in_app, email]
            required: [email]
            digest: {email: hourly}
            email: {delay: 10m, unless: read}
            templates:
              default:
                title: "{{a}}"
                content: |
                  {{b}}
                link_url: /c/{{c}}
                link_text: C
                sms: "{{d}}"
                email: {subject: "{{e}}", html: "<p>{{f}}", text: "{{g}}"}
              pt-BR: {title: "pt {{a}}"}
              no: {title: "no {{a}}"}
            """
        let indented = { (spaces: Int) in
            settings.split(separator: "\n").map { String(repeating: " ", count: spaces) + $0 }.joined(separator: "\n")
        }
        let yaml = "types:\n  a:\n    aliases: [as]\n\(indented(4))\n  b:\n    events:\n      e:\n\(indented(8))\n      f:\n      g: {}\n"
        let catalogue = try CatalogueFile.parse(yaml, file: "f")
        #expect(catalogue.types == ["SYSTEM", "a", "b"])
        #expect(catalogue["as"]?.name == "a")
        for event in [try #require(catalogue["a"]?.defaults), try #require(catalogue["b"]?.settings(of: "e"))] {
            #expect(event.title == "A title" && event.level == .error && event.priority == .urgent)
            #expect(event.channels == [.inApp, .email] && event.required == [.email] && event.digest == .hourly)
            #expect(event.email == .init(delaySeconds: 600, unlessRead: true))
            #expect(event.templates[.title]?.standard?.source == "{{a}}")
            #expect(event.templates[.title]?.translations.mapValues(\.source) == [LocaleTag("pt-BR")!: "pt {{a}}", LocaleTag("no")!: "no {{a}}"])
            #expect(event.templates[.content]?.standard == (try TextTemplate("{{b}}\n", kind: .text)))
            #expect(event.templates[.linkURL]?.standard == (try TextTemplate("/c/{{c}}", kind: .link)))
            #expect(event.templates[.linkText]?.standard == (try TextTemplate("C", kind: .line)))
            #expect(event.templates[.sms]?.standard == (try TextTemplate("{{d}}", kind: .text)))
            #expect(event.templates[.emailSubject]?.standard == (try TextTemplate("{{e}}", kind: .line)))
            #expect(event.templates[.emailHTML]?.standard == (try TextTemplate("<p>{{f}}", kind: .html)))
            #expect(event.templates[.emailText]?.standard == (try TextTemplate("{{g}}", kind: .text)))
        }
        #expect(catalogue["b"]?.settings(of: "f") == Catalogue.Event())
        #expect(catalogue["b"]?.events.keys.sorted() == ["e", "f", "g"])
        #expect(catalogue.summary == "3 types, 3 events, locales default, no, pt-br")
    }

    @Test("a fixed title is the standard of translated ones")
    func fixedTitle() throws {
        let catalogue = try CatalogueFile.parse("types:\n  a:\n    templates: {fr: {title: Titre}}\n    title: Title\n", file: "f")
        let request = try Self.request(#"{"user_id":"u","type":"a"}"#, catalogue)
        #expect(request.title == "Title" && request.localized("fr").title == "Titre" && request.localized("de").title == "Title")
    }

    @Test("values that stand at several places may be named once")
    func anchors() throws {
        let catalogue = try CatalogueFile.parse("types:\n  a: {channels: &c [sms], events: {e: {required: *c}}}\n", file: "f")
        #expect(catalogue["a"]?.settings(of: "e").required == [.sms])
    }

    @Test("the shipped example is whole: its names, its languages, its required channels, and every template with data of its own")
    func shipped() throws {
        let catalogue = try CatalogueFile.load(nil)
        #expect(catalogue.types == [
            "BOOKING_CANCELLED", "BOOKING_CREATED", "BOOKING_STATUS_CHANGED", "BOOKING_UPDATED", "CARRIER_ACCEPTED", "CARRIER_REJECTED", "DOCUMENT_UPLOADED",
            "PAYMENT_FAILED", "PAYMENT_SUCCESS", "RATE_QUOTED", "SUBSCRIPTION_UPDATED", "SYSTEM", "chat", "security", "task", "transaction",
        ])
        #expect(catalogue.eventCount == 24)
        #expect(catalogue.locales.map(\.description) == ["de", "fr"])
        #expect(catalogue["chats"]?.name == "chat")
        #expect(catalogue["security"]?.settings(of: "new_login").required == [.inApp, .email])
        #expect(catalogue["chat"]?.settings(of: "message_received").title == "New message")
        #expect(catalogue["task"]?.settings(of: "task_completed").digest == .daily)
        #expect(catalogue["chat"]?.settings(of: "mentioned").email == .init(delaySeconds: 600, unlessRead: true))
        // Without data a template says what it says to all.
        let bare = try Self.request(#"{"user_id":"u","type":"BOOKING_CREATED","event":"booking_created"}"#, catalogue)
        #expect(bare.title == "Booking created" && bare.content == nil && bare.linkURL == nil && bare.linkText == nil)
        let booking = try Self.request(
            #"""
            {"user_id":"u","type":"BOOKING_CREATED","event":"booking_created","template_data":
            {"reference":"B 7","origin":"Hamburg","destination":"Oslo","departure":"24.11.","items":[{"quantity":2,"name":"<pallets>"}]}}
            """#, catalogue)
        #expect(booking.title == "Booking B 7 created" && booking.content == "Hamburg to Oslo, departing 24.11." && booking.linkURL == "/bookings/B%207")
        #expect(booking.localized("de-AT").title == "Buchung B 7 angelegt" && booking.localized("de-AT").linkText == "Buchung ansehen")
        #expect(try booking.renderEmail("fr").subject == "Votre réservation B 7")
        #expect(
            try booking.renderEmail(nil).html
                == "<h1>Booking B 7 created</h1>\n<p>2 × &lt;pallets&gt;</p>\n<p><a href=\"/bookings/B%207\">View booking</a></p>")
    }

    static func request(_ json: String, _ catalogue: Catalogue) throws -> NotifyRequest {
        try NotifyRequest(json: JSONParser.parse(Array(json.utf8)), catalogue: catalogue, now: .now())
    }

    @Test("a file that cannot be read, is too large or is not UTF-8 says so")
    func files() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("carillon-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("c.yaml")
        for (data, says) in [
            (nil, "cannot be read"), (Data("types: {}\n#".utf8) + Data(repeating: UInt8(ascii: "x"), count: CatalogueFile.maximumSize), "larger than 4 MiB"),
            (Data([0x61, 0xFF]), "not UTF-8"),
        ] as [(Data?, String)] {
            try data?.write(to: file)
            let error = try #require(throws: CatalogueError.self) { try CatalogueFile.load(file.path) }
            #expect(error.lines.count == 1 && error.lines[0].hasPrefix(file.path) && error.lines[0].contains(says), "\(error.lines)")
        }
        #expect(throws: CatalogueError.self) { try CatalogueFile.load(folder.path) }
    }

    @Test("a wrong file changes nothing but the count of failures; a good one is taken")
    func reload() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("carillon-\(UUID().uuidString).yaml")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data("types: {a: {}}\n".utf8).write(to: file)
        let live = try LiveCatalogue(path: file.path)
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        try Data("types: {b: []}\n".utf8).write(to: file)
        live.reload(logger: logger)
        #expect(live.current.types == ["SYSTEM", "a"])
        #expect(live.counters == (0, 1))
        try Data("types: {b: {}}\n".utf8).write(to: file)
        live.reload(logger: logger)
        #expect(live.current.types == ["SYSTEM", "b"])
        #expect(live.counters == (1, 1))
        try FileManager.default.removeItem(at: file)
        live.reload(logger: logger)
        #expect(live.current.types == ["SYSTEM", "b"])
        #expect(live.counters == (1, 2))
    }

    @Test("whatever bytes a file has, it is a catalogue or is refused", arguments: 0..<300)
    func hostile(seed: Int) throws {
        var state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1
        let pieces = [
            "types", ":", " ", "\n", "\n  ", "\n    ", "a", "b", "{", "}", "[", "]", ",", "- ", "? ", "&x ", "*x", "!t ", "'", "\"", "|", ">", "#", "<<", "title",
            "events", "templates", "default", "fr", "\u{E000}", "\u{E000}0\u{E000}", "{{#a}}", "é", "\u{301}", "\t", "---", "...", "%YAML 1.2", "\r\n", "\u{85}",
        ]
        var yaml = seed % 2 == 0 ? "types:\n  " : ""
        for _ in 0..<(seed % 40) {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            yaml += pieces[Int(state >> 33) % pieces.count]
        }
        do {
            _ = try CatalogueFile.parse(yaml, file: "f")
        } catch {
            #expect(!error.faults.isEmpty)
        }
    }
}
