import Foundation
import NotificationCore
import SeededRandom
import Testing

@Suite("JSON")
struct JSONTests {
    static let accepted: [String] = [
        "null", "true", "false", "0", "-0", "1", "-1.5", "1e5", "1E+5", "1e-5", "0.1e1", "123456789012345678901234567890", " \t\r\n1 \t\r\n", "\"\"", "\"a\"", "[]",
        "{}", "[ ]", "{ }", "[1,2,[3]]", "{\"a\":1,\"b\":{\"c\":[]}}", "{\"\":0}", #""\"\\\/\b\f\n\r\t""#, #""\u0000""#, #""\u00e9\u00E9""#, #""\ud83d\udea2""#,
        "\"\u{7F}\"", "\"\u{2028}\"", "\"🚢\"", "[1 , 2]", "{\"a\" : 1 , \"b\" : 2}",
    ]
    static let rejected: [String] = [
        "", " ", "nul", "nulll", "True", "NaN", "Infinity", "-Infinity", "undefined", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x1", "1_000", "1 2", "\"",
        "\"a", "'a'", "a", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1,,2]", "{", "}", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{a:1}",
        "{'a':1}", "{\"a\" 1}", "{1:2}", "{\"a\":1 \"b\":2}", "[}", "{]", "// c\n1", "1 // c", "/* c */1", "\"\n\"", "\"\t\"", "\"\u{0}\"", "\"\u{1F}\"", #""\x41""#,
        #""\'""#, #""\u12""#, #""\u12G4""#, #""\""#, #""\ud83d""#, #""\ud83dx""#, #""\ud83d\n""#, #""\ud83d\u0041""#, #""\udea2""#, #""\udea2\ud83d""#,
        #""\ud83d\ud83d""#, #""\ud83d\"#, #""\ud83d\u"#, "\u{FEFF}1", "\u{A0}1", "[1]]", "{}{}", "\u{0B}1",
    ]

    static func parse(_ text: String) throws(JSONError) -> JSONValue { try JSONParser.parse(Array(text.utf8)) }

    @Test("what RFC 8259 allows is read", arguments: accepted)
    func accepts(_ text: String) throws {
        let value = try Self.parse(text)
        #expect(try JSONParser.parse(value.encoded) == value)
    }

    @Test("what RFC 8259 does not allow is refused", arguments: rejected)
    func rejects(_ text: String) {
        #expect(throws: JSONError.self) { try Self.parse(text) }
    }

    @Test("bytes that are not UTF-8 are refused, escaped string or not", arguments: [
        [0x80], [0xC3], [0xC0, 0x80], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xF8, 0x88, 0x80, 0x80, 0x80], [0xFF], [0xE2, 0x82],
    ] as [[UInt8]])
    func invalidUTF8(_ bytes: [UInt8]) {
        let quote = UInt8(ascii: "\"")
        #expect(throws: JSONError.self) { try JSONParser.parse([quote] + bytes + [quote]) }
        #expect(throws: JSONError.self) { try JSONParser.parse([quote] + Array("\\n".utf8) + bytes + [quote]) }
        #expect(throws: JSONError.self) { try JSONParser.parse(bytes) }
    }

    @Test("escapes and surrogate pairs become their characters")
    func escapes() throws {
        #expect(try Self.parse(#""\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\udea2\u0000\udbff\udfff""#) == .string("\"\\/\u{8}\u{C}\n\r\tA\u{E9}🚢\u{0}\u{10FFFF}"))
    }

    @Test("numbers keep their digits")
    func numbers() throws {
        for digits in ["0", "-0", "1.10", "1E+05", "123456789012345678901234567890.000"] { #expect(try Self.parse(digits) == .number(digits)) }
    }

    @Test("64 levels are read and 65 are not, whatever stands in the innermost", arguments: ["", "1", "\"a\"", "null"])
    func depth(_ inner: String) throws {
        func nested(_ levels: Int) -> String { String(repeating: "[", count: levels) + inner + String(repeating: "]", count: levels) }
        _ = try Self.parse(nested(JSONParser.maximumDepth))
        #expect(throws: JSONError.self) { try Self.parse(nested(JSONParser.maximumDepth + 1)) }
        #expect(throws: JSONError.self) { try Self.parse(String(repeating: "[", count: 1_000_000)) }
        #expect(throws: JSONError.self) { try Self.parse(String(repeating: "{\"a\":", count: 100_000)) }
    }

    @Test("a name that comes twice has its last value, in its first place")
    func duplicates() throws {
        #expect(try Self.parse(#"{"a":1,"b":2,"a":3}"#) == .object([("a", .number("3")), ("b", .number("2"))]))
        var members = (0..<100).map { "\"m\($0)\":\($0)" }
        members += (0..<100).map { "\"m\($0)\":\"again\"" }
        let value = try Self.parse("{" + members.joined(separator: ",") + "}")
        guard case .object(let read) = value else {
            Issue.record("not an object")
            return
        }
        #expect(read.count == 100)
        #expect(read.map(\.name) == (0..<100).map { "m\($0)" })
        #expect(read.allSatisfy { $0.value == .string("again") })
    }

    @Test("names of other bytes are other names, though they look the same")
    func canonicalEquivalence() throws {
        let value = try Self.parse("{\"\u{E9}\":1,\"e\u{301}\":2}")
        #expect(value.encoded == Array("{\"\u{E9}\":1,\"e\u{301}\":2}".utf8))
        #expect(value["e\u{301}"] == .number("2"))
        #expect(JSONValue.string("\u{E9}") != .string("e\u{301}"))
        let many = "{" + (0..<40).map { "\"m\($0)\":0," }.joined() + "\"\u{E9}\":1,\"e\u{301}\":2}"
        #expect(try Self.parse(many).encoded == Array(many.utf8))
    }

    @Test("a text that is cut anywhere is refused, and says where within it")
    func truncation() throws {
        let text = Array(#" {"a":[1,-2.5e+3,true,false,null,"x\n\ud83d\udea2é🚢"],"b":{"c":{},"d":[]},"a":"\u00e9"} "#.utf8)
        _ = try JSONParser.parse(text)
        for count in 0..<(text.count - 1) {
            do throws(JSONError) {
                _ = try JSONParser.parse(Array(text[..<count]))
                Issue.record("\(count) bytes were read")
            } catch {
                #expect((0...count).contains(error.offset))
            }
        }
    }

    @Test("random damage never gives more than an error, and what is read is written and read again")
    func mutation() throws {
        let text = Array(#"{"a":[1,-2.5e+3,true,false,null,"x\n\ud83d\udea2é"],"b":{"c":{},"d":[]}}"#.utf8)
        var random = SeededGenerator(seed: 1)
        for _ in 0..<5000 {
            var damaged = text
            for _ in 0...random.below(3) { damaged[random.below(damaged.count)] = UInt8(random.below(256)) }
            guard let value = try? JSONParser.parse(damaged) else { continue }
            #expect(try JSONParser.parse(value.encoded) == value)
        }
    }

    @Test("another parser reads what is written", arguments: Examples.awkward)
    func foreignParser(_ text: String) throws {
        let encoded = JSONValue.array([.string(text), .object([(text, .null)])]).encoded
        #expect(!encoded.contains { $0 < 0x20 || $0 == 0x7F })
        let read = try #require(try JSONSerialization.jsonObject(with: Data(encoded)) as? [Any])
        let string = try #require(read[0] as? String)
        #expect(Array(string.unicodeScalars) == Array(text.unicodeScalars))
        #expect(try JSONParser.parse(encoded) == .array([.string(text), .object([(text, .null)])]))
    }
}
