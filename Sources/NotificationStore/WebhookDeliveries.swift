public import NotificationCore
public import PostgresClient

/// What a call of a webhook is made of.
public struct WebhookMaterial: Sendable {
    public var webhook: NotificationID
    public var url: String
    public var status: Webhook.Status
    /// The one that signs, then the one before while it is still good. Empty: they were sealed with another key.
    public var secrets: [String]
    /// Without its data where that is large.
    public var event: WebhookEvent
    /// Of data that is large, and read when it is sent; else 0.
    public var bytes: Int
    /// What its delivery has come to already, so that nothing is left to do; nil: it is queued.
    public var ended: DeliveryState?
}

/// Reads what queued calls are made of, and notes what came of them.
public struct WebhookDeliveries: Sendable {
    public enum Verdict: Int16, Sendable {
        case accepted = 0
        /// It is tried again.
        case failed = 1
        case failedForGood = 2
        /// The endpoint wants no more.
        case gone = 3
    }

    private let pool: PostgresPool
    private let box: SecretBox?

    public init(pool: PostgresPool, box: SecretBox?) {
        self.pool = pool
        self.box = box
    }

    /// Bytes of an event's data that are read with those of others.
    private static let largest = 64 * 1024

    // Index: webhooks_pkey, webhook_events_pkey, webhook_deliveries_pkey.
    private static let read = PostgresStatement(
        """
        SELECT q.place::integer, w.id, w.url, w.status, w.secret, CASE WHEN w.old_until > clock_timestamp() THEN w.old_secret END,
               e.id, e.type, e.event, e.customer_id, e.at, CASE WHEN e.size <= \(largest) THEN e.data END, e.size,
               (SELECT d.state FROM webhook_deliveries d WHERE d.id = q.delivery)
        FROM unnest($1::text[], $2::text[], $3::uuid[]) WITH ORDINALITY AS q(webhook, event, delivery, place)
        CROSS JOIN LATERAL (SELECT * FROM webhooks w WHERE w.id = q.webhook::uuid LIMIT 1) w
        CROSS JOIN LATERAL (SELECT *, octet_length(data) AS size FROM webhook_events e WHERE e.id = q.event::uuid LIMIT 1) e
        """)

    /// In the order of the tasks; nil where the webhook or the event is gone.
    public func read(_ tasks: [QueuedTask]) async throws(StoreError) -> [WebhookMaterial?] {
        try await InboxReader.run { () async throws(PostgresError) in
            var materials = [WebhookMaterial?](repeating: nil, count: tasks.count)
            let values: [PostgresValue] = [.textArray(tasks.map(\.key)), .textArray(tasks.map(\.payload)), .uuidArray(tasks.map(\.id.bytes))]
            for row in try await self.pool.execute(Self.read, values) {
                let place = Int(try row.int4(0)) - 1
                guard materials.indices.contains(place) else { continue }
                materials[place] = try self.material(row)
            }
            return materials
        }
    }

    private func material(_ row: PostgresRow) throws(PostgresError) -> WebhookMaterial {
        let id = NotificationID(bytes: try row.uuid(1))
        guard let status = Webhook.Status(rawValue: try row.text(3)) else { throw PostgresError(code: .decoding, message: "an unknown status of a webhook") }
        let data = try row.optionalText(11)
        let state = try row.optionalText(13).flatMap { DeliveryState(rawValue: $0) }
        return WebhookMaterial(
            webhook: id, url: try row.text(2), status: status, secrets: self.secrets([try row.bytes(4), try row.optionalBytes(5)], id),
            event: WebhookEvent(
                id: NotificationID(bytes: try row.uuid(6)), type: try row.text(7), event: try row.optionalText(8), customer: try row.optionalText(9),
                at: Timestamp(microseconds: try row.timestamptz(10)), data: data ?? ""),
            bytes: data == nil ? Int(try row.int4(12)) : 0, ended: state == .queued ? nil : state)
    }

    // Index: webhook_events_pkey.
    private static let large = PostgresStatement("SELECT data FROM webhook_events WHERE id = $1")

