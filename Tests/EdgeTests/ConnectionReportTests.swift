import NotificationBus
import NotificationCore
import Testing

@testable import Edge

@Suite("Connection reports")
struct ConnectionReportTests {
    private static let users: [UserID] = (0..<500).map { UserID("u\($0)")! }

    @Test("pages of any size show every user once, in the order of the bytes, with all streams of every loop", arguments: [1, 7, 100, 499, 500, 501])
    func pages(limit: Int) {
        // Three loops, each with some of the users; every fourth user is on two.
        var loops: [[(user: UserID, streams: Int)]] = [[], [], []]
        for (index, user) in Self.users.shuffled().enumerated() {
            loops[index % 3].append((user, 1 + index % 2))
            if index % 4 == 0 { loops[(index + 1) % 3].append((user, 5)) }
        }
        var expected: [UserID: Int] = [:]
        for entry in loops.joined() { expected[entry.user, default: 0] += entry.streams }
        let sum = expected.values.reduce(0, +)

        var seen: [EdgeAnswer.User] = []
        var after: UserID?
        while true {
            let question = EdgeQuestion.report(answerTo: "l", after: after, limit: limit)
            let parts = loops.map { loop in
                var report = ConnectionReport(after: after, limit: limit)
                for entry in loop { report.add(entry.user, streams: entry.streams) }
                return report.answer
            }
            let answer = ConnectionReport.joined(parts, question)
            #expect(answer.streams == sum)
            seen += answer.users
            after = answer.users.last?.user
            if answer.users.count < limit { break }
        }
        #expect(seen.map(\.user) == expected.keys.sorted())
        #expect(seen.allSatisfy { expected[$0.user] == $0.streams })
    }

    @Test("what was closed is added up")
    func closed() {
        let question = EdgeQuestion.disconnect(Self.users[0], answerTo: "l")
        #expect(ConnectionReport.joined([EdgeAnswer(streams: 2), EdgeAnswer(streams: 0), EdgeAnswer(streams: 3)], question) == EdgeAnswer(streams: 5))
    }
}
