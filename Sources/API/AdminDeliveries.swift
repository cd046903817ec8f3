import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `GET /v1/admin/deliveries`: what became of what was to be sent outside of the inbox, the last ones first.
struct AdminDeliveries: Sendable {
    static let limits = 1...200
    private static let defaultLimit = 50
    /// Of what is looked for among all users: the range is what it costs.
    static let rangeDays: Int64 = 31
    private static let states = ["queued", "sending", "sent", "delivered", "failed", "suppressed", "dead"]

    let search: DeliverySearch
    let credentials: Credentials

    func list(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let administrator = try await Administrator(context.request, self.credentials)
        var query = try Self.parse(context.request.query)
        try administrator.check(customer: query.customer)
        query.customers = administrator.customers
        let limit = query.limit
        query.limit += 1
        let asked = query
        let found = try await stored(administrationFailure, context) { () async throws(StoreError) in try await self.search.page(asked) }
        let shown = found.prefix(limit)
        let next = found.count > limit ? shown.last.map { Self.encode($0.cursor) } : nil
        return .json(.ok, JSONValue.object([
            ("data", .array(shown.map(Self.json))), ("page", AdminPage.members(next: next, limit: limit)),
        ]).encoded)
    }

    private static func parse(_ parameters: Query, now: Timestamp = .now()) throws(Problem) -> DeliveryQuery {
        var reader = ParameterReader(parameters)
        let user = reader.word("user_id").flatMap { UserID($0) }
        let until = reader.time("until") ?? Timestamp(seconds: now.seconds + 86_400)
        let range = self.rangeDays * 86_400 * 1_000_000
        let since = reader.time("since") ?? Timestamp(microseconds: user == nil ? min(until.microseconds, now.microseconds) - range : 0)
        // A day more: the default of until is in the future.
        if user == nil, until.microseconds - since.microseconds > range + 2 * 86_400 * 1_000_000 {
            reader.fail("since", "must be at most \(self.rangeDays) days before until, where no user_id is given")
        }
        var query = DeliveryQuery(since: since, until: until)
        query.user = user
        query.limit = reader.number("limit", self.limits) ?? self.defaultLimit
        query.state = reader.choice("state", { self.states.contains($0) ? $0 : nil }, self.states)
        query.channel = reader.choice("channel", { DeliveryChannel(rawValue: $0)?.rawValue }, DeliveryChannel.allCases.map(\.rawValue))
        query.customer = reader.word("customer_id")
        if let text = reader.text("after") {
            query.after = self.decode(text)
            if query.after == nil { reader.fail("after", "must be the page.next of a list before") }
        }
        try reader.check()
        return query
    }

    private static func json(_ record: DeliveryRecord) -> JSONValue {
        .object([
            ("user_id", .string(record.cursor.user.value)), ("notification_id", .string(record.cursor.notification.description)),
            ("channel", .string(record.cursor.channel)), ("endpoint", record.cursor.endpoint.isEmpty ? .null : .string(record.cursor.endpoint)),
            ("state", .string(record.state)), ("reason", record.reason.map { .string($0) } ?? .null), ("type", .string(record.type)),
            ("event", record.event.map { .string($0) } ?? .null), ("customer_id", record.customer.map { .string($0) } ?? .null),
            ("not_before", record.notBefore.map { .string($0.description) } ?? .null), ("created_at", .string(record.cursor.createdAt.description)),
            ("at", .string(record.at.description)),
        ])
    }

    static func encode(_ cursor: DeliveryQuery.Cursor) -> String {
        Base64Text.encode(
            JSONValue.array([
                .number(String(cursor.createdAt.microseconds)), .string(cursor.notification.description), .string(cursor.user.value),
                .string(cursor.channel), .string(cursor.endpoint),
            ]).encoded)
    }

    /// Nil for what no page ended with.
    static func decode(_ text: String) -> DeliveryQuery.Cursor? {
        guard text.utf8.count <= 8192, let bytes = Base64Text.decode(text), case .array(let parts)? = try? JSONParser.parse(bytes), parts.count == 5,
            case .number(let digits) = parts[0], let created = Int64(digits), let id = parts[1].string.flatMap({ NotificationID($0) }),
            let user = parts[2].string.flatMap({ UserID($0) }), let channel = parts[3].string, let endpoint = parts[4].string,
            !(channel + endpoint).unicodeScalars.contains("\0")
        else { return nil }
        return DeliveryQuery.Cursor(createdAt: Timestamp(microseconds: created), notification: id, user: user, channel: channel, endpoint: endpoint)
    }
}
