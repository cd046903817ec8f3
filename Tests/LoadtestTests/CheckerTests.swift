import Testing

@testable import carillon_loadtest

private func position(_ seq: UInt64, epoch: UInt64 = 1) -> StreamPosition { StreamPosition(epoch: epoch, seq: seq) }
private func id(_ number: UInt64) -> NotificationID { NotificationID(high: 0, low: number) }

@Suite("Sequence")
struct SequenceTests {
    private func joined(at seq: UInt64 = 10) -> SequenceChecker {
        var checker = SequenceChecker()
        checker.join(position(seq))
        return checker
    }

    @Test("numbers in order are next")
    func inOrder() {
        var checker = joined()
        for seq in 11...20 { #expect(checker.observe(position(UInt64(seq))) == .next) }
        #expect(checker.lost(upTo: 20) == 0)
        #expect(checker.showed(15))
        #expect(!checker.showed(10))
        #expect(!checker.showed(21))
    }

    @Test("a gap is lost until its numbers come late")
    func gap() {
        var checker = joined()
        #expect(checker.observe(position(15)) == .gap(4))
        #expect(checker.missingCount == 4)
        #expect(checker.observe(position(13)) == .late)
        #expect(checker.observe(position(13)) == .duplicate)
        #expect(checker.observe(position(11)) == .late)
        #expect(checker.observe(position(14)) == .late)
        #expect(checker.observe(position(16)) == .next)
        #expect(checker.missingCount == 1)
        #expect(checker.reordered == 3)
        #expect(checker.duplicated == 1)
        #expect(!checker.showed(12))
        #expect(checker.showed(13))
        #expect(checker.lost(upTo: 20) == 5)
    }

    @Test("every order of five numbers loses none and counts each late one", arguments: 0..<120)
    func permutations(index: Int) {
        var rest = Array(UInt64(1)...5)
        var order: [UInt64] = []
        var code = index
        for size in stride(from: 5, to: 0, by: -1) {
            order.append(rest.remove(at: code % size))
            code /= size
        }
        var checker = joined(at: 0)
        var highest: UInt64 = 0
        var late: UInt64 = 0
        for seq in order {
            if seq < highest { late += 1 }
            highest = max(highest, seq)
            _ = checker.observe(position(seq))
        }
        #expect(checker.missingCount == 0)
        #expect(checker.reordered == late)
        #expect(checker.duplicated == 0)
    }

    @Test("numbers up to the join are duplicates")
    func beforeJoin() {
        var checker = joined()
        #expect(checker.observe(position(10)) == .duplicate)
        #expect(checker.observe(position(3)) == .duplicate)
    }

    @Test("a later ready does not hide what it skips")
    func resumedReady() {
        var checker = joined()
        checker.join(position(20))
        #expect(checker.observe(position(21)) == .gap(10))
    }

    @Test("a resync moves the position and forgives what it covers")
    func resync() {
        var checker = joined()
        checker.resync(position(30))
        #expect(checker.observe(position(31)) == .next)
        #expect(checker.lost(upTo: 31) == 0)
    }

    @Test("another epoch, and an event before ready, are errors of their own")
    func epochs() {
        var checker = SequenceChecker()
        #expect(checker.observe(position(5)) == .beforeReady)
        #expect(checker.observe(position(6, epoch: 2)) == .wrongEpoch)
        #expect(checker.observe(position(7, epoch: 2)) == .next)
        #expect(checker.beforeReady == 1)
        #expect(checker.wrongEpoch == 1)
        #expect(checker.lost(upTo: 7) == 0)
    }

    @Test("a wide gap costs one entry")
    func wide() {
        var checker = joined(at: 0)
        #expect(checker.observe(position(.max - 1)) == .gap(.max - 2))
        #expect(checker.missingCount == UInt64.max - 2)
    }
}

@Suite("Unread")
struct UnreadTests {
    @Test("each change moves the count as it must")
    func changes() {
        var model = UnreadModel()
        model.join(unread: 3)
        #expect(model.apply(.created(id(1), read: false), seq: 1, shown: 4) == .right)
        #expect(model.apply(.created(id(2), read: false), seq: 2, shown: 5) == .right)
        #expect(model.apply(.updated(id(1), read: true), seq: 3, shown: 4) == .right)
        #expect(model.apply(.updated(id(1), read: true), seq: 4, shown: 4) == .right)
        #expect(model.apply(.updated(id(1), read: false), seq: 5, shown: 5) == .right)
        #expect(model.apply(.allSeen, seq: 6, shown: 5) == .right)
        #expect(model.apply(.deleted(id(1)), seq: 7, shown: 4) == .right)
        #expect(model.apply(.allRead, seq: 8, shown: 0) == .right)
        #expect(model.apply(.deleted(id(2)), seq: 9, shown: 0) == .right)
        #expect(model.apply(.created(id(3), read: true), seq: 10, shown: 0) == .right)
    }

    @Test("after a read-all, what was unread is read, and what is made unread again counts")
    func mark() {
        var model = UnreadModel()
        model.join(unread: 0)
        _ = model.apply(.created(id(1), read: false), seq: 1, shown: 1)
        _ = model.apply(.allRead, seq: 2, shown: 0)
        #expect(model.apply(.updated(id(1), read: false), seq: 3, shown: 1) == .right)
        #expect(model.apply(.deleted(id(1)), seq: 4, shown: 0) == .right)
    }

    @Test("a lie is one error and does not move the model")
    func lie() {
        var model = UnreadModel()
        model.join(unread: 0)
        #expect(model.apply(.created(id(1), read: false), seq: 1, shown: 9) == .wrong)
        #expect(model.apply(.created(id(2), read: false), seq: 2, shown: 2) == .right)
        #expect(model.apply(.created(id(3), read: false), seq: 3, shown: nil) == .wrong)
        #expect(model.apply(.created(id(4), read: false), seq: 4, shown: 4) == .right)
    }

