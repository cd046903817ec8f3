import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// Lists, counts, and single notifications.
struct InboxReads: Sendable {
    static let failure = "failed_to_fetch_notifications"

    let reader: InboxReader
    let counts: any CountSource
    let credentials: Credentials
    let catalogue: @Sendable () -> Catalogue

    /// `GET /v1/notifications`
    func list(_ call: Call) async throws(Problem) -> GatewayResponse {
        let request = call.request
        let visitor = try await Visitor(request, self.credentials)
        let query = try ListQuery.parse(request.query, user: visitor.user, scope: visitor.customers, catalogue: self.catalogue())
        try visitor.check(customer: query.customer)
        let page = try await stored(Self.failure, call) { () async throws(StoreError) in try await self.reader.page(query) }
        let next = page.next.map { PageCursor.encode($0, order: query.order) }
        let numbers = InboxCounts(page.head).numbers(customers: visitor.customers)

        var bytes: [UInt8] = []
        bytes.reserveCapacity(256 + page.items.reduce(0) { $0 + $1.body.count + 192 })
        bytes.append(ascii: "{\"data\":[")
        for (index, item) in page.items.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            item.append(to: &bytes)
        }
        bytes.append(ascii: "],\"page\":{\"next\":")
        bytes.append(json: next)
        bytes.append(ascii: ",\"limit\":")
        bytes.append(decimal: Int64(query.limit))
        bytes.append(ascii: "},\"unread\":")
        bytes.append(decimal: numbers.unread)
        bytes.append(ascii: ",\"unseen\":")
        bytes.append(decimal: numbers.unseen)
        bytes.append(position: page.head.position)
        bytes.append(UInt8(ascii: "}"))
        var headers = HTTPHeaders()
        if let next { headers.add(name: "link", value: ListQuery.next(request.query, cursor: next)) }
        return EntityTag.response(to: request, bytes, headers: headers)
    }

    /// `GET /v1/notifications/{id}`
    func one(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let visitor = try await Visitor(context.request, self.credentials)
        let id = try context.notificationID()
        return EntityTag.response(to: context.request, try await self.notification(id, visitor, context, failure: Self.failure))
    }

    /// Its JSON.
    func notification(
        _ id: NotificationID, _ visitor: Visitor, _ context: CarillonRequestContext, failure: String
    ) async throws(Problem) -> [UInt8] {
        let item = try await stored(failure, context) { () async throws(StoreError) in
            try await self.reader.notification(id, of: visitor.user, scope: visitor.customers)
        }
        guard let item else { throw .notFound }
        var bytes: [UInt8] = []
        item.append(to: &bytes)
        return bytes
    }

    /// `GET /v1/notifications/count`
    func count(_ call: Call) async throws(Problem) -> GatewayResponse {
        let visitor = try await Visitor(call.request, self.credentials)
        var parameters = ParameterReader(call.request.query)
        let customer = parameters.word("customer_id")
        try parameters.check()
        try visitor.check(customer: customer)
        return try await self.count(of: visitor.user, customers: visitor.customers, customer: customer, call)
    }

    /// `GET /v1/internal/users/{id}/count`
    func countOfUser(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let request = context.request
        _ = try await self.credentials.application(request, scope: .notify)
        guard let user = context.pathParameter("id").flatMap({ UserID($0) }) else {
            throw .invalidField("id", "must have 1 to \(UserID.maximumLength) characters, none of them a control character")
        }
        var parameters = ParameterReader(request.query)
        let customer = parameters.word("customer_id")
        try parameters.check()
        return try await self.count(of: user, customers: nil, customer: customer, Call(context))
    }

    private func count(
        of user: UserID, customers: [String]?, customer: String?, _ call: Call
    ) async throws(Problem) -> GatewayResponse {
        let head = try await stored(Self.failure, call) { () async throws(StoreError) in try await self.counts.head(of: user) }
        return EntityTag.response(to: call.request, Self.countAnswer(head, customers: customers, customer: customer))
    }

    static func countAnswer(_ head: InboxHead, customers: [String]?, customer: String?) -> [UInt8] {
        let counts = InboxCounts(head)
        let numbers = counts.numbers(customers: customers, customer: customer)
        var bytes: [UInt8] = []
        bytes.append(ascii: "{\"unread\":")
        bytes.append(decimal: numbers.unread)
        bytes.append(ascii: ",\"unseen\":")
        bytes.append(decimal: numbers.unseen)
        bytes.append(ascii: ",\"by_type\":{")
        for (index, entry) in counts.unreadByType(customers: customers, customer: customer).enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes.append(json: entry.type)
            bytes.append(UInt8(ascii: ":"))
            bytes.append(decimal: entry.unread)
        }
        bytes.append(UInt8(ascii: "}"))
        bytes.append(position: head.position)
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }
}

extension [UInt8] {
    /// Appends the member `last_event_id`, after others.
    mutating func append(position: StreamPosition) {
        self.append(ascii: ",\"last_event_id\":\"")
        position.append(to: &self)
        self.append(UInt8(ascii: "\""))
    }
}

extension CarillonRequestContext {
    /// The path's `{id}`.
    func notificationID() throws(Problem) -> NotificationID {
        guard let id = self.pathParameter("id").flatMap({ NotificationID($0) }) else { throw .invalidID }
        return id
    }
}
