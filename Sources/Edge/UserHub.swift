import NIOCore
import NotificationCore
import NotificationStore

/// All streams of one user on one event loop, and their feed.
///
/// Unchecked: it is touched on its event loop only; closures that carry it run there.
final class UserHub: @unchecked Sendable {
    let user: UserID
    var feed = UserFeed()
    var connections: [StreamConnection] = []
    /// Something is, or was, kept of the user: what the user prefers must be asked. Never false for a user of whom something is kept, once the log was read.
    var isKnown = false
    /// The last direct event for which that was asked: the next one is delivered after it.
    var turn: EventLoopFuture<Void>?
    /// Nobody is left: answers that are still on their way find it so.
    var isGone = false
    /// What the log answered last, while its actions are carried out.
    var answer: (asked: StreamPosition?, answer: FeedAnswer)?

    init(user: UserID) {
        self.user = user
    }

    func connection(_ id: NotificationID) -> StreamConnection? { self.connections.first { $0.id == id } }

    /// The counts right after the change `point`, as far as the answer knows them.
    func counts(at point: StreamPosition) -> StreamFilter.Counts {
        guard let (asked, answer) = self.answer else { return StreamFilter.Counts(unread: 0, unseen: 0) }
        if point.seq < answer.head.seq, point.epoch == answer.head.epoch {
            if let asked, point.seq == asked.seq, let counts = answer.countsAtStart { return .init(unread: counts.unread, unseen: counts.unseen) }
            if let change = answer.changes?.first(where: { $0.seq == point.seq }) { return .init(unread: change.unread, unseen: change.unseen) }
        }
        return StreamFilter.Counts(unread: answer.unread, unseen: answer.unseen)
    }
}
