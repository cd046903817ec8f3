import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore
import Testing

@testable import API

@Suite("What the API reads and writes")
struct UnitTests {
    private let user = UserID("u")!

    private func parse(_ query: String) throws -> InboxQuery {
        try ListQuery.parse(Query(query), user: self.user, scope: nil, catalogue: Catalogue([Catalogue.Kind(name: "chat", aliases: ["chats"])]))
    }

    @Test("a list without a query is the first page, unread ones first")
    func defaults() throws {
        let query = try self.parse("")
        #expect(query.limit == 50)
        #expect(query.offset == 0)
        #expect(query.after == nil)
        #expect(query.status == .all)
        #expect(query.archived == .no)
        #expect(query.order == .unreadFirst)
    }

    @Test("a list's parameters are taken as they are meant")
    func parameters() throws {
        let query = try self.parse(
            "limit=200&offset=10&status=unread&archived=all&order=newest&customer_id=a%2Fb&type=chats&event=e&level=ERROR&priority=URGENT&since=2026-01-01T00:00:00Z"
        )
        #expect(query.limit == 200)
        #expect(query.offset == 10)
        #expect(query.status == .unread)
        #expect(query.archived == .all)
        #expect(query.order == .newest)
        #expect(query.customer == "a/b")
        #expect(query.type == "chat")
        #expect(query.level == .error)
        #expect(query.priority == .urgent)
        #expect(query.since == Timestamp("2026-01-01T00:00:00Z"))
    }

    @Test("a wrong parameter is refused by its name, never clamped", arguments: [
        ("limit=0", "limit"), ("limit=201", "limit"), ("limit=", "limit"), ("limit=+5", "limit"), ("limit=5.0", "limit"),
        ("limit=99999999999999999999", "limit"), ("offset=-1", "offset"), ("offset=x", "offset"), ("after=zzz", "after"), ("after=", "after"),
        ("after=AQAAAAAAAAAAKg&offset=0", "after"), ("status=new", "status"), ("archived=1", "archived"), ("order=oldest", "order"),
        ("level=error", "level"), ("priority=9", "priority"), ("since=yesterday", "since"), ("until=2026-13-01T00:00:00Z", "until"),
        ("customer_id=", "customer_id"), ("type=%00", "type"),
    ])
    func refused(query: String, name: String) throws {
        do {
            _ = try self.parse(query)
            Issue.record("was taken")
        } catch let problem as Problem {
            #expect(problem.status == .unprocessableEntity)
            #expect(problem.code == "notifications_m.invalid_body")
            #expect(problem.errors.map(\.pointer) == [name])
        }
    }

    @Test("a cursor comes back as it was made, and counts only for its order")
    func cursors() {
        for seq in [0, 1, 42, 1 << 40, Int64.max] {
            for unread in [true, false] {
                for order in InboxQuery.Order.allCases {
                    let cursor = InboxQuery.Cursor(unread: unread, seq: seq)
                    let text = PageCursor.encode(cursor, order: order)
                    #expect(PageCursor.decode(text, order: order) == cursor)
                    #expect(PageCursor.decode(text, order: order == .newest ? .unreadFirst : .newest) == nil)
                }
            }
        }
        #expect(PageCursor.decode("", order: .newest) == nil)
        #expect(PageCursor.decode("______________", order: .newest) == nil)
    }

    @Test("the next page's link keeps the query and replaces the place")
    func link() {
        #expect(ListQuery.next(Query("limit=2&offset=4&type=a%26b"), cursor: "XYZ") == "</v1/notifications?limit=2&type=a%26b&after=XYZ>; rel=\"next\"")
    }

    private let counts = InboxHead(
        position: StreamPosition(epoch: 1, seq: 9), unread: 6, unseen: 3,
        counts: "{\"\\u001f\":[1,1],\"\\u001fchat\":[1,1],\"a\\u001f\":[3,2],\"a\\u001fchat\":[2,2],\"a\\u001ftask\":[1,0],\"b\\u001f\":[2,0],\"b\\u001ftask\":[2,0]}")

    @Test("a token sees the sums of its customers and of none; a filter sees its own")
    func sums() {
        let counts = InboxCounts(self.counts)
        #expect(counts.numbers(customers: nil) == InboxCounts.Numbers(unread: 6, unseen: 3))
        #expect(counts.numbers(customers: ["a"]) == InboxCounts.Numbers(unread: 4, unseen: 3))
        #expect(counts.numbers(customers: []) == InboxCounts.Numbers(unread: 1, unseen: 1))
        #expect(counts.numbers(customers: nil, customer: "b") == InboxCounts.Numbers(unread: 2, unseen: 0))
        #expect(counts.numbers(customers: ["a"], customer: "a") == InboxCounts.Numbers(unread: 3, unseen: 2))
        #expect(counts.numbers(customers: nil, customer: "c") == InboxCounts.Numbers(unread: 0, unseen: 0))
    }

