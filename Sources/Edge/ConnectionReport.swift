import NotificationBus
import NotificationCore

/// Whose streams there are: the first users after one in the order of their bytes, a bounded number of them, and the sum of all streams.
struct ConnectionReport {
    private let after: UserID?
    private let limit: Int
    private(set) var answer = EdgeAnswer(streams: 0)

    init(after: UserID?, limit: Int) {
        self.after = after
        self.limit = limit
    }

    /// Users come in any order, and may come again. The more have come, the rarer is one that is kept.
    mutating func add(_ user: UserID, streams: Int) {
        self.answer.streams += streams
        self.keep(EdgeAnswer.User(user: user, streams: streams))
    }

    private mutating func keep(_ entry: EdgeAnswer.User) {
        if let after, !(after < entry.user) { return }
        if self.answer.users.count == self.limit, let last = self.answer.users.last, last.user < entry.user { return }
        var low = 0
        var high = self.answer.users.count
        while low < high {
            let middle = (low + high) / 2
            if self.answer.users[middle].user < entry.user { low = middle + 1 } else { high = middle }
        }
        if low < self.answer.users.count, self.answer.users[low].user == entry.user {
            self.answer.users[low].streams += entry.streams
            return
        }
        self.answer.users.insert(entry, at: low)
        if self.answer.users.count > self.limit { self.answer.users.removeLast() }
    }

    /// The answer of an edge, from those of its event loops.
    static func joined(_ parts: [EdgeAnswer], _ question: EdgeQuestion) -> EdgeAnswer {
        switch question {
        case .disconnect: return EdgeAnswer(streams: parts.reduce(0) { $0 + $1.streams })
        case .report(_, let after, let limit):
            var report = ConnectionReport(after: after, limit: limit)
            for part in parts {
                report.answer.streams += part.streams
                for user in part.users { report.keep(user) }
            }
            return report.answer
        }
    }
}
