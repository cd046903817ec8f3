import Gateway
import NIOCore
import NIOHTTP1
public import NotificationCore
import NotificationStore

/// Sends a test to a webhook at once; made by whoever can.
public protocol WebhookTester: Sendable {
    /// Nil: there is no such webhook among those of the scope.
    /// Throws ``Problem`` when too many are under way.
    ///
    /// - Parameter trace: what the call is a part of.
    func test(_ id: NotificationID, scope: [String]?, trace: TraceContext?) async throws -> WebhookTestResult?
}

/// What came of a test.
public struct WebhookTestResult: Sendable {
    public var status: Int?
    public var milliseconds: Int
    public var error: String?

    public init(status: Int?, milliseconds: Int, error: String?) {
        self.status = status
        self.milliseconds = milliseconds
        self.error = error
    }
}

/// `/v1/webhooks`: by API key, or by an administrator within its customers.
struct WebhookRoutes: Sendable {
    private static let limits = 1...200
    private static let defaultLimit = 50

    let store: WebhookStore
    let tester: any WebhookTester
    let check: EndpointCheck
    let credentials: Credentials
    let idempotency: Idempotency

    func list(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        var reader = ParameterReader(context.request.query)
        let limit = reader.number("limit", Self.limits) ?? Self.defaultLimit
        let status = reader.choice("status", Webhook.Status.init(rawValue:), Webhook.Status.allCases.map(\.rawValue))
        let customer = reader.word("customer_id")
        let after = Self.after(&reader)
        try reader.check()
        try caller.check(customer: customer)
        let scope = customer.map { [$0] } ?? caller.customers
        let found = try await stored(administrationFailure, context) { () async throws(StoreError) in
            try await self.store.page(scope: scope, status: status, after: after, limit: limit + 1)
        }
        let shown = found.prefix(limit)
        let next = found.count > limit ? shown.last?.id.description : nil
        return .json(.ok, JSONValue.object([
            ("data", .array(shown.map { .object(Self.members($0)) })), ("page", AdminPage.members(next: next, limit: limit)),
        ]).encoded)
    }

    /// The answer is the only place where the secret ever stands.
    func create(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        let body = try WebhookBody(context.request.body, isNew: true)
        if let customers = caller.customers, body.customer == nil {
            throw .forbidden("The token is for \(customers.count) customers: the webhook must have one of them as customer_id.")
        }
        try caller.check(customer: body.customer)
        guard let url = body.url, let events = body.events else { throw .invalidField("/url", "is needed") }
        try await self.check.check(url)
        try self.checkSecrets()
        let webhook = Webhook(id: .make(), url: url.text, events: events, customer: body.customer, description: body.description, createdAt: .now())
        let secret = body.secret ?? Self.makeSecret()
        let members = Self.members(webhook) + [(name: "secret", value: .string(secret))]
        return try await self.secretly(context, caller, "webhooks", .created, JSONValue.object(members).encoded) { claim async throws(StoreError) in
            try await self.store.create(webhook, secret: secret, claim: claim)
        }
    }

    func get(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        return .json(.ok, JSONValue.object(Self.members(try await self.find(context, caller))).encoded)
    }

    func change(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        let id = try context.notificationID()
        let body = try WebhookBody(context.request.body, isNew: false)
        if let url = body.url { try await self.check.check(url) }
        let change = WebhookStore.Change(url: body.url?.text, events: body.events, description: body.description ?? (body.dropsDescription ? "" : nil), status: body.status)
        guard try await stored(administrationFailure, context, { () async throws(StoreError) in try await self.store.change(id, scope: caller.customers, change) }) else {
            throw .notFound
        }
        return .json(.ok, JSONValue.object(Self.members(try await self.find(context, caller))).encoded)
    }

    func delete(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        let id = try context.notificationID()
        guard try await stored(administrationFailure, context, { () async throws(StoreError) in try await self.store.delete(id, scope: caller.customers) }) else {
            throw .notFound
        }
        return GatewayResponse(status: .noContent)
    }

