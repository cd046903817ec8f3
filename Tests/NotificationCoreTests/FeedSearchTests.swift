import NotificationCore
import Testing

@Suite("the feed, in every order of events")
struct FeedSearchTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var plan: FeedWorld.Plan
        var head: Int64 = 0
    }

    static let resumes: [ResumePoint] = [
        .fresh, .malformed, .after(StreamPosition(epoch: 1, seq: 0)), .after(StreamPosition(epoch: 1, seq: 1)), .after(StreamPosition(epoch: 1, seq: 2)),
        .after(StreamPosition(epoch: 1, seq: 9)), .after(StreamPosition(epoch: 9, seq: 1)), .after(StreamPosition(epoch: 9, seq: 2)),
    ]

    static let cases: [Case] = [
        Case(testDescription: "six changes, one reader", plan: .init(commits: [1, 1, 1, 1, 1, 1], joins: [.fresh])),
        Case(testDescription: "batches and doubles", plan: .init(commits: [2, 1, 3], joins: [.fresh], doubles: 2), head: 3),
        Case(testDescription: "four changes and doubles", plan: .init(commits: [1, 1, 1, 1], joins: [.fresh], doubles: 1)),
        Case(testDescription: "reads fail", plan: .init(commits: [1, 1, 1], joins: [.fresh, .fresh], failures: 2)),
        Case(testDescription: "a reader that is blocked twice", plan: .init(commits: [1, 1, 1], joins: [.fresh], blocks: 2)),
        Case(testDescription: "a reader that is blocked, and a failure", plan: .init(commits: [1, 1, 1], joins: [.fresh], failures: 1, blocks: 1)),
        Case(testDescription: "two readers, one blocked", plan: .init(commits: [1, 1], joins: [.fresh, .fresh], blocks: 1)),
        Case(testDescription: "a blocked reader and an erasure", plan: .init(commits: [1, 1], joins: [.fresh], epochChanges: [.erase], blocks: 1)),
        Case(
            testDescription: "readers that leave",
            plan: .init(commits: [1, 1, 1], joins: [.fresh, .after(StreamPosition(epoch: 1, seq: 1))], leaves: 1), head: 1),
        Case(testDescription: "messages may have been lost", plan: .init(commits: [1, 1, 1], joins: [.fresh], failures: 1, reconciles: 1)),
        Case(testDescription: "an erasure", plan: .init(commits: [1, 1, 1], joins: [.fresh], epochChanges: [.erase])),
        Case(testDescription: "an erasure and a failure", plan: .init(commits: [1, 1], joins: [.fresh], epochChanges: [.erase], failures: 1)),
        Case(testDescription: "a restore", plan: .init(commits: [1, 1, 1], joins: [.fresh], epochChanges: [.restore(lost: 1)]), head: 2),
        Case(
            testDescription: "a restore and a second reader",
            plan: .init(commits: [1, 1], joins: [.fresh, .after(StreamPosition(epoch: 1, seq: 2))], epochChanges: [.restore(lost: 2)]), head: 2),
        Case(
            testDescription: "a restore and a reader from after it",
            plan: .init(commits: [1, 1], joins: [.fresh, .after(StreamPosition(epoch: 2, seq: 2))], epochChanges: [.restore(lost: 1)]), head: 2),
        Case(testDescription: "two epochs", plan: .init(commits: [1, 1], joins: [.fresh], epochChanges: [.erase, .restore(lost: 1)]), head: 2),
        Case(testDescription: "portions", plan: .init(commits: [1, 1, 1], joins: [.after(StreamPosition(epoch: 1, seq: 0))], portion: 1), head: 3),
        Case(
            testDescription: "portions for two",
            plan: .init(
                commits: [1, 1], joins: [.after(StreamPosition(epoch: 1, seq: 0)), .after(StreamPosition(epoch: 1, seq: 2))], portion: 1), head: 3),
        Case(
            testDescription: "portions for one beside a live one", plan: .init(commits: [1, 1], joins: [.fresh, .after(StreamPosition(epoch: 1, seq: 0))], portion: 1),
            head: 2),
        Case(
            testDescription: "portions for a reader that is blocked",
            plan: .init(commits: [1, 2], joins: [.after(StreamPosition(epoch: 1, seq: 0))], blocks: 2, portion: 1), head: 2),
        Case(
            testDescription: "portions, a failure and a lost message",
            plan: .init(commits: [1, 1], joins: [.after(StreamPosition(epoch: 1, seq: 0))], failures: 1, reconciles: 1, portion: 1), head: 2),
        Case(
            testDescription: "portions and a restore",
            plan: .init(commits: [1], joins: [.after(StreamPosition(epoch: 1, seq: 0))], epochChanges: [.restore(lost: 1)], portion: 1), head: 3),
        Case(
            testDescription: "portions and an erasure",
            plan: .init(commits: [2, 1], joins: [.fresh, .after(StreamPosition(epoch: 1, seq: 0))], epochChanges: [.erase], portion: 1), head: 1),
        Case(
            testDescription: "a short log",
            plan: .init(commits: [1, 1, 1], joins: [.fresh, .after(StreamPosition(epoch: 1, seq: 0))], replayLimit: 1), head: 1),
        Case(
            testDescription: "a short log and two that resume",
            plan: .init(
                commits: [1, 1], joins: [.after(StreamPosition(epoch: 1, seq: 0)), .after(StreamPosition(epoch: 1, seq: 2))], replayLimit: 2), head: 3),
        Case(
            testDescription: "two that resume from different epochs",
            plan: .init(commits: [1, 1], joins: [.after(StreamPosition(epoch: 9, seq: 1)), .after(StreamPosition(epoch: 1, seq: 1))]), head: 2),
    ]
        + resumes.map { Case(testDescription: "resumes \($0)", plan: .init(commits: [1, 1, 1], joins: [$0]), head: 2) }
        + resumes.map { Case(testDescription: "a second reader resumes \($0)", plan: .init(commits: [1, 1, 1], joins: [.fresh, $0]), head: 2) }

    @Test("every reader is given every change after its joining position once and in order", arguments: cases)
    func everyOrder(_ example: Case) throws {
        let states = try FeedSearch.run(FeedWorld(example.plan, head: example.head), bound: 200_000)
        #expect(states > 1)
    }
}
