public import NotificationBus
public import NotificationCore
public import NotificationStore
import Synchronization

/// What becomes known of one request while it is answered, for those who come after its route: the answer's headers and the audit log.
///
/// One route fills it in, on whatever thread, and the connection's handler reads it when there is an answer: the lock is never fought over.
public final class RequestTrace: Sendable {
    public struct Known: Sendable {
        public var subject: RequestSubject?
        /// Under the limit that the request was counted by; nil: there is none.
        public var standing: RateStanding?
        /// The router's, with its parameters' names; nil for plain routes, and where it has none.
        public var route: String?
        public var ids: [AuditEntry.Parameter] = []
    }

    private let state = Mutex(Known())

    public init() {}

    public var known: Known { self.state.withLock { $0 } }

    func authenticated(_ subject: RequestSubject, _ standing: RateStanding?) {
        self.state.withLock {
            $0.subject = subject
            $0.standing = standing
        }
    }

    func matched(_ route: String, _ ids: [AuditEntry.Parameter]) {
        self.state.withLock {
            $0.route = route
            $0.ids = ids
        }
    }
}
