import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `/v1/admin/dead-letters`: what no attempt carried out. It is kept until somebody begins it anew, gives it up, or its retention ends.
struct AdminDeadLetters: Sendable {
    static let limits = 1...200
    private static let defaultLimit = 50

    let store: TaskStore
    let credentials: Credentials
    let idempotency: Idempotency
    /// Told which queue has got a task.
    let onTasks: @Sendable (Set<TaskQueue>) -> Void

    /// `GET /v1/admin/dead-letters`: the last ones first.
    func list(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await Administrator(context.request, self.credentials).checkUnlimited()
        var reader = ParameterReader(context.request.query)
        var query = TaskStore.DeadLetterQuery()
        let limit = reader.number("limit", Self.limits) ?? Self.defaultLimit
        let names = TaskQueue.all.map(\.rawValue)
        if let queue = reader.choice("queue", { names.contains($0) ? TaskQueue(rawValue: $0) : nil }, names) { query.queues = [queue] }
        if let text = reader.text("after") {
            query.after = Self.decode(text)
            if query.after == nil { reader.fail("after", "must be the page.next of a list before") }
        }
        try reader.check()
        query.limit = limit + 1
        let asked = query
        let found = try await stored(administrationFailure, context) { () async throws(StoreError) in try await self.store.deadLetters(asked) }
        let shown = found.prefix(limit)
        let next = found.count > limit ? shown.last.map { Self.encode(TaskStore.DeadLetterQuery.Cursor(at: $0.at, id: $0.task.id)) } : nil
        return .json(.ok, JSONValue.object([("data", .array(shown.map(Self.json))), ("page", AdminPage.members(next: next, limit: limit))]).encoded)
    }

    /// `POST /v1/admin/dead-letters/{id}/retry`: it has all its attempts again.
    func retry(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await Administrator(context.request, self.credentials)
        try caller.checkUnlimited()
        let id = try context.notificationID()
        return try await self.idempotency.once(context.request, caller.identity, route: "dead-letters/\(id)/retry") { claim async throws(Problem) in
            let done = try await stored(administrationFailure, context) { () async throws(StoreError) in try await self.store.retry(id, claim: claim) }
            if done.isRepeated { return (nil, true) }
            guard let queue = done.queue else { throw .notFound }
            self.onTasks([queue])
            let answer = JSONValue.object([("id", .string(id.description)), ("queue", .string(queue.rawValue)), ("state", .string(DeliveryState.queued.rawValue))])
            return (.json(.ok, answer.encoded), true)
        }
    }

    /// `DELETE /v1/admin/dead-letters/{id}`: what it was about stays dead.
    func drop(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await Administrator(context.request, self.credentials).checkUnlimited()
        let id = try context.notificationID()
        guard try await stored(administrationFailure, context, { () async throws(StoreError) in try await self.store.drop(id) }) else { throw .notFound }
        return GatewayResponse(status: .noContent)
    }

    private static func json(_ letter: DeadLetter) -> JSONValue {
        let task = letter.task
        return .object([
            ("id", .string(task.id.description)), ("queue", .string(task.queue.rawValue)), ("user_id", task.user.map { .string($0.value) } ?? .null),
            ("notification_id", task.notification.map { .string($0.description) } ?? .null),
            ("endpoint", task.endpoint.isEmpty ? .null : .string(task.endpoint)), ("key", task.key.isEmpty ? .null : .string(task.key)),
            ("priority", .string(task.priority.name)), ("attempts", .number(String(task.attempts))), ("error", letter.error.map { .string($0) } ?? .null),
            ("created_at", .string(task.createdAt.description)), ("at", .string(letter.at.description)),
        ])
    }

    static func encode(_ cursor: TaskStore.DeadLetterQuery.Cursor) -> String {
        Base64Text.encode(JSONValue.array([.number(String(cursor.at.microseconds)), .string(cursor.id.description)]).encoded)
    }

    /// Nil for what no page ended with.
    static func decode(_ text: String) -> TaskStore.DeadLetterQuery.Cursor? {
        guard text.utf8.count <= 256, let bytes = Base64Text.decode(text), case .array(let parts)? = try? JSONParser.parse(bytes), parts.count == 2,
            case .number(let digits) = parts[0], let at = Int64(digits), let id = parts[1].string.flatMap({ NotificationID($0) })
        else { return nil }
        return TaskStore.DeadLetterQuery.Cursor(at: Timestamp(microseconds: at), id: id)
    }
}
