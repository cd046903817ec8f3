public import NotificationCore
public import PostgresClient

/// Webhooks as they are managed. `scope` are the customers whose webhooks exist for the caller; nil: all.
public struct WebhookStore: Sendable {
    private let pool: PostgresPool
    private let box: SecretBox?

    /// - Parameter box: nil where secrets cannot be kept: then there can be no webhooks.
    public init(pool: PostgresPool, box: SecretBox?) {
        self.pool = pool
        self.box = box
    }

    public var keepsSecrets: Bool { self.box != nil }

    public enum Written: Sendable {
        case written, tooMany, claimed, notFound
    }

    private static let columns = "id, url, events, customer_id, description, status, failure_count, last_error, created_at"

    private static let creation = PostgresStatement("SELECT create_webhook($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)")

    public func create(_ webhook: Webhook, secret: String, claim: IdempotencyClaim?) async throws(StoreError) -> Written {
        let values: [PostgresValue] =
            [
                .uuid(webhook.id.bytes), .text(webhook.url), .textArray(webhook.events), .optional(webhook.customer), .optional(webhook.description),
                .bytea(try self.seal(secret, webhook.id)), .timestamptz(microsecondsSince1970: webhook.createdAt.microseconds), .int4(Int32(Webhook.limit)),
            ] + Self.values(of: claim)
        let code = try await self.number(Self.creation, values)
        return code == 0 ? .written : code == 1 ? .tooMany : .claimed
    }

    private static let rotation = PostgresStatement(
        "SELECT rotate_webhook($1, $2, $3, interval '\(Webhook.overlapHours) hours', $4, $5, $6, $7, $8)")

    public func rotate(_ id: NotificationID, scope: [String]?, secret: String, claim: IdempotencyClaim?) async throws(StoreError) -> Written {
        let code = try await self.number(
            Self.rotation, [.uuid(id.bytes), Self.scope(scope), .bytea(try self.seal(secret, id))] + Self.values(of: claim))
        return code == 0 ? .written : code == -1 ? .notFound : .claimed
    }

    // Index: webhooks_pkey.
    private static let one = PostgresStatement("SELECT \(columns) FROM webhooks WHERE id = $1 AND ($2::text[] IS NULL OR customer_id = ANY ($2))")

