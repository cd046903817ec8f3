import Testing

@testable import NotificationCore

func json(_ text: String) throws -> JSONValue { try JSONParser.parse(Array(text.utf8)) }

enum PreferenceExamples {
    static let catalogue = try! Catalogue([
        Catalogue.Kind(name: "chat", aliases: ["chats"], events: ["message_received": Catalogue.Event(), "mentioned": Catalogue.Event()]),
        Catalogue.Kind(name: "task", events: ["task_assigned": Catalogue.Event()]),
        Catalogue.Kind(name: "a/b~c", events: ["x": Catalogue.Event()]),
    ])

    static func parse(_ text: String) throws -> Preferences {
        try PreferencesPatch(json(text), catalogue: Self.catalogue).applied(to: Preferences())
    }
}

@Suite("Preferences")
struct PreferencesTests {
    private func refusal(_ text: String, of stored: String = "{}") throws -> ValidationError? {
        let before = try PreferenceExamples.parse(stored)
        do throws(ValidationError) {
            let value = Result { () throws(JSONError) in try JSONParser.parse(Array(text.utf8)) }
            guard case .success(let json) = value else { return nil }
            _ = try PreferencesPatch(json, catalogue: PreferenceExamples.catalogue).applied(to: before)
            return nil
        } catch {
            return error
        }
    }

