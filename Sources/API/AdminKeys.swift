import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// API keys. Whoever administers all customers may give any scope: such a key could make one with that scope anyhow.
struct AdminKeys: Sendable {
    static let limits = 1...200
    private static let defaultLimit = 50
    private static let nameBound = 200

    let keys: APIKeyStore
    let credentials: Credentials
    let idempotency: Idempotency

    /// `GET /v1/admin/apikeys`: the last ones first.
    func list(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await Administrator(context.request, self.credentials).checkUnlimited()
        var reader = ParameterReader(context.request.query)
        let limit = reader.number("limit", Self.limits) ?? Self.defaultLimit
        let status = reader.choice("status", APIKeyStore.Status.init(rawValue:), APIKeyStore.Status.allCases.map(\.rawValue)) ?? .active
        var after: NotificationID?
        if let text = reader.text("after") {
            after = NotificationID(text)
            if after == nil { reader.fail("after", "must be the page.next of a list before") }
        }
        try reader.check()
        let cursor = after
        let found = try await stored(administrationFailure, context) { () async throws(StoreError) in
            try await self.keys.page(status, after: cursor, limit: limit + 1)
        }
        let shown = found.prefix(limit)
        let next = found.count > limit ? shown.last?.id.description : nil
        return .json(.ok, JSONValue.object([
            ("data", .array(shown.map { .object(Self.members($0)) })), ("page", AdminPage.members(next: next, limit: limit)),
        ]).encoded)
    }

    /// `POST /v1/admin/apikeys`: the answer is the only place where the key ever stands.
    func create(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let administrator = try await Administrator(context.request, self.credentials)
        try administrator.checkUnlimited()
        let body = try KeyBody(context.request.body, nameBound: Self.nameBound)
        let new = APIKeyStore.NewKey(name: body.name, scopes: body.scopes)
        var members = Self.members(new.stored)
        members.append(("key", .string(new.key)))
        let bytes = JSONValue.object(members).encoded
        guard case .application(let owner) = administrator.identity, let secret = Credentials.applicationKey(context.request),
            var claim = try Idempotency.claim(context.request, owner: owner, route: "apikeys")
        else {
            try await stored(administrationFailure, context) { () async throws(StoreError) in _ = try await self.keys.insert(new) }
            return Self.answer(bytes)
        }
        let sealed = SealedAnswer(secret: secret, idempotencyKey: claim.key)
        claim.answer = try sealed.seal(bytes)
        let claimed = claim
        if try await stored(administrationFailure, context, { () async throws(StoreError) in try await self.keys.insert(new, claim: claimed) }) {
            return Self.answer(bytes)
        }
        guard let first = sealed.open(try await self.idempotency.text(claimed)) else { throw Idempotency.notUnderstood }
        var answer = Self.answer(first)
        answer.headers.add(name: "idempotent-replayed", value: "true")
        return answer
    }

    private static func answer(_ bytes: [UInt8]) -> GatewayResponse {
        var answer = GatewayResponse.json(.created, bytes)
        answer.headers.add(name: "cache-control", value: "no-store")
        return answer
    }

    /// `DELETE /v1/admin/apikeys/{id}`: within two seconds no node takes it any more.
    func revoke(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await Administrator(context.request, self.credentials).checkUnlimited()
        let id = try context.notificationID()
        guard try await stored(administrationFailure, context, { () async throws(StoreError) in try await self.keys.revoke(id) }) else {
            throw .notFound
        }
        return GatewayResponse(status: .noContent)
    }

    private static func members(_ key: APIKeyStore.Key) -> [(name: String, value: JSONValue)] {
        [
            ("id", .string(key.id.description)), ("name", .string(key.name)),
            ("scopes", .array(Scope.allCases.filter { key.scopes.contains($0) }.map { .string($0.rawValue) })),
            ("created_at", .string(key.createdAt.description)), ("revoked_at", key.revokedAt.map { .string($0.description) } ?? .null),
        ]
    }
}

/// The body of a new key: all of it is known, or nothing is made.
struct KeyBody {
    var name = ""
    var scopes: Set<Scope> = []

    init(_ body: ByteBuffer, nameBound: Int) throws(Problem) {
        var errors: [FieldError] = []
        var name: String?
        var scopes: [JSONValue]?
        for (member, value) in try JSONBody.object(body) {
            switch (member, value) {
            case ("name", .string(let text)): name = text
            case ("scopes", .array(let values)): scopes = values
            case ("name", _), ("scopes", _): break
            default: errors.add("/" + member, "is not a field of an API key")
            }
        }
        if let name, (1...nameBound).contains(name.unicodeScalars.count), !name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) {
            self.name = name
        } else {
            errors.add("/name", "must be a text of 1 to \(nameBound) characters, none of them a control character")
        }
        let words = Scope.allCases.map(\.rawValue).joined(separator: ", ")
        if let scopes, !scopes.isEmpty {
            for (index, value) in scopes.enumerated() {
                guard let scope = value.string.flatMap(Scope.init(rawValue:)) else {
                    errors.add("/scopes/\(index)", "must be one of " + words)
                    continue
                }
                self.scopes.insert(scope)
            }
        } else {
            errors.add("/scopes", "must be a list of some of " + words)
        }
        guard let first = errors.first else { return }
        throw Problem(.unprocessableEntity, "invalid_body", "\(first.pointer): \(first.detail)", errors: errors)
    }
}

/// The member `page` of the administrators' lists.
enum AdminPage {
    static func members(next: String?, limit: Int) -> JSONValue {
        .object([("next", next.map { .string($0) } ?? .null), ("limit", .number(String(limit)))])
    }
}