    /// One call, now, whatever the webhook's status; it counts for nothing.
    func test(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        let id = try context.notificationID()
        return try await self.idempotency.once(context.request, caller.identity, route: "webhooks/\(id)/test") { () async throws(Problem) in
            try await self.tested(id, caller, context.request.trace.context)
        }
    }

    private func tested(_ id: NotificationID, _ caller: Administrator, _ trace: TraceContext?) async throws(Problem) -> GatewayResponse {
        let result: WebhookTestResult?
        do {
            result = try await self.tester.test(id, scope: caller.customers, trace: trace)
        } catch let problem as Problem {
            throw problem
        } catch let error as StoreError {
            throw Problem(error, failure: administrationFailure)
        } catch {
            throw Problem(.internalServerError, administrationFailure, "The test could not be made.")
        }
        guard let result else { throw .notFound }
        return .json(.ok, JSONValue.object([
            ("accepted", .bool(result.error == nil)), ("status", result.status.map { .number(String($0)) } ?? .null),
            ("duration_ms", .number(String(result.milliseconds))), ("error", result.error.map { .string($0) } ?? .null),
        ]).encoded)
    }

    /// Another secret; the one before signs too for a day.
    func rotate(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        let id = try context.notificationID()
        let secret = try WebhookBody.secret(context.request.body) ?? Self.makeSecret()
        try self.checkSecrets()
        let until = Timestamp(seconds: Timestamp.now().seconds + Int64(Webhook.overlapHours) * 3600)
        let members: [(name: String, value: JSONValue)] = [
            ("id", .string(id.description)), ("secret", .string(secret)), ("old_secret_until", .string(until.description)),
        ]
        return try await self.secretly(context, caller, "webhooks/\(id)/rotate", .ok, JSONValue.object(members).encoded) { claim async throws(StoreError) in
            try await self.store.rotate(id, scope: caller.customers, secret: secret, claim: claim)
        }
    }

    /// What waits goes out now.
    func enable(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        let id = try context.notificationID()
        let change = WebhookStore.Change(status: .active)
        return try await self.idempotency.once(context.request, caller.identity, route: "webhooks/\(id)/enable") { () async throws(Problem) in
            guard try await stored(administrationFailure, context, { () async throws(StoreError) in try await self.store.change(id, scope: caller.customers, change) }) else {
                throw .notFound
            }
            return .json(.ok, JSONValue.object(Self.members(try await self.find(context, caller))).encoded)
        }
    }

    func replay(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        let webhook = try await self.find(context, caller)
        let body = try ReplayBody(context.request.body)
        return try await self.idempotency.once(context.request, caller.identity, route: "webhooks/\(webhook.id)/replay") { claim async throws(Problem) in
            let done = try await stored(administrationFailure, context) { () async throws(StoreError) in
                try await self.store.replay(webhook.id, since: body.since, until: body.until, onlyFailed: body.onlyFailed, claim: claim)
            }
            if done.isRepeated { return (nil, true) }
            guard let replayed = done.replayed else { throw .notFound }
            return (.json(.accepted, JSONValue.object([("replayed", .number(String(replayed)))]).encoded), true)
        }
    }

    func attempts(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await self.caller(context)
        var reader = ParameterReader(context.request.query)
        let limit = reader.number("limit", Self.limits) ?? Self.defaultLimit
        let after = Self.after(&reader)
        let webhook = try await self.find(context, caller)
        try reader.check()
        let found = try await stored(administrationFailure, context) { () async throws(StoreError) in
            try await self.store.attempts(of: webhook.id, after: after, limit: limit + 1)
        }
        let shown = found.prefix(limit)
        let next = found.count > limit ? shown.last?.id.description : nil
        return .json(.ok, JSONValue.object([("data", .array(shown.map(Self.json))), ("page", AdminPage.members(next: next, limit: limit))]).encoded)
    }

    // MARK: What all of them need

    private func caller(_ context: CarillonRequestContext) async throws(Problem) -> Administrator {
        try await Administrator(context.request, self.credentials, scope: .webhooks)
    }