    @Test(
        "what is stored has the names of the contract, whichever way it came",
        arguments: [
            ("{}", "{}"),
            (#"{"channels":{"sms":false,"in_app":true,"email":true}}"#, #"{"channels":{"in_app":true,"email":true,"sms":false}}"#),
            (#"{"inApp":false,"email":true,"sms":null}"#, #"{"channels":{"in_app":false,"email":true}}"#),
            (#"{"channels":{"inApp":false},"telegram":true}"#, #"{"channels":{"in_app":false,"telegram":true}}"#),
            (#"{"channels":false}"#, #"{"channels":{"in_app":false,"email":false,"sms":false,"telegram":false}}"#),
            (#"{"categories":{"chats":false}}"#, #"{"types":{"chat":{"channels":{"in_app":false,"email":false,"sms":false,"telegram":false}}}}"#),
            (
                #"{"categories":{"chat":{"email":false,"events":{"mentioned":true}}}}"#,
                #"{"types":{"chat":{"channels":{"email":false},"events":{"mentioned":{"in_app":true,"email":true,"sms":true,"telegram":true}}}}}"#
            ),
            (
                #"{"types":{"task":{"channels":{"sms":true}},"chats":{"events":{"message_received":{"channels":{"sms":true}}}},"chat":{"channels":{"email":false}}}}"#,
                #"{"types":{"chat":{"channels":{"email":false},"events":{"message_received":{"sms":true}}},"task":{"channels":{"sms":true}}}}"#
            ),
            (#"{"types":{"chat":{"channels":{},"events":{"mentioned":{}}},"task":null},"channels":{}}"#, "{}"),
            (#"{"types":null,"categories":null,"channels":null,"quiet_hours":null,"digest":null}"#, "{}"),
            (
                #"{"quiet_hours":{"timezone":"Europe/Paris","end":"07:00","start":"22:00"},"digest":{"email":"hourly"}}"#,
                #"{"quiet_hours":{"start":"22:00","end":"07:00","timezone":"Europe/Paris"},"digest":{"email":"hourly"}}"#
            ),
            (#"{"quiet_hours":{"start":"09:05","end":"23:59","timezone":null}}"#, #"{"quiet_hours":{"start":"09:05","end":"23:59"}}"#),
            (#"{"quiet_hours":{},"digest":{"email":null}}"#, "{}"),
        ])
    func canonical(_ given: String, _ stored: String) throws {
        let preferences = try PreferenceExamples.parse(given)
        #expect(String(decoding: preferences.json.encoded, as: UTF8.self) == stored)
        #expect(preferences.isEmpty == (stored == "{}"))
        // What was answered may be sent back, and is read again as it was.
        #expect(try PreferenceExamples.parse(stored) == preferences)
        #expect(try Preferences(stored: stored) == preferences)
    }

    @Test(
        "what is wrong is named, with the code of the first mistake",
        arguments: [
            ("[]", ValidationError.Code.invalidBody, [""]),
            (#"{"pigeon":true}"#, .invalidChannel, ["/pigeon"]),
            (#"{"channels":{"pigeon":true,"email":1}}"#, .invalidChannel, ["/channels/pigeon", "/channels/email"]),
            (#"{"channels":{"webhook":true}}"#, .invalidChannel, ["/channels/webhook"]),
            (#"{"channels":{"email":"yes"}}"#, .invalidBody, ["/channels/email"]),
            (#"{"channels":["email"]}"#, .invalidBody, ["/channels"]),
            (#"{"types":{"weather":{}}}"#, .invalidGroup, ["/types/weather"]),
            (#"{"categories":{"weather":true}}"#, .invalidGroup, ["/categories/weather"]),
            (#"{"types":["chat"]}"#, .invalidBody, ["/types"]),
            (#"{"types":{"chat":1}}"#, .invalidBody, ["/types/chat"]),
            (#"{"types":{"chat":{"events":{"task_assigned":{}}}}}"#, .invalidEvent, ["/types/chat/events/task_assigned"]),
            (#"{"types":{"chat":{"events":{"mentioned":{"fax":true}}}}}"#, .invalidChannel, ["/types/chat/events/mentioned/fax"]),
            (#"{"types":{"chat":{"colour":true}}}"#, .invalidChannel, ["/types/chat/colour"]),
            (#"{"types":{"a/b~c":{"events":{"y":true}}}}"#, .invalidEvent, ["/types/a~1b~0c/events/y"]),
            (#"{"quiet_hours":{"start":"22:00"}}"#, .invalidBody, ["/quiet_hours/end"]),
            (#"{"quiet_hours":{"end":"22:00"}}"#, .invalidBody, ["/quiet_hours/start"]),
            (#"{"quiet_hours":{"start":"22:00","end":"22:00"}}"#, .invalidBody, ["/quiet_hours/end"]),
            (#"{"quiet_hours":{"start":"24:00","end":"7:00"}}"#, .invalidBody, ["/quiet_hours/start", "/quiet_hours/end"]),
            (#"{"quiet_hours":{"start":"22:60","end":"-1:00"}}"#, .invalidBody, ["/quiet_hours/start", "/quiet_hours/end"]),
            (#"{"quiet_hours":{"start":"22:00","end":"07:00","timezone":"Mars/Base"}}"#, .invalidBody, ["/quiet_hours/timezone"]),
            (#"{"quiet_hours":{"start":"22:00","end":"07:00","timezone":2}}"#, .invalidBody, ["/quiet_hours/timezone"]),
            (#"{"quiet_hours":{"start":"22:00","end":"07:00","zone":"UTC"}}"#, .invalidBody, ["/quiet_hours/zone"]),
            (#"{"quiet_hours":"22:00-07:00"}"#, .invalidBody, ["/quiet_hours"]),
            (#"{"digest":{"email":"weekly"}}"#, .invalidBody, ["/digest/email"]),
            (#"{"digest":{"sms":"daily"}}"#, .invalidChannel, ["/digest/sms"]),
            (#"{"digest":"daily"}"#, .invalidBody, ["/digest"]),
        ])
    func refused(_ given: String, _ code: ValidationError.Code, _ pointers: [String]) throws {
        let error = try #require(try self.refusal(given))
        #expect(error.code == code)
        #expect(error.errors.map(\.pointer) == pointers)
    }

    @Test(
        "a patch changes what it names and nothing else (RFC 7396)",
        arguments: [
            (#"{"channels":{"email":true}}"#, #"{"channels":{"sms":true}}"#, #"{"channels":{"email":true,"sms":true}}"#),
            (#"{"channels":{"email":true,"sms":true}}"#, #"{"sms":null}"#, #"{"channels":{"email":true}}"#),
            (#"{"channels":{"email":true}}"#, #"{"channels":null,"categories":{"task":{"sms":true}}}"#, #"{"types":{"task":{"channels":{"sms":true}}}}"#),
            (
                #"{"types":{"chat":{"channels":{"email":false},"events":{"mentioned":{"sms":true}}}}}"#, #"{"types":{"chats":{"events":{"mentioned":null}}}}"#,
                #"{"types":{"chat":{"channels":{"email":false}}}}"#
            ),
            (#"{"types":{"chat":{"channels":{"email":false}},"task":{"channels":{"email":false}}}}"#, #"{"types":{"chats":null}}"#, #"{"types":{"task":{"channels":{"email":false}}}}"#),
            (
                #"{"quiet_hours":{"start":"22:00","end":"07:00","timezone":"Europe/Paris"}}"#, #"{"quiet_hours":{"start":"23:30"}}"#,
                #"{"quiet_hours":{"start":"23:30","end":"07:00","timezone":"Europe/Paris"}}"#
            ),
            (#"{"quiet_hours":{"start":"22:00","end":"07:00"},"digest":{"email":"daily"}}"#, #"{"quiet_hours":null}"#, #"{"digest":{"email":"daily"}}"#),
            (#"{"sms":true}"#, "{}", #"{"channels":{"sms":true}}"#),
        ])
    func patched(_ before: String, _ patch: String, _ after: String) throws {
        let stored = try PreferenceExamples.parse(before)
        let patched = try PreferencesPatch(json(patch), catalogue: PreferenceExamples.catalogue).applied(to: stored)
        #expect(String(decoding: patched.json.encoded, as: UTF8.self) == after)
    }

    @Test("a patch that leaves quiet hours without an end, or a name that is no type, changes nothing")
    func brokenPatch() throws {
        let stored = #"{"quiet_hours":{"start":"22:00","end":"07:00"}}"#
        #expect(try self.refusal(#"{"quiet_hours":{"end":null}}"#, of: stored)?.errors.map(\.pointer) == ["/quiet_hours/end"])
        #expect(try self.refusal(#"{"quiet_hours":{"end":"22:00"}}"#, of: stored)?.errors.map(\.pointer) == ["/quiet_hours/end"])
        #expect(try self.refusal(#"{"types":{"weather":null}}"#, of: stored)?.code == .invalidGroup)
    }

    @Test("types that the catalogue has lost stay stored when something else is changed")
    func lostType() throws {
        let stored = try Preferences(stored: #"{"types":{"weather":{"channels":{"sms":true}}}}"#)
        let patched = try PreferencesPatch(json(#"{"email":true}"#), catalogue: PreferenceExamples.catalogue).applied(to: stored)
        #expect(patched.types["weather"]?.channels[.sms] == true && patched.channels[.email] == true)
    }

    @Test("preferences have a bound, and so has the list of what is wrong")
    func bounds() throws {
        let kinds = (0..<400).map { Catalogue.Kind(name: "a type with a rather long name, number \($0)") }
        let large = JSONValue.object([("types", .object(kinds.map { ($0.name, .bool(false)) }))])
        let patch = try PreferencesPatch(large, catalogue: Catalogue(kinds))
        #expect(throws: ValidationError.self) { try patch.applied(to: Preferences()) }
        let wrong = JSONValue.object((0..<1000).map { ("channel \($0)", .bool(true)) })
        do throws(ValidationError) {
            _ = try PreferencesPatch(wrong, catalogue: PreferenceExamples.catalogue)
            Issue.record("it was taken")
        } catch {
            #expect(error.errors.count == 20)
        }
    }

    @Test(
        "a merge patch does what RFC 7396 says, appendix A",
        arguments: [
            (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#), (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#), (#"{"a":"b"}"#, #"{"a":null}"#, "{}"),
            (#"{"a":"b","b":"c"}"#, #"{"a":null}"#, #"{"b":"c"}"#), (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#), (#"{"a":"c"}"#, #"{"a":["b"]}"#, #"{"a":["b"]}"#),
            (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#), (#"{"a":[{"b":"c"}]}"#, #"{"a":[1]}"#, #"{"a":[1]}"#),
            (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#), (#"{"a":"b"}"#, #"["c"]"#, #"["c"]"#), (#"{"a":"foo"}"#, "null", "null"), (#"{"a":"foo"}"#, #""bar""#, #""bar""#),
            (#"{"e":null}"#, #"{"a":1}"#, #"{"e":null,"a":1}"#), ("[1,2]", #"{"a":"b","c":null}"#, #"{"a":"b"}"#), ("{}", #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
        ])
    func mergePatch(_ target: String, _ patch: String, _ result: String) throws {
        #expect(try json(target).merging(json(patch)) == json(result))
    }
}