    /// What is sent; nil: it is gone meanwhile.
    public func data(of material: WebhookMaterial) async throws(StoreError) -> String? {
        if material.bytes == 0 { return material.event.data }
        return try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(Self.large, [.uuid(material.event.id.bytes)]).first?.text(0)
        }
    }

    private func secrets(_ sealed: [[UInt8]?], _ id: NotificationID) -> [String] {
        sealed.compactMap { bytes in bytes.flatMap { self.box?.open($0, place: id.description) } }
    }

    // Index: webhooks_pkey.
    private static let target = PostgresStatement(
        "SELECT url, secret, CASE WHEN old_until > clock_timestamp() THEN old_secret END FROM webhooks WHERE id = $1 AND ($2::text[] IS NULL OR customer_id = ANY ($2))")

    /// Where a test goes, and what signs it; nil: there is no such webhook.
    public func target(_ id: NotificationID, scope: [String]?) async throws(StoreError) -> (url: String, secrets: [String])? {
        try await InboxReader.run { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.target, [.uuid(id.bytes), scope.map { .textArray($0) } ?? .null]).first else { return nil }
            return (try row.text(0), self.secrets([try row.bytes(1), try row.optionalBytes(2)], id))
        }
    }

    private static let note = PostgresStatement("SELECT was FROM note_webhook_attempt($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")

    /// Answers the status that the webhook had; nil: it is gone, or an earlier attempt was accepted, and this one counts for nothing.
    public func note(_ attempt: WebhookAttemptRecord, of webhook: NotificationID, _ verdict: Verdict) async throws(StoreError) -> Webhook.Status? {
        let values: [PostgresValue] = [
            .uuid(webhook.bytes), .uuid(attempt.id.bytes), .uuid(attempt.delivery.bytes), .text(attempt.type), .int4(Int32(clamping: attempt.number)), .int2(verdict.rawValue),
            attempt.status.map { .int4(Int32(clamping: $0)) } ?? .null, .int4(Int32(clamping: attempt.milliseconds)), attempt.error.map { .text($0) } ?? .null, .text(attempt.answer),
        ]
        return try await InboxReader.runWrite { () async throws(PostgresError) in
            try await self.pool.execute(Self.note, values).first?.optionalText(0).flatMap { Webhook.Status(rawValue: $0) }
        }
    }

    private static let noteTest = PostgresStatement(
        """
        INSERT INTO webhook_attempts (webhook_id, id, delivery_id, type, number, at, status, duration_ms, error, answer)
        VALUES ($1, $2, $3, $4, 0, clock_timestamp(), $5, $6, $7, $8)
        """)

    /// A test is in the log, and counts for nothing.
    public func note(test attempt: WebhookAttemptRecord, of webhook: NotificationID) async throws(StoreError) {
        let values: [PostgresValue] = [
            .uuid(webhook.bytes), .uuid(attempt.id.bytes), .uuid(attempt.delivery.bytes), .text(attempt.type), attempt.status.map { .int4(Int32(clamping: $0)) } ?? .null,
            .int4(Int32(clamping: attempt.milliseconds)), attempt.error.map { .text($0) } ?? .null, .text(attempt.answer),
        ]
        _ = try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(Self.noteTest, values) }
    }

    // Index: tasks_pkey.
    private static let hold = PostgresStatement(
        """
        UPDATE tasks SET queue = 'webhook.held', state = 0, run_at = clock_timestamp(), attempts = attempts - 1, lease_owner = NULL, in_doubt = false
        WHERE id = $1 AND queue = 'webhook' AND state = 2
        """)

    /// What was taken before its webhook failed waits with the others, and is nobody's.
    public func hold(_ task: NotificationID) async throws(StoreError) {
        _ = try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(Self.hold, [.uuid(task.bytes)]) }
    }

    /// Tasks that one turn moves.
    public static let moved = 1000
    private static let move = PostgresStatement("SELECT moved, resumed FROM move_webhook_tasks(\(moved))")

    /// One turn of what is queued following the status of its webhook: see the function. Answers how many moved, up to ``moved``, and how many of them are ready to go.
    public func move() async throws(StoreError) -> (moved: Int, resumed: Int) {
        try await InboxReader.runWrite { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.move).first else { throw PostgresError(code: .decoding, message: "a function without an answer") }
            return (Int(try row.int4(0)), Int(try row.int4(1)))
        }
    }
}

extension JobStore {
    private static let jobEvent = PostgresStatement("SELECT add_job_event($1, $2, $3, $4, $5, $6, $7, $8, \(userBound))")
    /// Users whom an event for webhooks names; of more it says only how many they are.
    private static let userBound = 10_000

    /// The event of a job, once however often this is called.
    func addEvent(of job: NotificationID, _ request: NotifyRequest, createdAt: Timestamp) async throws(StoreError) {
        let values: [PostgresValue] = [
            .uuid(job.bytes), .text(request.type), request.event.map { .text($0) } ?? .null, request.customer.map { .text($0.value) } ?? .null,
            .timestamptz(microsecondsSince1970: createdAt.microseconds), request.deliverAt.map { .timestamptz(microsecondsSince1970: $0.microseconds) } ?? .null,
            .int2(request.priority.rawValue), .text(String(decoding: request.localized(nil).encodeBody(createdAt: createdAt), as: UTF8.self)),
        ]
        _ = try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(Self.jobEvent, values) }
    }
}
