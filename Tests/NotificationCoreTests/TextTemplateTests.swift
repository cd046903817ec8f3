import NotificationCore
import SeededRandom
import Testing

@Suite("templates")
struct TextTemplateTests {
    static func render(_ source: String, _ json: String = "{}", kind: TextTemplate.Kind = .text, limit: Int = 4000) throws -> String {
        try TextTemplate(source, kind: kind).render(JSONTests.parse(json), limit: limit)
    }

    @Test(
        "a template says its data",
        arguments: [
            ("Hello", "{}", "Hello"),
            ("Hello {{name}}!", #"{"name":"Ada"}"#, "Hello Ada!"),
            ("{{ user.name }} {{user.age}}", #"{"user":{"name":"Ada","age":36.50}}"#, "Ada 36.50"),
            ("[{{missing}}{{user.missing}}{{null}}]", #"{"user":{},"null":null}"#, "[]"),
            ("{{yes}} {{no}}", #"{"yes":true,"no":false}"#, "true false"),
            ("{{#items}}{{name}};{{/items}}", #"{"items":[{"name":"a"},{"name":"b"}]}"#, "a;b;"),
            ("{{#items}}{{.}},{{/items}}", #"{"items":["a",1,true,null]}"#, "a,1,true,,"),
            ("{{#lists}}{{#.}}{{.}}{{/.}};{{/lists}}", #"{"lists":[[1,2],[],[3]]}"#, "12;;3;"),
            ("{{#a}}{{b}}{{/a}}", #"{"a":{"c":1},"b":"outer"}"#, "outer"),
            ("{{#a}}{{b}}{{/a}}", #"{"a":{"b":null},"b":"outer"}"#, ""),
            ("{{#n}}some{{/n}}{{^n}}none{{/n}}", #"{"n":2}"#, "some"),
            ("{{! a comment {{ }}x", "{}", "x"),
            ("a\n{{#yes}}\nb\n{{/yes}}\nc", #"{"yes":true}"#, "a\nb\nc"),
            ("{{#yes}}\nb\n{{/yes}}\n", #"{"yes":true}"#, "b"),
            ("\n\n  a  \n", "{}", "a"),
            ("{{a}} {{{a}}} {{&a}}", #"{"a":"<&\"'>"}"#, "<&\"'> <&\"'> <&\"'>"),
            ("{{a}}", #"{"a":{"b":[1,"x"]}}"#, #"{"b":[1,"x"]}"#),
            ("{{a}}", #"{"a":[1,{"b":2}]}"#, #"[1,{"b":2}]"#),
            ("{{a}}", #"{"a":"{{b}}","b":"{{#a}}"}"#, "{{b}}"),
            ("{{K}}", #"{"\u212A":1}"#, ""),
            ("a\u{301}{{b}}", #"{"b":"\u0301c"}"#, "a\u{301}\u{301}c"),
        ])
    func says(source: String, json: String, expected: String) throws {
        let text = try Self.render(source, json)
        #expect(text.unicodeScalars.elementsEqual(expected.unicodeScalars), "\(text)")
    }

    @Test("what is empty, false, null or zero is nothing to a section", arguments: ["false", "null", "0", "0.0", "-0e7", #""""#, "[]", "{}", nil])
    func nothing(value: String?) throws {
        let json = value.map { #"{"a":\#($0)}"# } ?? "{}"
        #expect(try Self.render("{{#a}}some{{/a}}{{^a}}none{{/a}}", json) == "none")
    }

    @Test("text obeys the rules of text: no control characters, no overrides, and one line where one is due")
    func rules() throws {
        #expect(try Self.render("a{{b}}c", #"{"b":"\u0007\u202E\n\t\u0000"}"#) == "a\n\tc")
        #expect(try Self.render("a{{b}}c", #"{"b":"\u0007\u202E\n\t\u0000"}"#, kind: .line) == "ac")
    }

    @Test("HTML is escaped byte by byte: a mark that combines with a quote hides nothing")
    func html() throws {
        #expect(try Self.render("<p>{{a}}{{{a}}}</p>", #"{"a":"<b>&'\""}"#, kind: .html) == "<p>&lt;b&gt;&amp;&#39;&quot;<b>&'\"</p>")
        for mark in ["\u{301}", "\u{FE0F}", "\u{200D}", "\u{20DD}"] {
            for sign in ["\"", "'", "<", ">", "&"] {
                let json = JSONValue.object([("a", .string("x\(sign)\(mark) onclick=y"))])
                let html = try TextTemplate(#"<a href="{{a}}">"#, kind: .html).render(json, limit: 1000)
                #expect(html.utf8.filter { $0 == UInt8(ascii: "\"") }.count == 2)
                #expect(html.utf8.filter { "<>'".utf8.contains($0) }.count == 2)
                #expect(html.utf8.filter { $0 == UInt8(ascii: "&") }.count == 1 && html.utf8.filter { $0 == UInt8(ascii: ";") }.count == 1)
            }
        }
    }

    @Test("variables of a link are percent-encoded")
    func link() throws {
        #expect(try Self.render("/rooms/{{id}}?q={{q}}", #"{"id":"../a/b","q":"1&x=ä#?"}"#, kind: .link) == "/rooms/..%2Fa%2Fb?q=1%26x%3D%C3%A4%23%3F")
        #expect(try Self.render("{{{url}}}", #"{"url":"https://example.org/a?b"}"#, kind: .link) == "https://example.org/a?b")
    }

    @Test(
        "a text that is no template is refused, with its line",
        arguments: [
            ("{{#a}}", 1, "not closed"), ("x\n{{#a}}\n\n{{^b}}{{/b}}", 2, "{{#a}}"), ("\n\n{{/a}}", 3, "closes nothing"),
            ("{{#a}}\n{{#b}}\n{{/a}}\n{{/b}}", 3, "{{#b}}"), ("\n{{a", 2, "not closed"), ("{{{a}}", 1, "not closed"), ("{{", 1, "not closed"),
            ("a\n{{>p}}", 2, "partials"), ("{{<p}}{{/p}}", 1, "partials"), ("{{$b}}{{/b}}", 1, "partials"), ("{{=<% %>=}}", 1, "partials"),
            ("{{% CONTENT_TYPE: HTML}}", 1, "partials"), ("{{}}", 1, "no name"), ("{{ }}", 1, "no name"), ("{{a b}}", 1, "no name"),
            ("{{a..b}}", 1, "no name"), ("{{.a}}", 1, "no name"), ("{{a.}}", 1, "no name"), ("{{uppercased(a)}}", 1, "no name"), ("{{{{a}}}}", 1, "no name"),
            ("{{ä}}", 1, "no name"), ("{{ #a}}{{/a}}", 1, "no name"), ("\n{\u{301}{a}} {{a}\u{301}}", 2, "not closed"), ("{{{>a}}}", 1, "no name"),
            (String(repeating: "{{#a}}", count: 17) + String(repeating: "{{/a}}", count: 17), 1, "deeply"),
            (String(repeating: "x", count: 16 * 1024 + 1), 1, "longer"),
        ])
    func refused(source: String, line: Int, detail: String) {
        let error = #expect(throws: TextTemplate.SyntaxError.self) { try TextTemplate(source, kind: .text) }
        #expect(error?.line == line)
        #expect(error?.detail.contains(detail) == true, "\(error?.detail ?? "")")
    }

    @Test("text at the limit is made, and one character more is refused")
    func limit() throws {
        #expect(try Self.render("{{a}}", #"{"a":"\#(String(repeating: "é", count: 200))"}"#, limit: 200).unicodeScalars.count == 200)
        #expect(throws: TextTemplate.TooLarge.self) { try Self.render("{{a}}", #"{"a":"\#(String(repeating: "é", count: 201))"}"#, limit: 200) }
        #expect(throws: TextTemplate.TooLarge.self) { try Self.render("{{a}}{{a}}", #"{"a":"\#(String(repeating: "x", count: 101))"}"#, limit: 200) }
    }

    @Test("loops in loops over the same list, and long loops over nothing, end")
    func explosion() throws {
        let list = #"{"a":[\#(Array(repeating: "1", count: 4000).joined(separator: ","))]}"#
        for depth in 2...TextTemplate.maximumDepth {
            for inner in ["x", "", "{{.}}", "{{missing}}"] {
                let source = String(repeating: "{{#a}}", count: depth) + inner + String(repeating: "{{/a}}", count: depth)
                #expect(throws: TextTemplate.TooLarge.self) { try Self.render(source, list) }
            }
        }
        // A body of 15,000 bytes 1,100 times: stopped by the bound on loops, not by what is made of them.
        #expect(throws: TextTemplate.TooLarge.self) { try Self.render("{{#a}}\(String(repeating: "y", count: 15_000)){{/a}}", list, limit: 1 << 30) }
        // Very many look-ups in each turn.
        #expect(throws: TextTemplate.TooLarge.self) { try Self.render("{{#a}}\(String(repeating: "{{b}}", count: 500)){{/a}}", list) }
    }

    @Test("whatever the template and the data are, the text is within its limit and has no control characters", arguments: 0..<400)
    func random(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let source = Self.source(&random, depth: 0)
        let data = Self.object(&random, depth: 0)
        let limit = Int.random(in: 1...300, using: &random)
        for kind in [TextTemplate.Kind.line, .text, .html, .link] {
            let template = try TextTemplate(source, kind: kind)
            let result = Result { try template.render(data, limit: limit) }
            switch result {
            case .success(let text):
                #expect(text.unicodeScalars.count <= limit)
                #expect(TextRules.clean(text, multiline: kind == .text || kind == .html).utf8.elementsEqual(text.utf8))
                // The same again: nothing is kept between two.
                #expect(try template.render(data, limit: limit) == text)
            case .failure(let error): #expect(error is TextTemplate.TooLarge)
            }
        }
    }

    @Test("every text is a template or is refused: none ends the program", arguments: 0..<400)
    func hostile(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let pieces = ["{", "{{", "}}", "}", "{{{", "}}}", "#", "^", "/", "!", "&", ">", "=", "%", "$", "<", ".", " ", "\n", "\r\n", "a", "a.b", "()", "*", "\u{301}", "\u{200D}", "é", "\0", "\u{2028}"]
        let source = (0..<Int.random(in: 1...30, using: &random)).map { _ in pieces.randomElement(using: &random)! }.joined()
        guard let template = try? TextTemplate(source, kind: .html) else { return }
        let text = try template.render(.object([("a", .object([("b", .string("<"))]))]), limit: 4000)
        #expect(text.unicodeScalars.count <= 4000)
    }

    static let names = ["a", "b", "c", "a.b", "b.c", "."]

    static func source(_ random: inout SeededGenerator, depth: Int) -> String {
        (0..<Int.random(in: 0...4, using: &random)).map { _ in
            let name = Self.names.randomElement(using: &random)!
            switch Int.random(in: 0..<(depth < 5 ? 6 : 4), using: &random) {
            case 0: return ["x", "\n", "<&>", "\u{202E}é"].randomElement(using: &random)!
            case 1: return "{{\(name)}}"
            case 2: return "{{{\(name)}}}"
            case 3: return "{{! \(name) }}"
            case 4: return "{{#\(name)}}\(Self.source(&random, depth: depth + 1)){{/\(name)}}"
            default: return "{{^\(name)}}\(Self.source(&random, depth: depth + 1)){{/\(name)}}"
            }
        }.joined()
    }

    static func object(_ random: inout SeededGenerator, depth: Int) -> JSONValue {
        .object((0..<Int.random(in: 0...3, using: &random)).map { _ in (["a", "b", "c"].randomElement(using: &random)!, Self.value(&random, depth: depth + 1)) })
    }

    static func value(_ random: inout SeededGenerator, depth: Int) -> JSONValue {
        switch Int.random(in: 0..<(depth < 5 ? 7 : 5), using: &random) {
        case 0: .null
        case 1: .bool(.random(using: &random))
        case 2: .number(["0", "-1", "1e400", "2.50"].randomElement(using: &random)!)
        case 3: .string(["", "a", "\u{7}\u{202E}\n", "<script>'\"&", String(repeating: "é", count: 50)].randomElement(using: &random)!)
        case 4: .string("{{a}}")
        case 5: .array((0..<Int.random(in: 0...40, using: &random)).map { _ in Self.value(&random, depth: depth + 1) })
        default: Self.object(&random, depth: depth)
        }
    }
}
