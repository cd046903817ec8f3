import Gateway
import Hummingbird
import Logging
import NIOHTTP1
import NotificationBus
import NotificationCore

/// Who is connected where. Redis knows, and the edges: without it the answer is 503.
struct AdminConnections: Sendable {
    static let limits = 1...200
    private static let defaultLimit = 50

    let connections: Connections
    let credentials: Credentials
    let idempotency: Idempotency

    /// `GET /v1/admin/connections`: one user's streams, or the edges' sums and a page of users.
    func list(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await Administrator(context.request, self.credentials).checkUnlimited()
        var reader = ParameterReader(context.request.query)
        let limit = reader.number("limit", Self.limits) ?? Self.defaultLimit
        let user = reader.word("user_id").flatMap { UserID($0) }
        // Users come in the order of their bytes: the last one is the cursor.
        let after = reader.word("after").flatMap { UserID($0) }
        try reader.check()
        return if let user { try await self.streams(of: user, context) } else { try await self.page(after: after, limit: limit, context) }
    }

    private func streams(of user: UserID, _ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let streams = try await asked(context) { try await self.connections.streams(of: user) }
        return .json(.ok, JSONValue.object([
            ("data", .array(streams.map { stream in
                .object([
                    ("user_id", .string(user.value)), ("connection_id", .string(stream.connection)), ("node", .string(stream.edge.node)),
                    ("edge", .string(stream.edge.name)), ("transport", .string(stream.transport.rawValue)), ("since", .string(stream.since.description)),
                ])
            })),
            ("connections", .number(String(streams.count))),
        ]).encoded)
    }

    private func page(after: UserID?, limit: Int, _ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let page = try await asked(context) { try await self.connections.page(after: after, limit: limit) }
        let edges: [JSONValue] = page.edges.map { edge in
            .object([
                ("node", .string(edge.edge.node)), ("edge", .string(edge.edge.name)), ("since", .string(edge.edge.since.description)),
                ("connections", edge.streams.map { .number(String($0)) } ?? .null),
            ])
        }
        let users: [JSONValue] = page.users.map { user in
            .object([
                ("user_id", .string(user.user.value)), ("connections", .number(String(user.count))),
                ("edges", .array(user.streams.map { part in
                    .object([("node", .string(part.edge.node)), ("edge", .string(part.edge.name)), ("connections", .number(String(part.count)))])
                })),
            ])
        }
        return .json(.ok, JSONValue.object([
            ("connections", .number(String(page.edges.reduce(0) { $0 + ($1.streams ?? 0) }))), ("edges", .array(edges)), ("data", .array(users)),
            ("page", AdminPage.members(next: page.more ? page.users.last?.user.value : nil, limit: limit)),
        ]).encoded)
    }

    /// `POST /v1/admin/users/{id}/disconnect`: clients reconnect by themselves; whoever must not has to lose the token first.
    func disconnect(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let caller = try await Administrator(context.request, self.credentials)
        try caller.checkUnlimited()
        let user = try context.userID()
        return try await self.idempotency.once(context.request, caller.identity, route: "users/\(user.value)/disconnect") { () async throws(Problem) in
            let done = try await asked(context) { try await self.connections.disconnect(user) }
            if let silent = done.silent.first {
                throw .unavailable("\(done.streams) streams were closed; the edge \(silent.node) has not answered: try again.")
            }
            return .json(.ok, JSONValue.object([("disconnected", .number(String(done.streams)))]).encoded)
        }
    }

    /// Asks Redis.
    private func asked<Value: Sendable>(_ context: CarillonRequestContext, _ body: () async throws -> Value) async throws(Problem) -> Value {
        do {
            return try await body()
        } catch {
            context.logger.debug("edges cannot be asked", metadata: ["error": "\(error)"])
            throw .unavailable("Redis is out of reach; try again.")
        }
    }
}

extension CarillonRequestContext {
    /// The path's `{id}` of a user.
    func userID() throws(Problem) -> UserID {
        guard let user = self.pathParameter("id").flatMap({ UserID($0) }) else {
            throw .invalidField("id", "must have 1 to \(UserID.maximumLength) characters, none of them a control character")
        }
        return user
    }
}
