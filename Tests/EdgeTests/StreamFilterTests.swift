import NIOCore
import NotificationCore
import Testing

@testable import Edge

@Suite struct StreamFilterTests {
    private static let id = NotificationID(high: 1, low: 2)

    private func change(
        _ seq: Int64, _ kind: InboxChange.Kind = .created, customer: String?, unread: Int32, customerUnread: Int32, counts: String? = nil
    ) -> InboxChange {
        InboxChange(
            seq: seq, kind: kind, notification: kind == .readAll ? nil : Self.id, unread: unread, unseen: unread, customer: customer,
            customerUnread: customerUnread, customerUnseen: customerUnread, customerCounts: counts, body: Array("\"title\":\"x\"".utf8))
    }

    private func show(_ filter: inout StreamFilter, _ change: InboxChange) -> String {
        let position = StreamPosition(epoch: 1, seq: change.seq)
        return String(buffer: filter.apply(StreamItem(change, epoch: 1), position: position))
    }

    @Test("a stream without limits needs no filter")
    func none() {
        #expect(StreamFilter(allowed: nil, only: nil) == nil)
    }

    @Test("another customer's change is only a number, and does not count")
    func hidden() throws {
        var filter = try #require(StreamFilter(allowed: ["a"], only: nil))
        filter.start(customers: #"{"a":[1,1],"b":[4,4],"":[2,2]}"#, replayed: [], unreadBefore: nil)
        #expect(filter.shown(.init(unread: 7, unseen: 7)) == .init(unread: 3, unseen: 3))
        #expect(self.show(&filter, self.change(8, customer: "b", unread: 8, customerUnread: 5)) == "id: 1-8\n\n")
        let shown = self.show(&filter, self.change(9, customer: "a", unread: 9, customerUnread: 2))
        #expect(shown.hasPrefix("id: 1-9\ndata: {\"id\":"))
        #expect(shown.hasSuffix(",\"unread\":4}\n\n"))
    }

    @Test("a notification without a customer is everybody's")
    func without() throws {
        var filter = try #require(StreamFilter(allowed: ["a"], only: nil))
        filter.start(customers: "{}", replayed: [], unreadBefore: nil)
        #expect(self.show(&filter, self.change(1, customer: nil, unread: 5, customerUnread: 1)).hasSuffix("\"unread\":1}\n\n"))
    }

    @Test("a replay starts from the counts before it, whatever the head has by now")
    func replay() throws {
        let changes = [
            self.change(5, customer: "a", unread: 5, customerUnread: 2), self.change(6, customer: "b", unread: 6, customerUnread: 4),
            self.change(7, .updated, customer: "a", unread: 5, customerUnread: 1), self.change(8, customer: "a", unread: 6, customerUnread: 2),
        ]
        var filter = try #require(StreamFilter(allowed: ["a"], only: nil))
        // Before: a has 1, b has 3.
        filter.start(customers: #"{"a":[2,2],"b":[4,4]}"#, replayed: changes[...], unreadBefore: .init(unread: 4, unseen: 4))
        #expect(filter.shown(.init(unread: 4, unseen: 4)) == .init(unread: 1, unseen: 1))
        var ends: [String] = []
        for change in changes { ends.append(String(self.show(&filter, change).suffix(14))) }
        #expect(ends[0].hasSuffix("\"unread\":2}\n\n"))
        #expect(ends[1].hasSuffix("id: 1-6\n\n"))
        #expect(ends[2].hasSuffix("\"unread\":1}\n\n"))
        #expect(ends[3].hasSuffix("\"unread\":2}\n\n"))
    }

    @Test("all read of several customers brings their counts along")
    func readAll() throws {
        var filter = try #require(StreamFilter(allowed: ["a"], only: nil))
        filter.start(customers: #"{"a":[3,3],"b":[4,4]}"#, replayed: [], unreadBefore: nil)
        let shown = self.show(&filter, self.change(9, .readAll, customer: nil, unread: 5, customerUnread: 0, counts: #"{"a":[1,0],"b":[4,4]}"#))
        #expect(shown.hasPrefix("event: read_all\n"))
        #expect(shown.hasSuffix("\"unread\":1}\n\n"))
    }

    @Test("all seen says how many are unseen of what the token may see")
    func seenAll() throws {
        var filter = try #require(StreamFilter(allowed: ["a"], only: nil))
        filter.start(customers: #"{"a":[3,3],"b":[4,4]}"#, replayed: [], unreadBefore: nil)
        let shown = self.show(&filter, self.change(9, .seenAll, customer: "a", unread: 1234567, customerUnread: 0, counts: #"{"a":[3,0],"b":[4,4]}"#))
        #expect(shown == "event: update\nid: 1-9\ndata: {\"seq\":9,\"all\":true,\"seen\":true,\"customer_id\":\"a\",\"unseen\":0,\"unread\":3}\n\n")
    }

    @Test("the query's customer hides the others and leaves the count whole")
    func only() throws {
        var filter = try #require(StreamFilter(allowed: nil, only: "a"))
        #expect(self.show(&filter, self.change(1, customer: "b", unread: 1, customerUnread: 1)) == "id: 1-1\n\n")
        #expect(self.show(&filter, self.change(2, customer: nil, unread: 2, customerUnread: 1)) == "id: 1-2\n\n")
        #expect(self.show(&filter, self.change(3, customer: "a", unread: 3, customerUnread: 1)).hasSuffix("\"unread\":3}\n\n"))
    }
}
