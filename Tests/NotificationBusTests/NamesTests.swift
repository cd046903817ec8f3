import NotificationCore
import NotificationStore
import Testing

@testable import NotificationBus

@Suite struct NamesTests {
    @Test("a user's names have the user, percent-encoded, as hash tag", arguments: [
        ("alice", "p:{alice}:ch"), ("a:b/c%d", "p:{a%3Ab%2Fc%25d}:ch"), ("{}", "p:{%7B%7D}:ch"), ("🔔", "p:{%F0%9F%94%94}:ch"),
    ])
    func encoding(user: String, channel: String) throws {
        #expect(RedisNames(prefix: "p").channel(try #require(UserID(user))) == channel)
    }

    @Test("names of different users, and of the service itself, never meet")
    func distinct() throws {
        let names = RedisNames(prefix: "p")
        let users = try ["edges", "edge:1", "bcast", "key:01930000-0000-7000-8000-000000000001", "a", "a}:ch{", "A", "é", "e\u{301}"].map { try #require(UserID($0)) }
        let all = users.flatMap { [names.channel($0), names.counts($0), names.leases($0), names.evictions($0), names.rate(.user($0), window: 7)] } + [
            names.rate(.key(NotificationID("01930000-0000-7000-8000-000000000001")!), window: 7), names.edges, names.broadcast, names.control(edge: "1"), names.mark(cluster: "1")]
        #expect(Set(all.map { Array($0.utf8) }).count == all.count)
    }

    @Test("a mark is what a node wrote, or none", arguments: [
        ("1 1 25", ClusterMark(epoch: 1, place: LogPosition(timeline: 1, lsn: 25))),
        ("1795306768 2 18446744073709551615", ClusterMark(epoch: 1_795_306_768, place: LogPosition(timeline: 2, lsn: .max))),
        ("", nil), ("1 1", nil), ("1 1 1 1", nil), ("0 1 1", nil), ("1 0 1", nil), ("1 1 -1", nil), ("a 1 1", nil),
    ])
    func mark(text: String, mark: ClusterMark?) {
        #expect(ClusterMarks.parse(text) == mark)
        if let mark { #expect(ClusterMarks.text(mark) == text) }
    }

    @Test("a lease's member says edge, transport and connection, and what no edge wrote is none", arguments: Transport.allCases)
    func member(_ transport: Transport) throws {
        let lease = Lease(user: try #require(UserID("a/b")), connection: NotificationID.make(), openedAt: .now(), transport: transport)
        let member = lease.member(edge: "17-x-edge%2D1")
        let parsed = try #require(Lease.parse(member: member))
        #expect(parsed == ("17-x-edge%2D1", transport, lease.connection.description))
        // Edges find a connection by the member's end.
        #expect(member.hasSuffix("/\(lease.connection)"))
        for text in ["", "edge", "edge/other/\(lease.connection)", "\(member)/a/b"] { #expect(Lease.parse(member: text) == nil) }
    }

    @Test("a control message comes back as it was", arguments: ["alice", "a b", "🔔 \"x\"", "[]"])
    func control(user: String) throws {
        let user = try #require(UserID(user))
        let messages: [Control] = [
            .evict(user, connection: "c-1"), .renew(user, connection: "c", expiresAt: 17, customers: nil),
            .renew(user, connection: "c", expiresAt: 17, customers: ["x", "y z"]),
        ]
        for message in messages { #expect(Control(message.text) == message) }
    }

    @Test("what is no control message is none", arguments: ["", "evict", "[]", "[\"evict\"]", "[\"evict\",\"\",\"c\"]", "[\"renew\",\"u\",\"c\",\"x\",null]"])
    func noControl(text: String) {
        #expect(Control(text) == nil)
    }

    @Test("a question and its answer come back as they were, and neither is taken for a control message", arguments: ["alice", "a b", "🔔 \"x\"", "[]", "%2D-"])
    func question(user: String) throws {
        let user = try #require(UserID(user))
        let questions: [EdgeQuestion] = [
            .report(answerTo: "list", after: nil, limit: 1), .report(answerTo: "list", after: user, limit: 201), .disconnect(user, answerTo: "list"),
        ]
        for question in questions {
            #expect(EdgeQuestion(question.text) == question)
            #expect(Control(question.text) == nil)
        }
        let answer = EdgeAnswer(streams: 12, users: [.init(user: user, streams: 11), .init(user: try #require(UserID("z")), streams: 1)])
        let parsed = try #require(EdgeAnswer.parse(answer.text(edge: "1-a-" + user.value)))
        #expect(parsed.edge == "1-a-" + user.value && parsed.answer == answer)
    }

    @Test("what is no question, or no answer, is none", arguments: [
        "", "[]", "[\"report\"]", "[\"report\",\"l\",null]", "[\"report\",\"l\",null,0]", "[\"report\",\"l\",null,\"1\"]", "[\"disconnect\",\"l\",\"\"]",
        "[\"x\",\"l\",\"u\"]", "[\"e\",1,[[\"u\"]]]", "[\"e\",\"1\",[]]", "[\"e\",1,[[\"\",1]]]",
    ])
    func noQuestion(text: String) {
        #expect(EdgeQuestion(text) == nil && EdgeAnswer.parse(text) == nil)
    }

    @Test("an edge's name tells its node and when it began", arguments: ["edge-1", "a/b", "ü %41", "", "-"])
    func incarnation(node: String) throws {
        let name = EdgeIncarnation.make(node: node)
        #expect(!name.contains("/"))
        let edge = try #require(EdgeIncarnation(name))
        #expect(edge.node == node && edge.name == name && abs(Timestamp.now().seconds - edge.since.seconds) < 60)
        for text in ["", "x-y-z", "-1-a-b", "5", "5-a"] { #expect(EdgeIncarnation(text) == nil) }
    }

    @Test("a copy of counts is read as it was written, and nothing else is")
    func copies() throws {
        let head = InboxHead(position: StreamPosition(epoch: 3, seq: 41), unread: 5, unseen: 2, counts: "{\"a b\\u001f\": [5, 2]}")
        #expect(CountCopies.parse(String(decoding: CountCopies.text(head), as: UTF8.self)) == head)
        #expect(CountCopies.parse("3 41 5 2 {\"a b\\u001f\": [5, 2]}") == head)
        for text in ["", "1", "1 2 3 4", "x 2 3 4 {}"] { #expect(CountCopies.parse(text) == nil) }
    }

    @Test("copies have the order of their positions, as texts")
    func order() {
        let numbers: [Int64] = [0, 1, 9, 10, 99, 1_795_340_316, .max]
        let positions = numbers.flatMap { epoch in numbers.map { StreamPosition(epoch: epoch, seq: $0) } }
        let texts = positions.map { String(decoding: CountCopies.text(InboxHead(position: $0, unread: 1, unseen: 1, counts: "{}")), as: UTF8.self) }
        #expect(texts == texts.sorted() && Set(texts).count == texts.count)
    }

    @Test("a histogram counts each value in its bucket and all above")
    func histogram() {
        let histogram = Histogram()
        histogram.record(microseconds: 400)
        histogram.record(microseconds: 30_000, times: 3)
        histogram.record(microseconds: 60_000_000)
        let (cumulative, sum) = histogram.snapshot
        #expect(cumulative.first == 1)
        #expect(cumulative[Histogram.bounds.firstIndex(of: 0.025)!] == 1)
        #expect(cumulative[Histogram.bounds.firstIndex(of: 0.05)!] == 4)
        #expect(cumulative.last == 5)
        #expect(abs(sum - 60.0904) < 0.000001)
    }
}
