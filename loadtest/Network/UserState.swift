import NIOCore

/// One user on its event loop: its streams, and which of its notifications may be operated on.
final class UserState {
    /// Notifications kept for operations, each way; the oldest give way.
    private static let candidateLimit = 64

    let index: Int
    var streams: [StreamState] = []
    /// The highest number that the API said it gave.
    var acknowledgedSeq: UInt64 = 0
    /// What `GET …/count` answered at the end.
    var head: StreamPosition?
    var unread: Int64?
    /// What its first stream makes of its inbox, and what the API lists of it so far; nil when it is not compared.
    var mirror: InboxMirror?
    var listed: [NotificationID: InboxMirror.Entry] = [:]
    /// What the oracle of `chaos` needs; empty in other runs.
    var evidence = UserEvidence()
    private var fresh = CircularBuffer<NotificationID>(initialCapacity: 1)
    private var read = CircularBuffer<NotificationID>(initialCapacity: 1)

    init(index: Int) {
        self.index = index
    }

    /// The number that every stream of this user must reach.
    var expectedSeq: UInt64 { max(acknowledgedSeq, head?.seq ?? 0) }

    func shown(_ id: NotificationID) {
        if fresh.count == Self.candidateLimit { fresh.removeFirst() }
        fresh.append(id)
    }

    /// Each notification is read at most once and deleted at most once, so that every operation changes something and
    /// none may answer 404.
    func takeForRead() -> NotificationID? { fresh.popFirst() }
    func takeForDelete() -> NotificationID? { read.popFirst() ?? fresh.popFirst() }

    func wasRead(_ id: NotificationID) {
        if read.count == Self.candidateLimit { read.removeFirst() }
        read.append(id)
    }
}

/// One stream across its reconnects.
final class StreamState {
    enum Phase: Equatable {
        /// Not wanted in this part of the run.
        case parked
        /// In the queue of streams to open.
        case queued
        /// Connecting, or waiting for `ready`.
        case opening
        case live
        /// Waiting for its reconnect.
        case away
        /// Refused for good.
        case gone
    }

    let index: Int
    let user: UserState
    var checker = StreamChecker()
    var calls = CallMatcher()
    let slow: Bool
    /// Whether operations take what this one of its user's streams shows.
    let isFirst: Bool
    /// Whether its user's inbox is built from what it shows. Known here, so that an event touches no user without need.
    var isMirrored = false
    var phase = Phase.parked
    /// When it was opened; of a live stream, since when it is.
    var openedAt: UInt64 = 0
    /// Milliseconds that the server's `retry:` asked for.
    var retry: UInt64 = 1_000
    var connection: StreamConnection?
    /// Whether the next end of the connection is the tool's own doing.
    var dropping = false
    /// Everything it has shown, for the oracle of `chaos`; empty in other runs.
    var records: [StreamRecord] = []

    init(index: Int, user: UserState, slow: Bool = false) {
        self.index = index
        self.user = user
        self.slow = slow
        isFirst = user.streams.isEmpty
    }
}
