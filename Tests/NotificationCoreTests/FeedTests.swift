import NotificationCore
import Testing

/// What the searches through all orders rest on, one sentence each, and the bounds of memory.
@Suite("the feed")
struct FeedTests {
    typealias Machine = Feed<StreamPosition, Int>

    static func entries(_ range: ClosedRange<Int64>, epoch: Int64 = 1) -> [Machine.Entry] {
        range.map { Machine.Entry(seq: $0, item: StreamPosition(epoch: epoch, seq: $0)) }
    }

    static func result(_ head: Int64, _ entries: [Machine.Entry]?, epoch: Int64 = 1) -> Machine.ReadResult {
        Machine.ReadResult(head: StreamPosition(epoch: epoch, seq: head), entries: entries)
    }

    /// A feed at 1-`head` with the live reader 0.
    static func live(at head: Int64) -> Machine {
        var feed = Machine()
        var actions: [Machine.Action] = []
        feed.join(0, resume: .fresh, &actions)
        feed.readDone(Self.result(head, nil), &actions)
        return feed
    }

    /// The actions in a short form that can be compared.
    static func words(_ actions: [Machine.Action]) -> [String] {
        func list(_ entries: [Machine.Entry]) -> String { entries.map { "\($0.seq)" }.joined(separator: " ") }
        return actions.map {
            switch $0 {
            case .read(let after): "read \(after.map(\.description) ?? "head")"
            case .startGapTimer: "gap timer"
            case .startRetryTimer: "retry timer"
            case .deliver(let entries): "deliver \(list(entries))"
            case .ready(let reader, let at): "\(reader) ready \(at)"
            case .replay(let reader, let entries): "\(reader) replay \(list(entries))"
            case .resync(let reader, let at): "\(reader) resync \(at)"
            case .resyncLive(let at): "resync \(at)"
            case .live(let reader): "\(reader) live"
            case .refuse(let reader): "\(reader) refuse"
            }
        }
    }

    static func words(_ feed: inout Machine, _ body: (inout Machine, inout [Machine.Action]) -> Void) -> [String] {
        var actions: [Machine.Action] = []
        body(&feed, &actions)
        return Self.words(actions)
    }

    /// How many elements the machine keeps in one of its arrays.
    static func kept(_ name: String, in feed: Machine) throws -> Int {
        let value = try #require(Mirror(reflecting: feed).children.first { $0.label == name }?.value)
        return try #require(value as? [Machine.Entry]).count
    }

    @Test("a first reader joins at the head, one that resumes is replayed up to it")
    func joins() {
        var feed = Machine()
        #expect(Self.words(&feed) { $0.join(0, resume: .fresh, &$1) } == ["read head"])
        #expect(Self.words(&feed) { $0.join(1, resume: .after(StreamPosition(epoch: 1, seq: 3)), &$1) } == [])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, nil), &$1) } == ["0 ready 1-5", "0 live", "read 1-3"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, Self.entries(4...5)), &$1) } == ["1 ready 1-3", "1 replay 4 5", "1 live"])
        #expect(feed.isQuiet)
        let followed = feed.advance(epoch: 1, first: 6, last: 7)
        #expect(followed)
        #expect(feed.position == StreamPosition(epoch: 1, seq: 7))
    }

    @Test("a resume at the head needs no replay")
    func resumeAtHead() {
        var feed = Machine()
        #expect(Self.words(&feed) { $0.join(0, resume: .after(StreamPosition(epoch: 1, seq: 5)), &$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, []), &$1) } == ["0 ready 1-5", "0 live"])
    }

