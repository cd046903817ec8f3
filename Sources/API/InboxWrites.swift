import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// Changes that a user makes to the own inbox.
struct InboxWrites: Sendable {
    static let markFailure = "failed_to_mark_as_read"
    static let deleteFailure = "failed_to_delete"
    /// Of "all read" with a filter, each 2,000 notifications.
    private static let roundBound = 10_000

    let writer: InboxWriter
    let reads: InboxReads

    private var credentials: Credentials { self.reads.credentials }

    /// `PATCH` or `POST /v1/notifications/{id}/read`
    func read(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await self.setFlags(context) { $0.read = true }
    }

    /// `PATCH /v1/notifications/{id}`
    func change(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await self.setFlags(context) { _ in }
    }

    /// - Parameter whenEmpty: what a body without any flag means.
    private func setFlags(_ context: CarillonRequestContext, whenEmpty: (inout FlagsBody) -> Void) async throws(Problem) -> GatewayResponse {
        let visitor = try await Visitor(context.request, self.credentials)
        let id = try context.notificationID()
        var body = try FlagsBody(context.request.body)
        if body.isEmpty { whenEmpty(&body) }
        let flags = body
        if !flags.isEmpty {
            let command = InboxCommand(
                user: visitor.user,
                action: .setFlags(id, read: flags.read, seen: flags.seen, archived: flags.archived, scope: visitor.customers))
            let outcomes = try await stored(Self.markFailure, context) { () async throws(StoreError) in try await self.writer.write([command]) }
            guard let outcome = outcomes.first, outcome.status != .notFound else { throw .notFound }
            if let change = outcome.changes.last(where: { $0.notification == id }), let shown = change.body {
                var bytes: [UInt8] = []
                NotificationJSON.append(id: id, seq: change.seq, body: shown, state: change.state, readAt: change.readAt, to: &bytes)
                return .json(.ok, bytes)
            }
        }
        // Nothing was changed, or it was not heard how: as it is now.
        return .json(.ok, try await self.reads.notification(id, visitor, context, failure: Self.markFailure))
    }

    /// `DELETE /v1/notifications/{id}`
    func delete(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let visitor = try await Visitor(context.request, self.credentials)
        let command = InboxCommand(user: visitor.user, action: .delete(try context.notificationID(), scope: visitor.customers))
        let outcomes = try await stored(Self.deleteFailure, context) { () async throws(StoreError) in try await self.writer.write([command]) }
        guard let outcome = outcomes.first, outcome.status != .notFound else { throw .notFound }
        return GatewayResponse(status: .noContent)
    }

    /// `PATCH` or `POST /v1/notifications/read-all`
    func readAll(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let visitor = try await Visitor(context.request, self.credentials)
        let filter = try ReadAllBody(context.request.body)
        try visitor.check(customer: filter.customer)
        let type = filter.type.map { self.reads.catalogue()[$0]?.name ?? $0 }
        let commands = Self.customers(filter.customer, visitor).map { customer in
            InboxCommand(user: visitor.user, action: .readAll(customer: customer, type: type, upTo: filter.upTo, scope: visitor.customers))
        }
        let (updated, head) = try await self.repeated(commands, visitor, context)
        let numbers = InboxCounts(head).numbers(customers: visitor.customers)
        var bytes: [UInt8] = []
        bytes.append(ascii: "{\"updated\":")
        bytes.append(decimal: Int64(updated))
        bytes.append(ascii: ",\"unread\":")
        bytes.append(decimal: numbers.unread)
        bytes.append(position: head.position)
        bytes.append(UInt8(ascii: "}"))
        return .json(.ok, bytes)
    }

    /// `POST /v1/notifications/seen`
    func seen(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let visitor = try await Visitor(context.request, self.credentials)
        let commands = Self.customers(nil, visitor).map { InboxCommand(user: visitor.user, action: .seenAll(customer: $0)) }
        let (_, head) = try await self.repeated(commands, visitor, context)
        let numbers = InboxCounts(head).numbers(customers: visitor.customers)
        var bytes: [UInt8] = []
        bytes.append(ascii: "{\"unseen\":")
        bytes.append(decimal: numbers.unseen)
        bytes.append(ascii: ",\"unread\":")
        bytes.append(decimal: numbers.unread)
        bytes.append(position: head.position)
        bytes.append(UInt8(ascii: "}"))
        return .json(.ok, bytes)
    }

    /// For which customers a change to "all" is made: nil is the whole inbox. A token limited to some customers must not mark the rows of
    /// others, so that each of its own has a command, and one is for rows of none.
    static func customers(_ asked: String?, _ visitor: Visitor) -> [String?] {
        if asked != nil { return [asked] }
        guard let allowed = visitor.customers else { return [nil] }
        return allowed + [""]
    }

    /// Writes the commands, and those again of which more remains or may remain: of a recovered one nobody heard. One without a filter is a mark, and done
    /// with its commit; again it would mark what came since.
    private func repeated(
        _ commands: [InboxCommand], _ visitor: Visitor, _ context: CarillonRequestContext
    ) async throws(Problem) -> (updated: Int, head: InboxHead) {
        var remaining = commands
        var updated = 0
        var head: InboxHead?
        for _ in 0..<Self.roundBound where !remaining.isEmpty {
            let round = remaining
            let outcomes = try await stored(Self.markFailure, context) { () async throws(StoreError) in try await self.writer.write(round) }
            if outcomes.contains(where: { $0.status == .notFound }) { throw .notFound }
            remaining = []
            for (command, outcome) in zip(round, outcomes) {
                updated += outcome.updated
                if outcome.more || outcome.status == .recovered && command.action.goesInPortions { remaining.append(command) }
                head = outcome.status == .recovered ? nil : outcome.head
            }
        }
        if let head, head.position.epoch > 0 { return (updated, head) }
        let current = try await stored(Self.markFailure, context) { () async throws(StoreError) in try await self.reads.reader.head(of: visitor.user) }
        return (updated, current)
    }
}

/// The body of "all read". A key that it does not know is refused: a mistyped filter would mark everything.
struct ReadAllBody: Sendable {
    var customer: String?
    var type: String?
    var upTo: NotificationID?

    init(_ body: ByteBuffer) throws(Problem) {
        var errors: [FieldError] = []
        for (name, value) in try JSONBody.object(body) where value != .null {
            switch name {
            case "customer_id", "type":
                guard let id = value.string.flatMap({ OpaqueID($0) }) else {
                    errors.add("/" + name, "must be a string of 1 to \(OpaqueID.maximumLength) characters, none of them a control character")
                    continue
                }
                if name == "type" { self.type = id.value } else { self.customer = id.value }
            case "up_to":
                guard let id = value.string.flatMap({ NotificationID($0) }) else { throw .invalidID }
                self.upTo = id
            default: errors.add("/" + name, "not a filter: customer_id, type and up_to are")
            }
        }
        guard let first = errors.first else { return }
        throw Problem(.unprocessableEntity, "invalid_body", "\(first.pointer): \(first.detail)", errors: errors)
    }
}