    @Test("a count's answer has the unread ones by type")
    func countAnswer() {
        let answer = { String(decoding: InboxReads.countAnswer(self.counts, customers: $0, customer: $1), as: UTF8.self) }
        #expect(answer(nil, nil) == "{\"unread\":6,\"unseen\":3,\"by_type\":{\"chat\":3,\"task\":3},\"last_event_id\":\"1-9\"}")
        #expect(answer(["a"], nil) == "{\"unread\":4,\"unseen\":3,\"by_type\":{\"chat\":3,\"task\":1},\"last_event_id\":\"1-9\"}")
        #expect(answer(nil, "b") == "{\"unread\":2,\"unseen\":0,\"by_type\":{\"task\":2},\"last_event_id\":\"1-9\"}")
    }

    @Test("flags are taken, none of them is an empty change, and others are refused")
    func flags() throws {
        #expect(try FlagsBody(ByteBuffer()).isEmpty)
        #expect(try FlagsBody(ByteBuffer(string: "{}")).isEmpty)
        let body = try FlagsBody(ByteBuffer(string: "{\"read\":false,\"seen\":true}"))
        #expect(body.read == false)
        #expect(body.seen == true)
        #expect(body.archived == nil)
        for (text, status) in [
            ("{\"title\":\"x\"}", 422), ("{\"read\":1}", 422), ("{\"archived\":true,\"read\":false}", 422), ("[]", 422), ("{", 400), ("\u{0}", 400),
        ] {
            do {
                _ = try FlagsBody(ByteBuffer(string: text))
                Issue.record("was taken")
            } catch {
                #expect(error.status.code == UInt(status))
            }
        }
    }

    @Test("a notify answer has an id, user and number for each, null where there is none, and who was skipped; it is read back as it was")
    func notifyAnswer() {
        let id = NotificationID("01930000-0000-7000-8000-000000000001")!
        let plan = NotifyPlan(
            commands: [], entries: [NotifyPlan.Entry(id: id, user: UserID("a\"b")!), NotifyPlan.Entry(id: id, user: UserID("c")!)],
            skipped: [NotifyPlan.Skipped(user: UserID("d/{}")!, reason: .preference)])
        var answer = NotifyAnswer(plan)
        answer.entries[0].seq = 7
        let text = String(decoding: answer.encode(), as: UTF8.self)
        #expect(
            text == "{\"notifications\":[{\"id\":\"\(id)\",\"user_id\":\"a\\\"b\",\"seq\":7},{\"id\":\"\(id)\",\"user_id\":\"c\",\"seq\":null}],"
                + "\"skipped\":[{\"user_id\":\"d/{}\",\"reason\":\"preference\"}]}")
        #expect(NotifyAnswer(text, seqs: [id: 7])?.skipped.first?.user == UserID("d/{}"))
        #expect(NotifyAnswer("{\"notifications\":[]}", seqs: [:]) == nil)
    }

    @Test("of a body that is wrong everywhere the first twenty mistakes are named")
    func manyMistakes() throws {
        let unknown = JSONValue.object((0..<100).map { ("x\($0)", .null) })
        let words = JSONValue.object([("name", .string("n")), ("scopes", .array((0..<100).map { .string("\($0)") }))])
        let users = JSONValue.object([("id", .string("\(NotificationID.make())")), ("user_ids", .array(Array(repeating: .null, count: 100)))])
        func mistakes(_ read: () throws(Problem) -> Void) -> Int {
            do throws(Problem) { try read() } catch { return error.errors.count }
            return 0
        }
        for json in [unknown, words] {
            #expect(mistakes { () throws(Problem) in _ = try KeyBody(ByteBuffer(bytes: json.encoded), nameBound: 200) } == 20)
        }
        for json in [unknown, users] {
            #expect(mistakes { () throws(Problem) in _ = try SelectorReader.selector(json, isRest: { _ in false }, rest: "no") } == 20)
        }
        #expect(mistakes { () throws(Problem) in _ = try FlagsBody(ByteBuffer(bytes: unknown.encoded)) } == 20)
    }

    @Test("a tag matches itself, its weak form, and the asterisk")
    func tags() {
        let tag = EntityTag.make([1, 2, 3])
        #expect(EntityTag.matches([Substring(tag)], tag))
        #expect(EntityTag.matches(["\"x\"", Substring("W/" + tag)], tag))
        #expect(EntityTag.matches(["*"], tag))
        #expect(!EntityTag.matches(["\"x\""], tag))
        #expect(EntityTag.make([1, 2, 4]) != tag)
    }
}
