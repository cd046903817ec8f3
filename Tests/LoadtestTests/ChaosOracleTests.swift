import Testing

@testable import carillon_loadtest

/// Made-up logs and streams, right in everything but one thing.
@Suite("The oracle of chaos")
struct ChaosOracleTests {
    /// A user with two creations, a read, a creation and a delete, and one stream that showed it all.
    private struct Story {
        var evidence = UserEvidence()
        var log: [LogRow] = []
        var head = LogHead()

        init() {
            for number in 1...3 {
                evidence.creations.append(.init(call: CallNumber(loop: 0, number: number), outcome: .accepted))
            }
            log = [
                LogRow(seq: 1, kind: .created, id: id(1), unread: 1, unseen: 1, call: CallNumber(loop: 0, number: 1)),
                LogRow(seq: 2, kind: .created, id: id(2), unread: 2, unseen: 2, call: CallNumber(loop: 0, number: 2)),
                LogRow(seq: 3, kind: .updated, id: id(1), read: true, seen: true, unread: 1, unseen: 1, call: CallNumber(loop: 0, number: 1)),
                LogRow(seq: 4, kind: .created, id: id(3), unread: 2, unseen: 2),
                LogRow(seq: 5, kind: .deleted, id: id(3), unread: 1, unseen: 1),
            ]
            for (number, seq) in [(1, UInt64(1)), (2, 2), (3, 4)] {
                evidence.acknowledgements.append(.init(call: CallNumber(loop: 0, number: number), id: id(UInt64(number)), seq: seq, at: seq * 10))
            }
            evidence.operations = [
                .init(kind: .read, id: id(1), outcome: .accepted, at: 30), .init(kind: .delete, id: id(3), outcome: .accepted, at: 50),
            ]
            head = LogHead(epoch: 1, seq: 5, unread: 1, unseen: 1)
            evidence.count = .init(unread: 1, unseen: 1, position: at(5))
            evidence.streams = [[StreamRecord(kind: .ready, position: at(0), unread: 0, unseen: 0)] + log.map(shown)]
        }

        func shown(_ row: LogRow) -> StreamRecord {
            let kind: StreamRecord.Kind =
                switch row.kind {
                case .created: .created
                case .updated: .updated
                case .deleted, .expired, .replaced: .deleted
                case .allRead: .allRead
                case .allSeen: .allSeen
                }
            return StreamRecord(
                kind: kind, position: at(row.seq), id: row.id, call: row.call ?? (row.kind == .created ? CallNumber(loop: 0, number: 3) : nil),
                unread: row.unread, at: row.seq * 10 + 5
            )
        }

        var verdict: ChaosOracle {
            var oracle = ChaosOracle(epoch: 1)
            oracle.check(user: "u", evidence, head: head, log: log)
            return oracle
        }

        var counts: [WrongEvent.Kind: UInt64] { verdict.counts }
    }

    @Test("what is right is right")
    func right() {
        let verdict = Story().verdict
        #expect(verdict.isClean, "\(verdict.wrong)")
        #expect(verdict.rows == 5)
        #expect(verdict.events == 5)
        #expect(verdict.receipts == [15, 25, 35, 45, 55].map { Receipt(acknowledged: $0 - 5, received: $0) })
    }

    @Test("a change that a stream never showed is lost, in the middle and at the end", arguments: 1...5)
    func lost(seq: Int) {
        var story = Story()
        story.evidence.streams[0].remove(at: seq)
        #expect(story.counts == [.lost: 1])
        #expect(story.verdict.wrong[0].seq == UInt64(seq))
    }

    @Test("a change shown twice is a duplicate, at once and on a resume", arguments: [1, 3, 5])
    func duplicated(seq: Int) {
        var story = Story()
        story.evidence.streams[0].insert(story.evidence.streams[0][seq], at: seq + 1)
        #expect(story.counts == [.duplicated: 1])
        story = Story()
        story.evidence.streams[0].append(story.evidence.streams[0][seq])
        #expect(story.counts == [.duplicated: 1])
    }

    @Test("a change shown after a later one is out of order and not lost")
    func reordered() {
        var story = Story()
        story.evidence.streams[0].swapAt(2, 3)
        #expect(story.counts == [.reordered: 1])
    }

    @Test("another kind or another notification under a number is wrong")
    func content() {
        var story = Story()
        story.evidence.streams[0][2].id = id(9)
        #expect(story.counts == [.content: 1])
        story = Story()
        story.evidence.streams[0][3].kind = .created
        #expect(story.counts == [.content: 1])
        story = Story()
        story.evidence.streams[0][2].kind = .deleted
        #expect(story.counts == [.content: 1])
    }

