/// One row of the database's change log, with the `rec_id` of its notification while that exists.
struct LogRow: Equatable, Sendable {
    enum Kind: Int, Sendable { case created = 1, updated, deleted, allRead, allSeen, expired, replaced }

    var seq: UInt64
    var kind: Kind
    var id: NotificationID?
    var read = false
    var seen = false
    var unread: Int64
    var unseen: Int64
    var call: CallNumber?
    /// When it was committed, seconds since 1970 by the database's clock.
    var at: Double = 0
}

/// A user's row of `heads`.
struct LogHead: Equatable, Sendable {
    var epoch: UInt64 = 1
    var seq: UInt64 = 0
    var unread: Int64 = 0
    var unseen: Int64 = 0
}

/// What the counts must be after each row, from the rows alone: of an inbox that was empty at first.
struct InboxModel {
    private var known: [NotificationID: (read: Bool, seen: Bool)] = [:]
    private(set) var unread: Int64 = 0
    private(set) var unseen: Int64 = 0

    mutating func apply(_ row: LogRow) {
        switch row.kind {
        case .created:
            if let id = row.id { known[id] = (false, false) }
            unread += 1
            unseen += 1
        case .updated:
            guard let id = row.id, let before = known[id] else { return }
            known[id] = (row.read, row.seen)
            unread += (row.read ? 0 : 1) - (before.read ? 0 : 1)
            unseen += (row.seen ? 0 : 1) - (before.seen ? 0 : 1)
        case .deleted, .expired, .replaced:
            guard let id = row.id, let before = known.removeValue(forKey: id) else { return }
            unread -= before.read ? 0 : 1
            unseen -= before.seen ? 0 : 1
        case .allRead:
            for id in known.keys { known[id] = (true, true) }
            (unread, unseen) = (0, 0)
        case .allSeen:
            for id in known.keys { known[id]?.seen = true }
            unseen = 0
        }
    }

    /// Takes over what the log says, so that one error is not found again in every later row.
    mutating func adopt(_ row: LogRow) { (unread, unseen) = (row.unread, row.unseen) }
}
