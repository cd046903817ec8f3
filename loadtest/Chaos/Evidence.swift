/// What one run asked of the cluster and what it was shown, in the form that the oracle compares with the database.
struct UserEvidence: Sendable {
    struct Creation: Sendable {
        /// Unique within the run; the notification carries it as its `rec_id`.
        var call: CallNumber
        var outcome: Outcome
    }

    struct Acknowledgement: Sendable {
        var call: CallNumber
        var id: NotificationID
        var seq: UInt64
        var at: UInt64
    }

    struct Operation: Sendable {
        enum Kind: Sendable { case read, delete, readAll }

        var kind: Kind
        /// Absent for a read-all.
        var id: NotificationID?
        var outcome: Outcome
        /// When it was answered.
        var at: UInt64 = 0
        /// For a read-all: whether the answer says that it changed something.
        var updated = false
    }

    /// What the API said at the end.
    struct Count: Equatable, Sendable {
        var unread: Int64
        var unseen: Int64
        var position: StreamPosition
    }

    var creations: [Creation] = []
    var acknowledgements: [Acknowledgement] = []
    var operations: [Operation] = []
    var streams: [[StreamRecord]] = []
    var count: Count?
}

/// What became of a write, as far as the one who asked can know.
enum Outcome: Equatable, Sendable {
    /// Not on any connection yet, or never.
    case unsent
    case accepted
    /// Answered 5xx or 429, cut off, or without an answer in time: done or not.
    case doubtful
    /// Refused with a status after which nothing may have been done.
    case refused
}

/// Which call of which loop; `rec_id` in writing.
struct CallNumber: Hashable, Codable, Sendable, CustomStringConvertible {
    let loop: Int32
    let number: Int32

    var description: String { "\(loop)-\(number)" }

    init(loop: Int, number: Int) {
        self.loop = Int32(loop)
        self.number = Int32(number)
    }

    /// Two numbers with a dash between them.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard let position = StreamPosition(bytes), let loop = Int32(exactly: position.epoch), let number = Int32(exactly: position.seq) else { return nil }
        self.loop = loop
        self.number = number
    }

    init?(_ text: String) {
        var text = text
        guard let call = text.withUTF8({ CallNumber(UnsafeRawBufferPointer($0)) }) else { return nil }
        self = call
    }
}

/// One event as a stream showed it.
struct StreamRecord: Equatable, Sendable {
    enum Kind: UInt8, Sendable {
        case ready, resync, created, updated, deleted, allRead, allSeen
        /// An `id:` without data.
        case position
        /// Bytes that are no event, or an event without a number where one belongs.
        case malformed
    }

    var kind: Kind
    var position: StreamPosition
    var id: NotificationID?
    var call: CallNumber?
    var unread: Int64?
    var unseen: Int64?
    /// When it came, CLOCK_MONOTONIC.
    var at: UInt64 = 0
}

extension StreamRecord {
    /// Nil for what has no number and needs none: `close`, `auth_expiring`, a direct event.
    init?(_ event: StreamEvent, at now: UInt64) {
        let kind: Kind
        switch event.name {
        case .ready: kind = .ready
        case .resync: kind = .resync
        case .close, .authExpiring: return nil
        case .message: kind = event.hasData ? .created : .position
        case .update: kind = event.facts.all && event.facts.notification == nil ? .allSeen : .updated
        case .delete: kind = .deleted
        case .readAll: kind = .allRead
        case .other: kind = .malformed
        }
        guard case .position(let position) = event.id else {
            // A lone `retry:` is no event.
            if event.id == .absent, !event.hasData { return nil }
            self.init(kind: .malformed, position: StreamPosition(epoch: 0, seq: 0), at: now)
            return
        }
        self.init(
            kind: kind, position: position, id: event.facts.notification, call: event.facts.call, unread: event.facts.unread, unseen: event.facts.unseen,
            at: now
        )
    }
}