    @Test("a creation whose notification is gone since may be shown as its deletion")
    func deletion() {
        var story = Story()
        story.evidence.streams[0][4].kind = .deleted
        story.evidence.streams[0][4].call = nil
        #expect(story.verdict.isClean, "\(story.verdict.wrong)")
    }

    @Test("a number past the head is wrong")
    func pastHead() {
        var story = Story()
        story.evidence.streams[0].append(StreamRecord(kind: .created, position: at(6), id: id(7), unread: 2))
        #expect(story.counts == [.content: 1])
    }

    @Test("a wrong count is found wherever it stands")
    func unread() {
        var story = Story()
        story.evidence.streams[0][2].unread = 7
        #expect(story.counts == [.unread: 1])
        story = Story()
        story.evidence.streams[0][0].unread = 1
        #expect(story.counts == [.unread: 1])
        story = Story()
        story.evidence.count?.unseen = 2
        #expect(story.counts == [.unread: 1])
        story = Story()
        story.evidence.count?.position = at(4)
        #expect(story.counts == [.unread: 1])
        story = Story()
        story.head.unread = 2
        story.evidence.count?.unread = 2
        #expect(story.counts == [.unread: 1])
        // The log lies from the third row on: one error, and one when it is right again.
        story = Story()
        story.log[2].unread = 2
        story.evidence.streams[0][3].unread = 2
        #expect(story.counts == [.unread: 2])
    }

    @Test("what was answered 2xx must be in the log")
    func missing() {
        var story = Story()
        story.evidence.acknowledgements[0].id = id(8)
        #expect(story.counts[.missing] == 1)
        story = Story()
        story.evidence.acknowledgements.append(.init(call: CallNumber(loop: 0, number: 9), id: id(8), seq: 6, at: 0))
        #expect(story.counts == [.missing: 1])
        story = Story()
        story.evidence.creations.append(.init(call: CallNumber(loop: 0, number: 4), outcome: .accepted))
        #expect(story.counts == [.missing: 1])
        story = Story()
        story.evidence.operations.append(.init(kind: .delete, id: id(2), outcome: .accepted))
        #expect(story.counts == [.missing: 1])
        story = Story()
        story.evidence.operations.append(.init(kind: .read, id: id(2), outcome: .accepted))
        #expect(story.counts == [.missing: 1])
        story = Story()
        story.evidence.operations.append(.init(kind: .readAll, outcome: .accepted, updated: true))
        #expect(story.counts == [.missing: 1])
    }

    @Test("a read-all that changed nothing takes no number")
    func nothingChanged() {
        var story = Story()
        story.evidence.operations.append(.init(kind: .readAll, outcome: .accepted))
        #expect(story.verdict.isClean)
    }

    @Test("writes in doubt may be done or not, and not twice")
    func doubt() {
        var story = Story()
        story.evidence.creations.append(.init(call: CallNumber(loop: 0, number: 4), outcome: .doubtful))
        story.evidence.creations[1].outcome = .doubtful
        story.evidence.acknowledgements.remove(at: 1)
        story.evidence.operations[0].outcome = .doubtful
        #expect(story.verdict.isClean, "\(story.verdict.wrong)")
        #expect(story.verdict.doubtfulDone == 1)
        story.log[1].call = CallNumber(loop: 0, number: 1)
        story.evidence.streams[0][2].call = story.log[1].call
        #expect(story.counts == [.twice: 1])
    }

    @Test("nothing may be in the log that was not asked for")
    func unasked() {
        var story = Story()
        story.evidence.creations[1].outcome = .unsent
        story.evidence.acknowledgements.remove(at: 1)
        #expect(story.counts == [.unasked: 1])
        story = Story()
        story.evidence.creations.remove(at: 1)
        story.evidence.acknowledgements.remove(at: 1)
        #expect(story.counts == [.unasked: 1])
        story = Story()
        story.evidence.operations.remove(at: 0)
        #expect(story.counts == [.unasked: 1])
        story = Story()
        story.log[1].call = nil
        story.evidence.streams[0][2].call = nil
        story.evidence.acknowledgements.remove(at: 1)
        #expect(story.counts[.unasked] == 1)
    }

    @Test("a 4xx is an error, and what it refused must not be done")
    func refused() {
        var story = Story()
        story.evidence.creations.append(.init(call: CallNumber(loop: 0, number: 4), outcome: .refused))
        #expect(story.counts == [.refused: 1])
        story.evidence.creations[0].outcome = .refused
        #expect(story.counts[.unasked] == 1)
    }

