import NIOCore

/// What the unread count must be after every change of one stream, computed from the changes alone.
struct UnreadModel {
    enum Change {
        case created(NotificationID?, read: Bool)
        case updated(NotificationID?, read: Bool?)
        case deleted(NotificationID?)
        /// Without a filter.
        case allRead
        case allSeen
        /// A change whose effect cannot be known from the stream, such as a filtered `read_all`.
        case unknown
    }

    enum Verdict: Equatable {
        case right
        case wrong
        /// The model could not know the count and took the server's.
        case unchecked
    }

    private struct Entry {
        var unread: Bool
        var seq: UInt64
    }

    /// Notifications remembered; the oldest is forgotten first, and a change of a forgotten one goes unchecked.
    private static let limit = 4_096

    private(set) var unread: Int64?
    private var known: [NotificationID: Entry] = [:]
    private var order = CircularBuffer<NotificationID>(initialCapacity: 1)
    /// Everything whose state is older was read by a `read_all`; no entry is touched for that.
    private var mark: UInt64 = 0

    /// The count that the first `ready` gave.
    mutating func join(unread: Int64?) {
        self.unread = unread
    }

    /// Something was missed or reloaded: take the server's count and forget what each notification was.
    mutating func restart(unread: Int64?) {
        self.unread = unread
        known.removeAll()
        order.removeAll()
    }

    func knows(_ id: NotificationID) -> Bool { known[id] != nil }

    /// Applies a change and compares. A wrong count of the server does not change the model: one lie is one error, not
    /// one for every event after it.
    mutating func apply(_ change: Change, seq: UInt64, shown: Int64?) -> Verdict {
        guard let delta = delta(of: change, seq: seq), let before = unread else {
            unread = shown
            return shown == nil ? .wrong : .unchecked
        }
        // Wrapping: the count comes from the server and may be anything.
        let expected = delta == .min ? 0 : before &+ delta
        unread = expected
        return shown == expected ? .right : .wrong
    }

    /// The change of the count, `.min` for "to zero", nil for "not known".
    private mutating func delta(of change: Change, seq: UInt64) -> Int64? {
        switch change {
        case .created(let id, let read):
            if let id { remember(id, Entry(unread: !read, seq: seq)) }
            return read ? 0 : 1
        case .updated(let id?, let read?):
            let before = isUnread(id)
            remember(id, Entry(unread: !read, seq: seq))
            guard let before else { return nil }
            return (read ? 0 : 1) - (before ? 1 : 0)
        case .deleted(let id?):
            guard let before = isUnread(id) else { return nil }
            known[id] = nil
            return before ? -1 : 0
        case .allRead:
            mark = seq
            return .min
        case .allSeen:
            return 0
        case .updated, .deleted, .unknown:
            known.removeAll()
            order.removeAll()
            return nil
        }
    }

    private func isUnread(_ id: NotificationID) -> Bool? {
        known[id].map { $0.unread && $0.seq > mark }
    }

    private mutating func remember(_ id: NotificationID, _ entry: Entry) {
        if known.updateValue(entry, forKey: id) == nil {
            order.append(id)
            if order.count > Self.limit, let oldest = order.popFirst() { known[oldest] = nil }
        }
    }
}
