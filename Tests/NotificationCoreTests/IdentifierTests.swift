import NotificationCore
import Testing

@Suite("identifiers and positions")
struct IdentifierTests {
    static let malformed = [
        "1", "-", "1-", "-1", "1--1", "1-2-3", "a-1", "1-a", " 1-1", "1-1 ", "1 -1", "+1-1", "1-+1", "0-1", "00-1", "01-1", "1-01", "1-00", "1-9223372036854775808",
        "9223372036854775808-1", "99999999999999999999-1", "1-00000000000000000001", "1.0-1", "0x1-1", "1-1\n", "1-1\u{0}", "１-1", "1-١", "1‐1", "1-1\u{301}",
        "1-\u{301}1", "resync", "0193-4567-89ab", String(repeating: "1", count: 10_000) + "-1", String(repeating: "-", count: 10_000),
    ]

    @Test("a position is read as it is written", arguments: [(1, 0), (1, 41), (7, 1_000_000), (Int64.max, Int64.max)] as [(Int64, Int64)])
    func position(_ epoch: Int64, _ seq: Int64) {
        let position = StreamPosition(epoch: epoch, seq: seq)
        #expect(StreamPosition(position.description) == position)
        var bytes: [UInt8] = []
        position.append(to: &bytes)
        #expect(bytes == Array("\(epoch)-\(seq)".utf8))
    }

    @Test("what this program would not write is no position, and resumes nothing", arguments: malformed)
    func malformedPosition(_ text: String) {
        #expect(StreamPosition(text) == nil)
        #expect(ResumePoint(header: text, query: "1-1") == .malformed)
        #expect(ResumePoint(header: nil, query: text) == .malformed)
    }

    @Test("the header counts before the query, and an empty one is absent")
    func resumePoint() {
        #expect(ResumePoint(header: nil, query: nil) == .fresh)
        #expect(ResumePoint(header: "", query: "") == .fresh)
        #expect(ResumePoint(header: "", query: nil) == .fresh)
        #expect(ResumePoint(header: "1-2", query: "1-3") == .after(StreamPosition(epoch: 1, seq: 2)))
        #expect(ResumePoint(header: "", query: "1-3") == .after(StreamPosition(epoch: 1, seq: 3)))
        #expect(ResumePoint(header: nil, query: "1-3") == .after(StreamPosition(epoch: 1, seq: 3)))
    }

    @Test("a new id is a UUID of version 7 with its millisecond in front")
    func version7() {
        let time = Timestamp(microseconds: 1_795_257_000_123_999)
        var ids: Set<NotificationID> = []
        for _ in 0..<1000 {
            let id = NotificationID.make(now: time)
            #expect(id.high >> 16 == 1_795_257_000_123)
            #expect(id.high >> 12 & 15 == 7)
            #expect(id.low >> 62 == 2)
            ids.insert(id)
        }
        #expect(ids.count == 1000)
        #expect(NotificationID.make(now: time) < NotificationID.make(now: Timestamp(microseconds: time.microseconds + 1000)))
        #expect(NotificationID.make(now: Timestamp(microseconds: -5)).high >> 16 == 0)
    }

    @Test("an id is read as it is written, in either case")
    func idText() {
        let text = "01934567-89ab-7cde-8123-456789abcdef"
        #expect(NotificationID(text) == Examples.id)
        #expect(NotificationID(text.uppercased()) == Examples.id)
        #expect(Examples.id.description == text)
        #expect(NotificationID(high: 0, low: 0).description == "00000000-0000-0000-0000-000000000000")
        #expect(NotificationID(high: .max, low: .max).description == "ffffffff-ffff-ffff-ffff-ffffffffffff")
        for _ in 0..<100 {
            let id = NotificationID.make()
            #expect(NotificationID(id.description) == id)
        }
    }

    @Test(
        "anything else is no id",
        arguments: [
            "", "1", "0193456789ab7cde8123456789abcdef", "{01934567-89ab-7cde-8123-456789abcdef}", "01934567-89ab-7cde-8123-456789abcde",
            "01934567-89ab-7cde-8123-456789abcdef0", "01934567-89ab-7cde-8123-456789abcdeg", "01934567-89ab-7cde-8123456789abcdef-", "01934567-89ab-7cde-8123-456789abcdé",
            "01934567_89ab_7cde_8123_456789abcdef", " 01934567-89ab-7cde-8123-456789abcde", "0193456-789ab-7cde-8123-456789abcdef", "-1934567-89ab-7cde-8123-456789abcdef",
        ])
    func noID(_ text: String) {
        #expect(NotificationID(text) == nil)
    }

    @Test(
        "ids of users may hold anything but control characters",
        arguments: ["u", "{}", "/", "%", ":", "a b", "🚢", "👩‍👩‍👧‍👦", "é", "-", "user@example.com", "\u{202E}", "\u{A0}", "\u{FEFF}", "\u{2028}"])
    func opaque(_ text: String) {
        #expect(OpaqueID(text)?.value == text)
    }

    @Test(
        "an id is not empty and holds no control character",
        arguments: ["", "\u{0}", "a\u{0}", "a\nb", "\r", "\t", "\u{1F}", "\u{7F}", "\u{80}", "\u{9F}", "\r\n"])
    func controlCharacters(_ text: String) {
        #expect(OpaqueID(text) == nil)
    }

    @Test("128 scalars are an id, however many bytes or characters they are, and 129 are not", arguments: ["a", "é", "世", "🚢", "\u{301}", "\u{200D}"])
    func length(_ scalar: String) {
        #expect(OpaqueID(String(repeating: scalar, count: 128)) != nil)
        #expect(OpaqueID(String(repeating: scalar, count: 129)) == nil)
    }

    @Test("ids are the same when their bytes are, and ordered by them")
    func bytes() throws {
        let composed = try #require(OpaqueID("\u{E9}"))
        let decomposed = try #require(OpaqueID("e\u{301}"))
        #expect(composed != decomposed)
        #expect(Set([composed, decomposed, composed]).count == 2)
        #expect(decomposed < composed)
        // In UTF-16 order the last two would change places.
        let ids = try ["", "A", "a", "aa", "b", "\u{E9}", "\u{FF5E}", "🚢"].dropFirst().map { try #require(OpaqueID($0)) }
        #expect(ids.shuffled().sorted() == ids)
    }
}