    public func find(_ id: NotificationID, scope: [String]?) async throws(StoreError) -> Webhook? {
        try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(Self.one, [.uuid(id.bytes), Self.scope(scope)]).first.map { row throws(PostgresError) in try Self.webhook(row) }
        }
    }

    // Index: webhooks_pkey, from its end; with customers webhooks_customer.
    private static let page = PostgresStatement(
        """
        SELECT \(columns) FROM webhooks
        WHERE ($1::text[] IS NULL OR customer_id = ANY ($1)) AND ($2::uuid IS NULL OR id < $2) AND ($3::text IS NULL OR status = $3) ORDER BY id DESC LIMIT $4
        """)

    /// The last ones first.
    public func page(scope: [String]?, status: Webhook.Status?, after: NotificationID?, limit: Int) async throws(StoreError) -> [Webhook] {
        let values: [PostgresValue] = [Self.scope(scope), after.map { .uuid($0.bytes) } ?? .null, .optional(status?.rawValue), .int4(Int32(limit))]
        return try await InboxReader.run { () async throws(PostgresError) in
            var webhooks: [Webhook] = []
            for row in try await self.pool.execute(Self.page, values) { webhooks.append(try Self.webhook(row)) }
            return webhooks
        }
    }

    /// What a request changes; nil: stays.
    public struct Change: Sendable {
        public var url: String?
        public var events: [String]?
        /// Empty: none.
        public var description: String?
        public var status: Webhook.Status?

        public init(url: String? = nil, events: [String]? = nil, description: String? = nil, status: Webhook.Status? = nil) {
            self.url = url
            self.events = events
            self.description = description
            self.status = status
        }
    }

    private static let change = PostgresStatement("SELECT change_webhook($1, $2, $3, $4, $5, $6)")

    /// False: there is no such webhook here.
    public func change(_ id: NotificationID, scope: [String]?, _ change: Change) async throws(StoreError) -> Bool {
        try await self.flag(
            Self.change,
            [
                .uuid(id.bytes), Self.scope(scope), .optional(change.url), change.events.map { .textArray($0) } ?? .null, .optional(change.description),
                .optional(change.status?.rawValue),
            ])
    }

    private static let deletion = PostgresStatement("SELECT delete_webhook($1, $2)")

    public func delete(_ id: NotificationID, scope: [String]?) async throws(StoreError) -> Bool {
        try await self.flag(Self.deletion, [.uuid(id.bytes), Self.scope(scope)])
    }

    /// Events that one replay sends at most.
    public static let replayed = 10_000
    private static let replay = PostgresStatement(
        "SELECT repeated, replayed FROM replay_webhook_once($1, $2, $3, $4, \(replayed), $5, $6, $7, $8)")

    /// Answers how many events are sent again; nil: there is no such webhook.
    ///
    /// - Parameter claim: the answer is kept with it; `isRepeated`: it was made before, and nothing was done.
    public func replay(
        _ id: NotificationID, since: Timestamp, until: Timestamp, onlyFailed: Bool, claim: IdempotencyClaim? = nil
    ) async throws(StoreError) -> (isRepeated: Bool, replayed: Int?) {
        let values: [PostgresValue] = [
            .uuid(id.bytes), .timestamptz(microsecondsSince1970: since.microseconds), .timestamptz(microsecondsSince1970: until.microseconds), .bool(onlyFailed),
        ]
        return try await InboxReader.runWrite { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.replay, values + IdempotencyStore.values(claim)).first else { return (false, nil) }
            return (try row.bool(0), try row.optionalInt4(1).flatMap { $0 < 0 ? nil : Int($0) })
        }
    }

    // Index: webhook_attempts_pkey.
    private static let attempts = PostgresStatement(
        """
        SELECT id, delivery_id, type, number, at, status, duration_ms, error, answer FROM webhook_attempts
        WHERE webhook_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
        """)

    /// The last ones first.
    public func attempts(of id: NotificationID, after: NotificationID?, limit: Int) async throws(StoreError) -> [WebhookAttemptRecord] {
        let values: [PostgresValue] = [.uuid(id.bytes), after.map { .uuid($0.bytes) } ?? .null, .int4(Int32(limit))]
        return try await InboxReader.run { () async throws(PostgresError) in
            var attempts: [WebhookAttemptRecord] = []
            for row in try await self.pool.execute(Self.attempts, values) {
                attempts.append(
                    WebhookAttemptRecord(
                        id: NotificationID(bytes: try row.uuid(0)), delivery: NotificationID(bytes: try row.uuid(1)), type: try row.text(2),
                        number: Int(try row.int4(3)), at: Timestamp(microseconds: try row.timestamptz(4)), status: try row.optionalInt4(5).map { Int($0) },
                        milliseconds: Int(try row.int4(6)), error: try row.optionalText(7), answer: try row.text(8)))
            }
            return attempts
        }
    }

    // An event that is there already is not added again.
    private static let event = PostgresStatement(
        """
        SELECT CASE WHEN claim_request($6, $7, $8, $9, $10) THEN add_webhook_event($1, $2, $3, $4, $5, NULL, 1::smallint, $11, $12) ELSE -1 END
        """)

    /// Answers to how many endpoints it goes; nil: its request was carried out before.
    public func add(_ event: WebhookEvent, claim: IdempotencyClaim?, trace: TraceContext? = nil) async throws(StoreError) -> Int? {
        let values: [PostgresValue] =
            [
                .uuid(event.id.bytes), .text(event.type), .optional(event.event), .optional(event.customer), .timestamptz(microsecondsSince1970: event.at.microseconds),
            ] + Self.values(of: claim) + [.text(event.data), .optional(trace?.header)]
        let count = try await self.number(Self.event, values)
        return count < 0 ? nil : Int(count)
    }

    // MARK: What all of them need

    private func number(_ statement: PostgresStatement, _ values: [PostgresValue]) async throws(StoreError) -> Int32 {
        try await InboxReader.runWrite { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(statement, values).first else { throw PostgresError(code: .decoding, message: "a function without an answer") }
            return try row.int4(0)
        }
    }

    private func flag(_ statement: PostgresStatement, _ values: [PostgresValue]) async throws(StoreError) -> Bool {
        try await InboxReader.runWrite { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(statement, values).first else { throw PostgresError(code: .decoding, message: "a function without an answer") }
            return try row.bool(0)
        }
    }

    private func seal(_ secret: String, _ id: NotificationID) throws(StoreError) -> [UInt8] {
        guard let box else { throw StoreError(code: .failed, message: "there is no key for secrets") }
        return try box.seal(secret, place: id.description)
    }

    private static func scope(_ customers: [String]?) -> PostgresValue { customers.map { .textArray($0) } ?? .null }

    private static func values(of claim: IdempotencyClaim?) -> [PostgresValue] {
        guard let claim else { return [.null, .null, .null, .null, .null] }
        return [.uuid(claim.owner.bytes), .text(claim.route), .text(claim.key), .bytea(claim.digest), .text(claim.answer)]
    }

    static func webhook(_ row: PostgresRow) throws(PostgresError) -> Webhook {
        var webhook = Webhook(
            id: NotificationID(bytes: try row.uuid(0)), url: try row.text(1), events: try row.textArray(2), customer: try row.optionalText(3),
            description: try row.optionalText(4), createdAt: Timestamp(microseconds: try row.timestamptz(8)))
        guard let status = Webhook.Status(rawValue: try row.text(5)) else { throw PostgresError(code: .decoding, message: "an unknown status of a webhook") }
        webhook.status = status
        webhook.failureCount = Int(try row.int4(6))
        webhook.lastError = try row.optionalText(7)
        return webhook
    }
}

extension PostgresValue {
    static func optional(_ text: String?) -> PostgresValue { text.map { .text($0) } ?? .null }
}
