public import NotificationCore
public import PostgresClient

/// What a call of a webhook is made of.
public struct WebhookMaterial: Sendable {
    public var webhook: NotificationID
    public var url: String
    public var status: Webhook.Status
    /// The one that signs, then the one before while it is still good. Empty: they were sealed with another key.
    public var secrets: [String]
    public var event: WebhookEvent
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

    // Index: webhooks_pkey, webhook_events_pkey.
    private static let read = PostgresStatement(
        """
        SELECT q.place::integer, w.id, w.url, w.status, w.secret, CASE WHEN w.old_until > clock_timestamp() THEN w.old_secret END,
               e.id, e.type, e.event, e.customer_id, e.at, e.data
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS q(webhook, event, place)
        CROSS JOIN LATERAL (SELECT * FROM webhooks w WHERE w.id = q.webhook::uuid LIMIT 1) w
        CROSS JOIN LATERAL (SELECT * FROM webhook_events e WHERE e.id = q.event::uuid LIMIT 1) e
        """)

    /// In the order of the tasks; nil where the webhook or the event is gone.
    public func read(_ tasks: [QueuedTask]) async throws(StoreError) -> [WebhookMaterial?] {
        try await InboxReader.run { () async throws(PostgresError) in
            var materials = [WebhookMaterial?](repeating: nil, count: tasks.count)
            for row in try await self.pool.execute(Self.read, [.textArray(tasks.map(\.key)), .textArray(tasks.map(\.payload))]) {
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
        return WebhookMaterial(
            webhook: id, url: try row.text(2), status: status, secrets: self.secrets([try row.bytes(4), try row.optionalBytes(5)], id),
            event: WebhookEvent(
                id: NotificationID(bytes: try row.uuid(6)), type: try row.text(7), event: try row.optionalText(8), customer: try row.optionalText(9),
                at: Timestamp(microseconds: try row.timestamptz(10)), data: try row.text(11)))
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

    /// Answers the status that the webhook had; nil: it is gone.
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
    private static let hold = PostgresStatement("UPDATE tasks SET queue = 'webhook.held' WHERE id = $1 AND queue = 'webhook'")

    /// What was taken before its webhook failed waits with the others.
    public func hold(_ task: NotificationID) async throws(StoreError) {
        _ = try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(Self.hold, [.uuid(task.bytes)]) }
    }

    // Index: tasks_ready, tasks_time.
    private static let resume = PostgresStatement(
        """
        SELECT move_webhook_tasks(w.id, true) FROM webhooks w
        WHERE w.status = 'ACTIVE' AND EXISTS (SELECT FROM tasks t WHERE t.queue = 'webhook.held' AND t.key = w.id::text
                                              AND (t.state IN (0, 1) OR t.state = 2 AND t.run_at <= clock_timestamp()))
        """)

    /// What was set aside at the moment when its webhook was made active again goes on: neither waits for the other.
    public func resumeHeld() async throws(StoreError) {
        _ = try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(Self.resume) }
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
