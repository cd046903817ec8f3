import SeededRandom
import Testing

@testable import NotificationCore

extension RateWindows {
    fileprivate mutating func mustFlush(now: Timestamp) throws -> Flush {
        let flush = self.flush(now: now)
        return try #require(flush)
    }
}

@Suite("Rate limits that a cluster shares")
struct RateWindowsTests {
    private let alice = RateSubject.user(UserID("alice")!)
    /// The beginning of a window.
    private let start = Timestamp(seconds: 1_700_000_040)

    private func at(_ seconds: Int64) -> Timestamp { Timestamp(seconds: self.start.seconds + seconds) }
    private func user(_ number: Int) -> RateSubject { .user(UserID("user-\(number)")!) }
    private func windows(bound: Int = 100, portion: Int = 100) -> RateWindows { RateWindows(bound: bound, portion: portion) }

    @Test("a quota is let in, and not one more, until its window ends; each answer says what is left and for how long")
    func quota() {
        var windows = self.windows()
        #expect(windows.decide(self.alice, quota: 2, now: self.at(0)) == RateDecision(isAllowed: true, remaining: 1, resetSeconds: 60))
        #expect(windows.decide(self.alice, quota: 2, now: self.at(18)) == RateDecision(isAllowed: true, remaining: 0, resetSeconds: 42))
        #expect(windows.decide(self.alice, quota: 2, now: self.at(59)) == RateDecision(isAllowed: false, remaining: 0, resetSeconds: 1))
        #expect(windows.decide(self.alice, quota: 2, now: self.at(60)) == RateDecision(isAllowed: true, remaining: 1, resetSeconds: 60))
        #expect(windows.counters.refused == 1)
    }