    @Test("what the model cannot know is taken over unchecked")
    func unknown() {
        var model = UnreadModel()
        model.join(unread: 5)
        #expect(model.apply(.deleted(id(7)), seq: 1, shown: 4) == .unchecked)
        #expect(model.apply(.unknown, seq: 2, shown: 1) == .unchecked)
        #expect(model.apply(.created(id(8), read: false), seq: 3, shown: 2) == .right)
        model.restart(unread: 6)
        #expect(model.apply(.deleted(id(8)), seq: 4, shown: 5) == .unchecked)
    }

    @Test("memory is bounded: the oldest notifications go unchecked")
    func bounded() {
        var model = UnreadModel()
        model.join(unread: 0)
        for number in 1...5_000 { _ = model.apply(.created(id(UInt64(number)), read: false), seq: UInt64(number), shown: Int64(number)) }
        #expect(!model.knows(id(1)))
        #expect(model.apply(.deleted(id(1)), seq: 5_001, shown: 4_999) == .unchecked)
        #expect(model.apply(.deleted(id(5_000)), seq: 5_002, shown: 4_998) == .right)
    }
}

@Suite("Streams")
struct StreamCheckerTests {
    private func event(_ name: SSEBlock.Name, _ seq: UInt64, _ number: UInt64? = nil, unread: Int64? = nil, read: Bool? = nil) -> StreamEvent {
        StreamEvent(
            name: name, id: .position(position(seq)), facts: StreamEvent.Facts(notification: number.map(id), unread: unread, read: read)
        )
    }

    private func joined() -> StreamChecker {
        var checker = StreamChecker()
        #expect(checker.receive(event(.ready, 5, unread: 0)) == .joined)
        return checker
    }

    @Test("an acknowledgement pairs with the event, whichever comes first")
    func pairs() {
        var checker = joined()
        checker.acknowledge(id(1), seq: 6)
        _ = checker.receive(event(.message, 6, 1, unread: 1, read: false))
        _ = checker.receive(event(.message, 7, 2, unread: 2, read: false))
        checker.acknowledge(id(2), seq: 7)
        #expect(checker.lost(head: 7) == 0)
    }

    @Test("an acknowledged notification that never came is lost once")
    func lostTail() {
        var checker = joined()
        checker.acknowledge(id(1), seq: 6)
        #expect(checker.lost(head: 6) == 1)
        _ = checker.receive(event(.message, 7, 2, unread: 2, read: false))
        #expect(checker.lost(head: 7) == 1)
    }

    @Test("a number that came with something else loses the acknowledged notification")
    func otherContent() {
        var checker = joined()
        checker.acknowledge(id(1), seq: 6)
        _ = checker.receive(event(.readAll, 6, unread: 0))
        #expect(checker.lost(head: 6) == 1)
        var other = joined()
        other.acknowledge(id(1), seq: 6)
        _ = other.receive(event(.message, 6, 2, unread: 1, read: false))
        #expect(other.lost(head: 6) == 1)
    }

    @Test("on a resume a deletion may stand under the creation's number")
    func replayedDeletion() {
        var checker = joined()
        checker.acknowledge(id(1), seq: 6)
        #expect(checker.receive(event(.ready, 5, unread: 0)) == .resumed)
        _ = checker.receive(event(.delete, 6, 1, unread: 1))
        _ = checker.receive(event(.delete, 7, 1, unread: 0))
        #expect(checker.lost(head: 7) == 0)
    }

    @Test("after a gap the count goes on from what the server says")
    func gap() {
        var checker = joined()
        _ = checker.receive(event(.message, 8, 1, unread: 3, read: false))
        _ = checker.receive(event(.message, 7, 2, unread: 2, read: false))
        _ = checker.receive(event(.message, 9, 3, unread: 4, read: false))
        #expect(checker.unreadWrong == 0)
        #expect(checker.sequence.reordered == 1)
        #expect(checker.lost(head: 9) == 1)
    }

    @Test("a block with only an id moves the position along")
    func idOnly() {
        var checker = joined()
        _ = checker.receive(StreamEvent(name: .message, id: .position(position(6)), hasData: false, facts: .init()))
        _ = checker.receive(event(.message, 7, 3, unread: 1, read: false))
        #expect(checker.lost(head: 7) == 0)
        #expect(checker.unreadWrong == 0)
        #expect(checker.unreadUnchecked == 1)
    }

    @Test("direct events have no number and are not checked")
    func direct() {
        var checker = joined()
        #expect(checker.receive(StreamEvent(name: .message, id: .absent, facts: .init())) == .unnumbered)
        #expect(checker.lost(head: 5) == 0)
    }

    @Test("a malformed id is counted")
    func malformed() {
        var checker = joined()
        #expect(checker.receive(StreamEvent(name: .message, id: .malformed, facts: .init())) == .malformed)
        #expect(checker.receive(StreamEvent(name: .ready, id: .absent, facts: .init())) == .malformed)
        #expect(checker.malformed == 2)
    }

    @Test("the API's count is compared only at the same position")
    func agreement() {
        var checker = joined()
        _ = checker.receive(event(.message, 6, 1, unread: 1, read: false))
        #expect(checker.agrees(unread: 1, at: position(6)))
        #expect(!checker.agrees(unread: 2, at: position(6)))
        #expect(checker.agrees(unread: 2, at: position(7)))
    }

    @Test("what is acknowledged from before the join is not expected")
    func earlier() {
        var checker = joined()
        checker.acknowledge(id(1), seq: 5)
        #expect(checker.lost(head: 5) == 0)
    }
}
