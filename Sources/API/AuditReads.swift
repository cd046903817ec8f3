import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `GET /v1/admin/audit`: who changed what, the newest first.
struct AuditReads: Sendable {
    let store: AuditStore
    let credentials: Credentials

    func list(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await Administrator(context.request, self.credentials).checkUnlimited()
        let query = try Self.parse(context.request.query)
        var rows = try await stored("failed", context) { () async throws(StoreError) in
            var oneMore = query
            oneMore.limit += 1
            return try await self.store.page(oneMore)
        }
        var next = JSONValue.null
        if rows.count > query.limit {
            rows.removeLast(rows.count - query.limit)
            next = rows.last.map { .string($0.id.description) } ?? .null
        }
        let answer = JSONValue.object([
            ("data", .array(rows.map(Self.json))), ("page", .object([("next", next), ("limit", .number(String(query.limit)))])),
        ])
        return .json(.ok, answer.encoded)
    }

    static func parse(_ query: Query) throws(Problem) -> AuditQuery {
        var parameters = ParameterReader(query)
        var audit = AuditQuery()
        audit.limit = parameters.number("limit", 1...200) ?? audit.limit
        audit.since = parameters.time("since")
        audit.until = parameters.time("until")
        audit.subject = parameters.word("subject")
        if let text = parameters.text("after") {
            audit.after = NotificationID(text)
            if audit.after == nil { parameters.fail("after", "must be the cursor of the page before") }
        }
        try parameters.check()
        return audit
    }

    static func json(_ row: AuditRow) -> JSONValue {
        let entry = row.entry
        let subject: JSONValue
        switch entry.subject {
        case nil: subject = .null
        case .user(let user): subject = .object([("kind", .string("user")), ("id", .string(user.value))])
        case .key(let id, let name): subject = .object([("kind", .string("key")), ("id", .string(id.description)), ("name", .string(name))])
        }
        return .object([
            ("id", .string(row.id.description)), ("at", .string(entry.at.description)), ("subject", subject), ("method", .string(entry.method)),
            ("route", entry.route.map { .string($0) } ?? .null), ("ids", .object(entry.ids.map { ($0.name, .string($0.value)) })),
            ("status", .number(String(entry.status))), ("count", .number(String(entry.count))), ("address", .string(entry.address)),
            ("request_id", .string(entry.requestID)),
        ])
    }
}