    @Test("subjects have quotas of their own: users whose ids look alike, and a key with a user's name")
    func apart() {
        let id = NotificationID.make()
        let subjects: [RateSubject] = [
            .user(UserID("é")!), .user(UserID("e\u{301}")!), .user(UserID(id.description)!), .key(id), .key(NotificationID(high: id.high, low: id.low &+ 1)),
        ]
        var windows = self.windows()
        for subject in subjects { #expect(windows.decide(subject, quota: 1, now: self.start).isAllowed) }
        for subject in subjects { #expect(!windows.decide(subject, quota: 1, now: self.start).isAllowed) }
    }

    @Test("what other nodes let in counts from the next answer on")
    func others() throws {
        var windows = self.windows()
        #expect(windows.decide(self.alice, quota: 10, now: self.start).isAllowed)
        let flush = try windows.mustFlush(now: self.start)
        #expect(flush.window == self.start.seconds / 60)
        #expect(flush.counts.map(\.subject) == [self.alice])
        #expect(flush.counts.map(\.count) == [1])
        #expect(windows.decide(self.alice, quota: 10, now: self.start).remaining == 8)
        // Others had seven.
        windows.answered([8])
        #expect(windows.decide(self.alice, quota: 10, now: self.start) == RateDecision(isAllowed: true, remaining: 0, resetSeconds: 60))
        #expect(!windows.decide(self.alice, quota: 10, now: self.start).isAllowed)
    }

    @Test("there is one flush at a time, with what came since the last one, and none when nothing came")
    func flushes() throws {
        var windows = self.windows()
        #expect(windows.flush(now: self.start) == nil)
        for _ in 0..<3 { _ = windows.decide(self.alice, quota: 100, now: self.start) }
        #expect(windows.flush(now: self.start)?.counts.map(\.count) == [3])
        for _ in 0..<2 { _ = windows.decide(self.alice, quota: 100, now: self.start) }
        #expect(windows.flush(now: self.start) == nil)
        windows.answered([3])
        #expect(windows.flush(now: self.start)?.counts.map(\.count) == [2])
        windows.answered([5])
        #expect(windows.flush(now: self.start) == nil)
    }

    @Test("a flush has a portion of the subjects, and all of them have their turn")
    func portions() throws {
        var windows = self.windows(portion: 4)
        for number in 0..<10 { _ = windows.decide(self.user(number), quota: 100, now: self.start) }
        var seen: Set<RateSubject> = []
        var sizes: [Int] = []
        while let flush = windows.flush(now: self.start) {
            sizes.append(flush.counts.count)
            seen.formUnion(flush.counts.map(\.subject))
            windows.answered(flush.counts.map { _ in 1 })
        }
        #expect(sizes == [4, 4, 2])
        #expect(seen.count == 10)
    }

    @Test("while the totals cannot be had everybody is let in and counted; afterwards nothing of it is held against anybody")
    func away() throws {
        var windows = self.windows()
        #expect(windows.decide(self.alice, quota: 2, now: self.start).isAllowed)
        _ = try windows.mustFlush(now: self.start)
        windows.failed()
        for _ in 0..<20 { #expect(windows.decide(self.alice, quota: 2, now: self.start).isAllowed) }
        // One that comes only now.
        for _ in 0..<20 { #expect(windows.decide(self.user(1), quota: 2, now: self.start).isAllowed) }
        #expect(windows.counters.ungoverned == 40)
        _ = try windows.mustFlush(now: self.start)
        windows.failed()
        // Redis is back, and empty.
        #expect(windows.decide(self.alice, quota: 2, now: self.start).isAllowed)
        #expect(windows.flush(now: self.start)?.counts.map(\.count) == [1])
        windows.answered([1])
        #expect(windows.decide(self.alice, quota: 2, now: self.start).isAllowed)
        #expect(!windows.decide(self.alice, quota: 2, now: self.start).isAllowed)
        #expect(windows.counters.ungoverned == 41)
    }

    @Test("of a cluster a part may be away: only its subjects are let in")
    func partlyAway() throws {
        var windows = self.windows()
        for number in 0..<2 { _ = windows.decide(self.user(number), quota: 2, now: self.start) }
        let flush = try windows.mustFlush(now: self.start)
        windows.answered(flush.counts.map { $0.subject == self.user(0) ? nil : 1 })
        for _ in 0..<5 { #expect(windows.decide(self.user(0), quota: 2, now: self.start).isAllowed) }
        #expect(windows.decide(self.user(1), quota: 2, now: self.start).isAllowed)
        #expect(!windows.decide(self.user(1), quota: 2, now: self.start).isAllowed)
        #expect(windows.counters.ungoverned == 5)
    }

    @Test("an answer about a window that is over changes nothing in the next one")
    func lateAnswer() throws {
        var windows = self.windows()
        _ = windows.decide(self.alice, quota: 2, now: self.at(59))
        _ = try windows.mustFlush(now: self.at(59))
        #expect(windows.decide(self.alice, quota: 2, now: self.at(60)).remaining == 1)
        windows.answered([2])
        #expect(windows.decide(self.alice, quota: 2, now: self.at(60)).isAllowed)
        #expect(!windows.decide(self.alice, quota: 2, now: self.at(60)).isAllowed)
    }

    @Test("a table that is full forgets those that are known elsewhere and low; who is at the limit stays, who finds no place is let in and counted")
    func full() throws {
        var windows = self.windows(bound: 8)
        for _ in 0..<4 { _ = windows.decide(self.alice, quota: 4, now: self.start) }
        for number in 0..<7 { _ = windows.decide(self.user(number), quota: 4, now: self.start) }
        #expect(windows.subjects == 8)
        #expect(windows.decide(self.user(7), quota: 4, now: self.start).isAllowed)
        #expect(windows.counters.untracked == 1)
        let flush = try windows.mustFlush(now: self.start)
        #expect(flush.counts.count == 8)
        windows.answered(flush.counts.map(\.count))
        // The next flush makes room.
        _ = windows.decide(self.user(0), quota: 4, now: self.start)
        let second = try windows.mustFlush(now: self.start)
        windows.answered(second.counts.map { _ in 2 })
        #expect(windows.subjects == 2)
        #expect(!windows.decide(self.alice, quota: 4, now: self.start).isAllowed)
        #expect(windows.decide(self.user(7), quota: 4, now: self.start).isAllowed)
        #expect(windows.counters.untracked == 1)
    }

    /// Nodes in any order of requests, flushes, arrivals in Redis, and answers. Checked at each decision: who is refused is refused since the quota is used
    /// up, and who is let in past it is so only since others let in what this node cannot have heard of: what they had not flushed, or flushed after
    /// this node's last flush that is answered.
    @Test("a cluster lets in at least the quota, and past it only what the others have not told yet", arguments: 0..<300 as Range<UInt64>)
    func manyNodes(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let count = Int.random(in: 1...5, using: &random)
        let quota = Int.random(in: 1...60, using: &random)
        var nodes = (0..<count).map { _ in self.windows() }
        var sent: [RateWindows.Flush?] = Array(repeating: nil, count: count)
        var arrived: [Int?] = Array(repeating: nil, count: count)
        var redis = 0
        var letIn = 0
        /// By node: let in altogether; the same when each of the totals that it heard of was taken.
        var allowed = Array(repeating: 0, count: count)
        var heard = Array(repeating: 0, count: count)
        var ownHeard = Array(repeating: 0, count: count)
        for _ in 0..<400 {
            let node = Int.random(in: 0..<count, using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<6:
                let decision = nodes[node].decide(self.alice, quota: quota, now: self.start)
                let known = heard[node] + allowed[node] - ownHeard[node]
                if decision.isAllowed {
                    #expect(known < quota, "what this node knows is never passed")
                    letIn += 1
                    allowed[node] += 1
                } else {
                    #expect(letIn >= quota, "nobody is refused before the quota is used up")
                }
            case 6..<8:
                if let flush = nodes[node].flush(now: self.start) { sent[node] = flush }
            case 8:
                if let flush = sent[node], arrived[node] == nil {
                    redis += flush.counts[0].count
                    arrived[node] = redis
                }
            default:
                if let total = arrived[node], let flush = sent[node] {
                    nodes[node].answered([total])
                    heard[node] = total
                    ownHeard[node] += flush.counts[0].count
                    sent[node] = nil
                    arrived[node] = nil
                }
            }
        }
        #expect(redis <= letIn)
        // Once everybody has told and heard of everything, nobody lets in any more than what is left.
        for round in 0..<3 {
            for node in 0..<count {
                if let flush = sent[node] {
                    redis += arrived[node] == nil ? flush.counts[0].count : 0
                } else if let flush = nodes[node].flush(now: self.start) {
                    redis += flush.counts[0].count
                } else {
                    continue
                }
                nodes[node].answered([redis])
                heard[node] = redis
                sent[node] = nil
                arrived[node] = nil
            }
            if round == 1 { #expect(redis == letIn, "every request that was let in is in the total, once") }
        }
        if letIn >= quota {
            let more = (0..<count).filter { nodes[$0].decide(self.alice, quota: quota, now: self.start).isAllowed }
            // A node hears only of whom it has had requests since.
            #expect(more.allSatisfy { heard[$0] < quota })
        }
    }

    /// The same with the clock of the real flushes: each node tells once a round, and hears at once.
    @Test("with regular flushes the quota is passed by no more than what comes to each node between two of its flushes", arguments: 0..<200 as Range<UInt64>)
    func bound(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let count = Int.random(in: 2...6, using: &random)
        let quota = Int.random(in: 5...300, using: &random)
        var nodes = (0..<count).map { _ in self.windows() }
        var redis = 0
        var letIn = 0
        var sinceFlush = Array(repeating: 0, count: count)
        var most = Array(repeating: 0, count: count)
        for _ in 0..<30 {
            var steps: [(node: Int, isFlush: Bool)] = (0..<count).map { ($0, true) }
            for _ in 0..<Int.random(in: 0...40, using: &random) { steps.append((Int.random(in: 0..<count, using: &random), false)) }
            steps.shuffle(using: &random)
            for (node, isFlush) in steps {
                if isFlush {
                    sinceFlush[node] = 0
                    guard let flush = nodes[node].flush(now: self.start) else { continue }
                    redis += flush.counts[0].count
                    nodes[node].answered([redis])
                    continue
                }
                sinceFlush[node] += 1
                most[node] = max(most[node], sinceFlush[node])
                if nodes[node].decide(self.alice, quota: quota, now: self.start).isAllowed { letIn += 1 } else { #expect(letIn >= quota) }
            }
        }
        #expect(letIn <= quota + most.reduce(0, +))
    }
}