    @Test("a resync needs a cause: another epoch, or a thousand changes behind")
    func resync() {
        var story = Story()
        story.evidence.streams[0].replaceSubrange(3...4, with: [StreamRecord(kind: .resync, position: at(4), unread: 2)])
        #expect(story.counts == [.resync: 1])
        story.evidence.streams[0][3].position = StreamPosition(epoch: 2, seq: 4)
        story.evidence.streams[0][4].position = StreamPosition(epoch: 2, seq: 5)
        #expect(story.counts == [:])
        #expect(story.verdict.resyncsWithCause == 1)
    }

    @Test("another epoch without a cause is wrong")
    func epoch() {
        var story = Story()
        story.head.epoch = 2
        story.evidence.count?.position = StreamPosition(epoch: 2, seq: 5)
        #expect(story.counts == [.epoch: 1])
        story = Story()
        story.evidence.streams[0][5].position = StreamPosition(epoch: 2, seq: 5)
        #expect(story.counts[.epoch] == 1)
    }

    @Test("a resume begins where the stream stood")
    func resume() {
        var story = Story()
        story.evidence.streams[0].insert(StreamRecord(kind: .ready, position: at(2), unread: 2), at: 3)
        #expect(story.verdict.isClean)
        story.evidence.streams[0][3].position = at(3)
        #expect(story.counts == [.resume: 1])
    }

    @Test("a log has no holes")
    func hole() {
        var story = Story()
        story.log.remove(at: 1)
        #expect(story.counts[.hole] == 1)
    }

    @Test("a stream that never joined, and a count that was not answered, are wrong")
    func unavailable() {
        var story = Story()
        story.evidence.streams.append([])
        story.evidence.count = nil
        #expect(story.counts == [.unavailable: 2])
    }

    @Test("a user to whom nothing happened has nothing")
    func silent() {
        var oracle = ChaosOracle(epoch: 1)
        var evidence = UserEvidence()
        evidence.count = .init(unread: 0, unseen: 0, position: at(0))
        evidence.streams = [[StreamRecord(kind: .ready, position: at(0), unread: 0)]]
        oracle.check(user: "u", evidence, head: LogHead(), log: [])
        #expect(oracle.isClean, "\(oracle.wrong)")
    }

    @Test("all wrong events are counted, and some kept")
    func bounded() {
        var oracle = ChaosOracle(epoch: 1)
        for _ in 0..<1_000 { oracle.add(WrongEvent(kind: .lost, user: "u", expected: "", seen: "")) }
        #expect(oracle.counts[.lost] == 1_000)
        #expect(oracle.wrong.count == ChaosOracle.kept)
    }

    @Test("a row of the database is read")
    func row() {
        let text = "u\t7\t2\t00000000-0000-0000-0000-000000000003\t3\t4\t5\t1795241496.25\t1-9"
        #expect(
            LogRow(text.split(separator: "\t", omittingEmptySubsequences: false))
                == LogRow(seq: 7, kind: .updated, id: id(3), read: true, seen: true, unread: 4, unseen: 5, call: CallNumber(loop: 1, number: 9), at: 1_795_241_496.25)
        )
        #expect(LogRow("u\tx\t2\t\t3\t4\t5\t1\t".split(separator: "\t", omittingEmptySubsequences: false)) == nil)
    }
}

@Suite("Silences")
struct SilenceTests {
    private let second: UInt64 = 1_000_000_000

    private func record(_ role: Fault.Role, _ from: UInt64, _ to: UInt64) -> FaultRecord {
        let fault = Fault(kind: Fault.Kind(action: .kill, role: role), number: 0, at: 0, seconds: 1, amount: 0)
        return FaultRecord(fault: fault, began: from * second, recovered: to * second)
    }

    @Test("a silence counts from the later of the answer and the end of the fault")
    func after() {
        let report = SilenceReport(
            [record(.redis, 100, 104)],
            [
                Receipt(acknowledged: 101 * second, received: 106 * second), Receipt(acknowledged: 105 * second, received: 106 * second),
                // While it lasts, and long after it.
                Receipt(acknowledged: 101 * second, received: 103 * second), Receipt(acknowledged: 200 * second, received: 209 * second),
            ]
        )
        #expect(report.rows.count == 1)
        #expect(report.rows[0].changes == 3)
        #expect(report.rows[0].longest == 2_000)
        #expect(report.rows[0].longestFromAcknowledgement == 5_000)
    }

    @Test("of overlapping faults the last to end counts")
    func overlap() {
        let report = SilenceReport([record(.redis, 100, 104), record(.haproxy, 103, 107)], [Receipt(acknowledged: 101 * second, received: 108 * second)])
        #expect(report.rows.map(\.longest) == [1_000, 1_000])
    }
}

private func id(_ number: UInt64) -> NotificationID { NotificationID(high: 0, low: number) }
private func at(_ seq: UInt64) -> StreamPosition { StreamPosition(epoch: 1, seq: seq) }
