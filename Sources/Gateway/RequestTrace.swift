public import Logging
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
        /// Notifications that it made, for the log: by user and number an edge's log goes on.
        public var made: [NotifyAnswer.Entry] = []
    }

    /// Whether the client is still there, for a route that waits.
    private enum Presence {
        case there(then: (@Sendable () -> Void)?)
        case gone
    }

    /// Of the client; nil when it sent none.
    public let context: TraceContext?
    private let state = Mutex(Known())
    private let presence = Mutex(Presence.there(then: nil))

    public init(context: TraceContext? = nil) {
        self.context = context
    }

    /// What each line of the log about the request says.
    public func logged(_ requestID: String) -> Logger.Metadata {
        var metadata = context.logged
        metadata["request_id"] = .string(requestID)
        return metadata
    }

    public var known: Known { self.state.withLock { $0 } }

    /// Calls `body`, on any thread, when the client is gone before it was answered; at once when it is gone already. There is one such call.
    public func whenAbandoned(_ body: @escaping @Sendable () -> Void) {
        let isGone = self.presence.withLock { presence in
            switch presence {
            case .there:
                presence = .there(then: body)
                return false
            case .gone: return true
            }
        }
        if isGone { body() }
    }

    func abandoned() {
        let then = self.presence.withLock { presence -> (@Sendable () -> Void)? in
            defer { presence = .gone }
            switch presence {
            case .there(let then): return then
            case .gone: return nil
            }
        }
        then?()
    }

    func authenticated(_ subject: RequestSubject, _ standing: RateStanding?) {
        self.state.withLock {
            $0.subject = subject
            $0.standing = standing
        }
    }

    public func made(_ entries: [NotifyAnswer.Entry]) { self.state.withLock { $0.made = entries } }

    func matched(_ route: String, _ ids: [AuditEntry.Parameter]) {
        self.state.withLock {
            $0.route = route
            $0.ids = ids
        }
    }
}