    private func find(_ context: CarillonRequestContext, _ caller: Administrator) async throws(Problem) -> Webhook {
        let id = try context.notificationID()
        let found = try await stored(administrationFailure, context) { () async throws(StoreError) in try await self.store.find(id, scope: caller.customers) }
        guard let found else { throw .notFound }
        return found
    }

    private func checkSecrets() throws(Problem) {
        if !self.store.keepsSecrets { throw .unavailable("Secrets cannot be kept here: CARILLON_SECRETS_KEY is not set.") }
    }

    /// Writes something whose answer holds a secret. What is remembered of the answer can be read only by who sends the same API key again.
    private func secretly(
        _ context: CarillonRequestContext, _ caller: Administrator, _ route: String, _ status: HTTPResponseStatus, _ bytes: [UInt8],
        _ write: (IdempotencyClaim?) async throws(StoreError) -> WebhookStore.Written
    ) async throws(Problem) -> GatewayResponse {
        var sealed: SealedAnswer?
        var claim: IdempotencyClaim?
        if case .application(let owner) = caller.identity, let key = Credentials.applicationKey(context.request),
            var made = try Idempotency.claim(context.request, owner: owner, route: route)
        {
            let box = SealedAnswer(secret: key, idempotencyKey: made.key)
            made.answer = try box.seal(bytes)
            (sealed, claim) = (box, made)
        }
        let claimed = claim
        switch try await stored(administrationFailure, context, { () async throws(StoreError) in try await write(claimed) }) {
        case .written: return Self.answer(status, bytes)
        case .notFound: throw .notFound
        case .tooMany: throw .conflict("There are \(Webhook.limit) webhooks of this customer already, which is as many as may be.")
        case .claimed:
            guard let claimed, let first = sealed?.open(try await self.idempotency.text(claimed)) else { throw Idempotency.notUnderstood }
            var answer = Self.answer(status, first)
            answer.headers.add(name: "idempotent-replayed", value: "true")
            return answer
        }
    }

    private static func answer(_ status: HTTPResponseStatus, _ bytes: [UInt8]) -> GatewayResponse {
        var answer = GatewayResponse.json(status, bytes)
        answer.headers.add(name: "cache-control", value: "no-store")
        return answer
    }

    private static func after(_ reader: inout ParameterReader) -> NotificationID? {
        guard let text = reader.text("after") else { return nil }
        let id = NotificationID(text)
        if id == nil { reader.fail("after", "must be the page.next of a list before") }
        return id
    }

    /// As Standard Webhooks has them: 32 random bytes.
    private static func makeSecret() -> String {
        var generator = SystemRandomNumberGenerator()
        return "whsec_" + Base64Text.padded((0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) })
    }

    private static func members(_ webhook: Webhook) -> [(name: String, value: JSONValue)] {
        [
            ("id", .string(webhook.id.description)), ("url", .string(webhook.url)), ("events", .array(webhook.events.map { .string($0) })),
            ("customer_id", webhook.customer.map { .string($0) } ?? .null), ("description", webhook.description.map { .string($0) } ?? .null),
            ("status", .string(webhook.status.rawValue)), ("failure_count", .number(String(webhook.failureCount))),
            ("last_error", webhook.lastError.map { .string($0) } ?? .null), ("created_at", .string(webhook.createdAt.description)),
        ]
    }

    private static func json(_ attempt: WebhookAttemptRecord) -> JSONValue {
        .object([
            ("id", .string(attempt.id.description)), ("message_id", .string(attempt.delivery.description)), ("type", .string(attempt.type)),
            ("attempt", .number(String(attempt.number))), ("test", .bool(attempt.number == 0)), ("at", .string(attempt.at.description)),
            ("status", attempt.status.map { .number(String($0)) } ?? .null), ("duration_ms", .number(String(attempt.milliseconds))),
            ("error", attempt.error.map { .string($0) } ?? .null), ("answer", .string(attempt.answer)),
        ])
    }
}