    @Test(
        "a resume that has no replay is answered with ready and resync at the head",
        arguments: [
            ResumePoint.malformed, .after(StreamPosition(epoch: 2, seq: 1)), .after(StreamPosition(epoch: 1, seq: 6)), .after(StreamPosition(epoch: 1, seq: 0)),
        ])
    func resync(_ resume: ResumePoint) {
        var feed = Machine()
        _ = Self.words(&feed) { $0.join(0, resume: resume, &$1) }
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, nil), &$1) } == ["0 ready 1-5", "0 resync 1-5", "0 live"])
    }

    @Test("a gap that closes by itself costs no read")
    func gapCloses() {
        var feed = Self.live(at: 5)
        #expect(Self.words(&feed) { $0.receive(epoch: 1, Self.entries(7...8), &$1) } == ["gap timer"])
        #expect(Self.words(&feed) { $0.receive(epoch: 1, Self.entries(6...6), &$1) } == ["deliver 6", "deliver 7 8"])
        #expect(Self.words(&feed) { $0.gapTimerFired(&$1) } == [])
        #expect(feed.isQuiet)
    }

    @Test("a gap that stays is read when its timer fires")
    func gapStays() {
        var feed = Self.live(at: 5)
        #expect(Self.words(&feed) { $0.receive(epoch: 1, Self.entries(8...8), &$1) } == ["gap timer"])
        #expect(Self.words(&feed) { $0.gapTimerFired(&$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(7, Self.entries(6...7)), &$1) } == ["deliver 6 7", "deliver 8"])
        #expect(feed.isQuiet)
    }

    @Test("what is known while the first read is under way is not forgotten for its older answer")
    func knownDuringFirstRead() {
        var feed = Machine()
        _ = Self.words(&feed) { $0.join(0, resume: .fresh, &$1) }
        #expect(Self.words(&feed) { $0.headKnown(6, &$1) } == [])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, nil), &$1) } == ["0 ready 1-5", "0 live", "gap timer"])
    }

    @Test("a number that the log never had is asked for once")
    func staleKnown() {
        var feed = Self.live(at: 5)
        #expect(Self.words(&feed) { $0.headKnown(9, &$1) } == ["gap timer"])
        #expect(Self.words(&feed) { $0.gapTimerFired(&$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, []), &$1) } == [])
        #expect(feed.isQuiet)
    }

    @Test("a reader that joins while a gap waits for its timer has it read at once, and once")
    func joinsInGap() {
        var feed = Self.live(at: 5)
        #expect(Self.words(&feed) { $0.headKnown(7, &$1) } == ["gap timer"])
        #expect(Self.words(&feed) { $0.join(1, resume: .fresh, &$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(7, Self.entries(6...7)), &$1) } == ["deliver 6 7", "1 ready 1-7", "1 live"])
    }

    @Test("a comparison that is asked for during a read is not done by that read")
    func reconcileDuringRead() {
        var feed = Self.live(at: 5)
        #expect(Self.words(&feed) { $0.reconcile(&$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.reconcile(&$1) } == [])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, []), &$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(6, Self.entries(6...6)), &$1) } == ["deliver 6"])
    }

    @Test("a comparison that is asked for during the first read is done after it")
    func reconcileDuringFirstRead() {
        var feed = Machine()
        _ = Self.words(&feed) { $0.join(0, resume: .fresh, &$1) }
        #expect(Self.words(&feed) { $0.reconcile(&$1) } == [])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, nil), &$1) } == ["0 ready 1-5", "0 live", "read 1-5"])
    }

    @Test("a message of a later epoch during a read has the log read again")
    func laterEpochDuringRead() {
        var feed = Self.live(at: 5)
        #expect(Self.words(&feed) { $0.reconcile(&$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.receive(epoch: 2, Self.entries(3...3, epoch: 2), &$1) } == [])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, []), &$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(2, nil, epoch: 2), &$1) } == ["resync 2-2", "deliver 3"])
        #expect(feed.isQuiet)
    }

    @Test("a message of an epoch that the log does not have is dropped after one read")
    func voidEpoch() {
        var feed = Self.live(at: 5)
        #expect(Self.words(&feed) { $0.receive(epoch: 7, Self.entries(6...6, epoch: 7), &$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, []), &$1) } == [])
        #expect(feed.isQuiet)
    }

    @Test("a reader's point of another epoch does not make the live readers start anew")
    func foreignPoint() {
        var feed = Self.live(at: 5)
        #expect(Self.words(&feed) { $0.join(1, resume: .after(StreamPosition(epoch: 9, seq: 5)), &$1) } == ["read 1-5"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(6, Self.entries(6...6)), &$1) } == ["deliver 6", "1 ready 1-6", "1 resync 1-6", "1 live"])
    }

    @Test("a failed read refuses who has not joined, and the others wait for a timer")
    func failure() {
        var feed = Self.live(at: 5)
        _ = Self.words(&feed) { $0.rejoin(1, after: StreamPosition(epoch: 1, seq: 4), &$1) }
        _ = Self.words(&feed) { $0.join(2, resume: .fresh, &$1) }
        #expect(Self.words(&feed) { $0.readFailed(&$1) } == ["2 refuse", "retry timer"])
        #expect(Self.words(&feed) { $0.gapTimerFired(&$1) } == ["read 1-4"])
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, Self.entries(5...5)), &$1) } == ["1 replay 5", "1 live"])
    }

    @Test("a failed comparison is done later")
    func failedComparison() {
        var feed = Self.live(at: 5)
        _ = Self.words(&feed) { $0.reconcile(&$1) }
        #expect(Self.words(&feed) { $0.readFailed(&$1) } == ["retry timer"])
        #expect(Self.words(&feed) { $0.gapTimerFired(&$1) } == ["read 1-5"])
    }

    @Test("a reader that reads again before the feed began is not forgotten when the first read fails")
    func rejoinBeforeBegin() {
        var feed = Machine()
        #expect(Self.words(&feed) { $0.rejoin(0, after: StreamPosition(epoch: 1, seq: 4), &$1) } == ["read 1-4"])
        #expect(Self.words(&feed) { $0.readFailed(&$1) } == ["retry timer"])
        #expect(Self.words(&feed) { $0.gapTimerFired(&$1) } == ["read 1-4"])
    }

    @Test("no more is kept ahead than the bound, and the rest is read")
    func aheadBound() throws {
        var feed = Self.live(at: 5)
        for seq in Int64(7)...400 {
            _ = Self.words(&feed) { $0.receive(epoch: 1, Self.entries(seq...seq), &$1) }
            #expect(try Self.kept("ahead", in: feed) <= Machine.aheadBound)
        }
        #expect(try Self.kept("ahead", in: feed) == Machine.aheadBound)
        let delivered = Self.words(&feed) { $0.receive(epoch: 1, Self.entries(6...6), &$1) }
        #expect(delivered.count == 2)
        #expect(feed.position == StreamPosition(epoch: 1, seq: 6 + Int64(Machine.aheadBound)))
        #expect(Self.words(&feed) { $0.gapTimerFired(&$1) } == ["read 1-\(6 + Machine.aheadBound)"])
    }

    @Test("what comes twice before what it follows is kept once")
    func aheadDoubles() throws {
        var feed = Self.live(at: 5)
        for _ in 0..<3 { _ = Self.words(&feed) { $0.receive(epoch: 1, Self.entries(7...8), &$1) } }
        #expect(try Self.kept("ahead", in: feed) == 2)
    }

    @Test("what came during the first read and had no room is not forgotten")
    func aheadBoundAtFirst() {
        var feed = Machine()
        _ = Self.words(&feed) { $0.join(0, resume: .fresh, &$1) }
        _ = Self.words(&feed) { $0.receive(epoch: 1, Self.entries(6...300), &$1) }
        let words = Self.words(&feed) { $0.readDone(Self.result(5, nil), &$1) }
        #expect(words.last == "gap timer")
        #expect(feed.position == StreamPosition(epoch: 1, seq: 5 + Int64(Machine.aheadBound)))
    }

    @Test("no more is kept of what is delivered during a read than the bound, and a reader that needs it is read again")
    func recentBound() throws {
        var feed = Self.live(at: 5)
        #expect(Self.words(&feed) { $0.rejoin(1, after: StreamPosition(epoch: 1, seq: 4), &$1) } == ["read 1-4"])
        for seq in Int64(6)...300 {
            #expect(Self.words(&feed) { $0.receive(epoch: 1, Self.entries(seq...seq), &$1) } == ["deliver \(seq)"])
            #expect(try Self.kept("recent", in: feed) <= Machine.recentBound)
        }
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, Self.entries(5...5)), &$1) } == ["1 replay 5", "read 1-5"])
        let words = Self.words(&feed) { $0.readDone(Self.result(300, Self.entries(6...300)), &$1) }
        #expect(words.count == 2)
        #expect(words.last == "1 live")
        #expect(try Self.kept("recent", in: feed) == 0)
    }

    @Test("a reader that leaves takes nothing with it")
    func leaves() {
        var feed = Machine()
        _ = Self.words(&feed) { $0.join(0, resume: .fresh, &$1) }
        feed.leave(0)
        #expect(Self.words(&feed) { $0.readDone(Self.result(5, nil), &$1) } == [])
        #expect(feed.isQuiet)
        #expect(feed.behindCount == 0)
    }
}
