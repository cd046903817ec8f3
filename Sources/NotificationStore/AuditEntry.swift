public import NotificationCore

/// One writing request, or several that are alike, as the audit log keeps it. It holds no bodies, queries, tokens or tickets.
public struct AuditEntry: Sendable, Equatable {
    /// Of the answer; of the first one where several are added up.
    public var at: Timestamp
    /// Nil: nobody that could be told.
    public var subject: RequestSubject?
    public var method: String
    /// With its parameters' names (`/v1/notifications/{id}/read`); nil: there is no such route here.
    public var route: String?
    /// The parameters by name.
    public var ids: [Parameter]
    /// Of the answer.
    public var status: Int
    /// The client's.
    public var address: String
    public var requestID: String
    /// Requests that this entry stands for.
    public var count = 1
    /// UUIDv7 of ``at``. Given when it is first written, and kept when it is written again.
    var id: NotificationID?

    public struct Parameter: Sendable, Equatable {
        public var name: String
        public var value: String

        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    public init(
        at: Timestamp, subject: RequestSubject?, method: String, route: String?, ids: [Parameter] = [], status: Int, address: String, requestID: String
    ) {
        self.at = at
        self.subject = subject
        self.method = method
        self.route = route
        self.ids = ids
        self.status = status
        self.address = address
        self.requestID = requestID
    }
}
