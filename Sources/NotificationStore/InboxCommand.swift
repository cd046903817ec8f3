public import NotificationCore

/// One change that somebody wants made to one user's inbox.
public struct InboxCommand: Sendable {
    public enum Action: Sendable {
        case create(NewNotification)
        /// Nil leaves a flag as it is. Reading implies seen, archiving implies read.
        case setFlags(NotificationID, read: Bool?, seen: Bool?, archived: Bool?, scope: [String]?)
        case delete(NotificationID, scope: [String]?)
        /// Without a filter a mark is set. With one, up to 2,000 notifications a command: the outcome says whether there are more.
        case readAll(customer: String?, type: String?, upTo: NotificationID?, scope: [String]?)
        case seenAll(customer: String?)
        /// A scheduled one comes due.
        case comeDue(NotificationID)
        case expire(NotificationID)
        /// Its retention ended, or the application takes it back.
        case retire(NotificationID)
        /// The application corrects it. What it is, read or not, stays.
        case correct(NotificationID, NotificationCorrection)
        /// Nothing for the inbox: by which channels a notification did not go to this user.
        case skip(SkippedNotification)
        /// The user is erased: up to 1,000 notifications a command; the outcome says whether there are more. See ``UserErasure``.
        case erase

        /// Whether it may take several commands until nothing is left to do.
        public var goesInPortions: Bool {
            switch self {
            case .readAll(let customer, let type, let upTo, _): customer != nil || type != nil || upTo != nil
            case .seenAll(let customer): customer != nil
            case .erase: true
            case .create, .setFlags, .delete, .comeDue, .expire, .retire, .correct, .skip: false
            }
        }
    }

    public var user: UserID
    public var action: Action

    public init(user: UserID, action: Action) {
        self.user = user
        self.action = action
    }

    /// What it holds of the writer's queue, in bytes, without its body.
    var size: Int {
        switch self.action {
        case .create(let new): 512 + self.user.value.utf8.count + 128 * new.deliveries.count
        case .skip(let skipped): 512 + self.user.value.utf8.count + 128 * skipped.deliveries.count
        case .setFlags, .delete, .readAll, .seenAll, .comeDue, .expire, .retire, .correct, .erase: 256 + self.user.value.utf8.count
        }
    }
}

/// A notification as it is written for one user.
public struct NewNotification: Sendable {
    public var id: NotificationID
    public var type: String
    public var event: String?
    public var level: Level
    public var priority: Priority
    public var customer: String?
    public var recType: String?
    public var recID: String?
    public var collapseKey: String?
    public var createdAt: Timestamp
    public var deliverAt: Timestamp?
    public var expiresAt: Timestamp?
    /// False: stored for tracking, without a number, in no list or count.
    public var inApp: Bool
    /// The members of its JSON that only a correction changes.
    public var body: String
    /// What is known, as it is written, of the other channels.
    public var deliveries: [NewDelivery] = []
    /// It was planned without asking what is known of the user: it is left out (``InboxOutcome/Status/known``) when there is something. Only for the
    /// sole command of a request.
    public var isGuess = false

    public init(id: NotificationID, request: NotifyRequest, body: String, createdAt: Timestamp) {
        self.id = id
        self.type = request.type
        self.event = request.event
        self.level = request.level
        self.priority = request.priority
        self.customer = request.customer?.value
        self.recType = request.recType
        self.recID = request.recID
        self.collapseKey = request.collapseKey
        self.createdAt = createdAt
        self.deliverAt = request.deliverAt
        self.expiresAt = request.expiresAt
        self.inApp = request.channels.contains(.inApp)
        self.body = body
    }
}

/// A notification that a user does not get by any channel.
public struct SkippedNotification: Sendable {
    /// It names nothing but its deliveries.
    public var id: NotificationID
    public var type: String
    public var event: String?
    public var customer: String?
    public var deliveries: [NewDelivery]
    /// What it would have said, for webhooks.
    public var body: String?

    public init(id: NotificationID, request: NotifyRequest, deliveries: [NewDelivery], body: String? = nil) {
        self.id = id
        self.type = request.type
        self.event = request.event
        self.customer = request.customer?.value
        self.deliveries = deliveries
        self.body = body
    }
}

/// What became of one command, once it is committed.
public struct InboxOutcome: Sendable {
    public enum Status: Sendable, Equatable {
        case changed
        case unchanged
        case notFound
        /// Stored without a number: for tracking, or until it is due.
        case stored
        /// Left out: its request was carried out before, or is another one with the same key. See ``IdempotencyStore``.
        case claimed
        /// It was committed, but the connection broke before the details were heard: read them.
        case recovered
        /// Left out, with its request's claim: it was a guess, and something is known of the user.
        case known
    }

    public var status: Status
    /// The changes that it made, in order; a creation that replaces another makes two.
    public var changes: [InboxChange]
    /// For "all read" and an erasure: how many rows it changed, and whether another chunk remains.
    public var updated: Int
    public var more: Bool
    /// The user's head after the whole batch.
    public var head: InboxHead
}

/// A user's position and counts.
public struct InboxHead: Sendable, Equatable {
    public var position: StreamPosition
    public var unread: Int32
    public var unseen: Int32
    /// JSON: customer, U+001F, type to [unread, unseen]; an empty type is the customer's sum.
    public var counts: String

    public init(position: StreamPosition, unread: Int32, unseen: Int32, counts: String) {
        self.position = position
        self.unread = unread
        self.unseen = unseen
        self.counts = counts
    }
}

/// All that one batch committed for one user.
public struct CommittedChanges: Sendable {
    public var user: UserID
    public var changes: [InboxChange]
    public var head: InboxHead
    public var at: Timestamp
    /// How far the log was then; nil when the connection broke before it was heard.
    public var place: LogPosition?
}

/// Hears of every batch right after its commit, in the order of the commits of its lane.
public protocol CommitObserver: Sendable {
    /// Must not block. `done` is called once those who wait for the batch may be answered.
    func committed(_ users: [CommittedChanges], done: @escaping @Sendable () -> Void)
}

/// Why nothing could be written or read.
public struct StoreError: Error, Sendable, CustomStringConvertible {
    public enum Code: Sendable {
        /// Postgres is out of reach. Nothing was written.
        case unavailable
        /// The connection broke and it could not be found out in time whether the write was committed.
        case inDoubt
        /// The writer's queue is full. Nothing was written.
        case overloaded
        /// Postgres refused this write alone.
        case refused
        case failed
    }

    public var code: Code
    public var message: String
    public var sqlState: String?

    public init(code: Code, message: String, sqlState: String? = nil) {
        self.code = code
        self.message = message
        self.sqlState = sqlState
    }

    public var description: String { self.message }
}
