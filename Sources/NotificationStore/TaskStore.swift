public import NotificationCore
public import PostgresClient

/// The queue in Postgres: see `0008_queue.sql`. Every call is one statement in its own transaction.
public struct TaskStore: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    // Index: tasks_time, tasks_ready, tasks_pkey, deliveries_pkey: see the function.
    private static let claim = PostgresStatement(
        """
        SELECT id, key, priority, attempts, user_id, notification_id, endpoint, payload, created_at, trace
        FROM claim_tasks($1, $2, make_interval(secs => $3), $4, $5, $6, $7, $8)
        """)
    // Index: tasks_pkey, deliveries_pkey.
    private static let finish = PostgresStatement("SELECT finish_tasks($1, $2, $3, $4, $5, $6, $7)")
    // Index: tasks_pkey. In one order, as results are noted: neither waits for the other in a ring.
    private static let renew = PostgresStatement(
        """
        UPDATE tasks SET run_at = clock_timestamp() + make_interval(secs => $3), in_doubt = false
        WHERE id IN (SELECT id FROM tasks WHERE id = ANY ($2) AND lease_owner = $1 AND state = 2 ORDER BY id FOR UPDATE) AND lease_owner = $1 AND state = 2
        RETURNING id
        """)

    /// What a node wants of a queue.
    public struct Claim: Sendable {
        public var queue: TaskQueue
        public var owner: NotificationID
        /// Seconds after which it is in doubt whether their owner lives; after half as many more, without a word from it, somebody else may have them.
        public var lease: Double
        /// At most this many, 1 to 1,000.
        public var limit: Int
        /// Of one key, at most.
        public var perKey: Int
        /// The key after which it begins: the last one of the claim before.
        public var after = ""
        /// Keys of which nothing is wanted now.
        public var busy: [String] = []
        /// All that is ready of each key, which is a user, up to 1,000; never a part of it to this and a part to another.
        public var whole = false

        public init(queue: TaskQueue, owner: NotificationID, lease: Double, limit: Int, perKey: Int = .max) {
            self.queue = queue
            self.owner = owner
            self.lease = lease
            self.limit = limit
            self.perKey = perKey
        }
    }

    /// Takes tasks that are ready. None when there are none.
    ///
    /// A claim that was cut off may have been carried out: what it took comes back when its lease, and the half of one that its owner has then, are over.
    public func claim(_ claim: Claim) async throws(StoreError) -> [QueuedTask] {
        let values: [PostgresValue] = [
            .text(claim.queue.rawValue), .uuid(claim.owner.bytes), .float8(claim.lease), .int4(Int32(claim.limit)), .int4(Int32(clamping: claim.perKey)),
            .text(claim.after), .textArray(claim.busy), .bool(claim.whole),
        ]
        return try await InboxReader.run { () async throws(PostgresError) in
            var tasks: [QueuedTask] = []
            for row in try await self.pool.execute(Self.claim, values) { tasks.append(try Self.task(row, claim.queue)) }
            return tasks
        }
    }

    static func task(_ row: PostgresRow, _ queue: TaskQueue) throws(PostgresError) -> QueuedTask {
        QueuedTask(
            id: NotificationID(bytes: try row.uuid(0)), queue: queue, key: try row.text(1), priority: Priority(rawValue: try row.int2(2)) ?? .medium,
            attempts: Int(try row.int2(3)), user: try row.optionalText(4).flatMap { UserID($0) },
            notification: try row.optionalUUID(5).map { NotificationID(bytes: $0) }, endpoint: try row.text(6), payload: try row.optionalText(7),
            createdAt: Timestamp(microseconds: try row.timestamptz(8)),
            trace: TraceContext(parent: try row.optionalText(9)))
    }

    /// Notes what became of tasks; the same again changes nothing. Answers of how many it still mattered.
    @discardableResult
    public func finish(_ results: [TaskResult], owner: NotificationID) async throws(StoreError) -> Int {
        var outcomes: [Int16?] = []
        var states: [String?] = []
        var waits: [Int64?] = []
        for result in results {
            let (outcome, state, wait): (Int16, DeliveryState?, Double) =
                switch result.outcome {
                case .over(let state): (0, state, 0)
                case .again(let after): (1, nil, after)
                case .dead: (2, nil, 0)
                case .back(let after): (3, nil, after)
                }
            outcomes.append(outcome)
            states.append(state?.rawValue)
            waits.append(Int64((wait * 1000).rounded(.up)))
        }
        let values: [PostgresValue] = [
            .uuid(owner.bytes), .uuidArray(results.map(\.task.bytes)), .int2Array(outcomes), .textArray(states), .textArray(results.map(\.reason)),
            .textArray(results.map(\.reference)), .int8Array(waits),
        ]
        return try await InboxReader.runWrite { () async throws(PostgresError) in
            Int(try await self.pool.execute(Self.finish, values).first?.int4(0) ?? 0)
        }
    }

    // Index: tasks_time: see the function.
    private static let ready = PostgresStatement("SELECT queue FROM ready_queues($1) AS queue")

    /// Those of these queues in which there is something to do: claims find something, or bring back what was lost.
    public func ready(of queues: [TaskQueue]) async throws(StoreError) -> Set<TaskQueue> {
        try await InboxReader.run { () async throws(PostgresError) in
            var ready: Set<TaskQueue> = []
            for row in try await self.pool.execute(Self.ready, [.textArray(queues.map(\.rawValue))]) { ready.insert(TaskQueue(rawValue: try row.text(0))) }
            return ready
        }
    }

    /// Keeps the leases of tasks that take longer. Those that are somebody else's by now are left alone. Answers which are the owner's.
    @discardableResult
    public func renew(_ tasks: [NotificationID], owner: NotificationID, lease: Double) async throws(StoreError) -> Set<NotificationID> {
        try await InboxReader.runWrite { () async throws(PostgresError) in
            var kept: Set<NotificationID> = []
            for row in try await self.pool.execute(Self.renew, [.uuid(owner.bytes), .uuidArray(tasks.map(\.bytes)), .float8(lease)]) {
                kept.insert(NotificationID(bytes: try row.uuid(0)))
            }
            return kept
        }
    }

    // Index: tasks_time, task_queues_pkey, deliveries_pkey.
    private static let endUnworked = PostgresStatement("SELECT end_unworked_tasks(make_interval(secs => $1), $2, $3)")

    /// Ends what has been due for so many seconds in queues that nobody has worked off for as long: nobody has the settings of their channel. Answers how many.
    public func endUnworked(after seconds: Double, except mine: [TaskQueue], limit: Int = 1000) async throws(StoreError) -> Int {
        try await InboxReader.runWrite { () async throws(PostgresError) in
            let values: [PostgresValue] = [.float8(seconds), .textArray(mine.map(\.rawValue)), .int4(Int32(limit))]
            return Int(try await self.pool.execute(Self.endUnworked, values).first?.int4(0) ?? 0)
        }
    }

    // Index: tasks_pkey.
    private static let add = PostgresStatement(
        """
        INSERT INTO tasks (id, queue, key, priority, state, run_at, user_id, notification_id, endpoint, payload, created_at)
        VALUES ($1, $2, $3, $4, CASE WHEN $5 > clock_timestamp() THEN 1 ELSE 0 END, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING
        """)

    /// Writes a task by itself. What belongs to a notification is written with it: see `apply_changes`.
    public func add(_ task: QueuedTask, at: Timestamp) async throws(StoreError) {
        _ = try await InboxReader.runWrite { () async throws(PostgresError) in
            try await self.pool.execute(
                Self.add,
                [
                    .uuid(task.id.bytes), .text(task.queue.rawValue), .text(task.key), .int2(task.priority.rawValue),
                    .timestamptz(microsecondsSince1970: at.microseconds), task.user.map { .text($0.value) } ?? .null,
                    task.notification.map { .uuid($0.bytes) } ?? .null, .text(task.endpoint), task.payload.map { .text($0) } ?? .null,
                    .timestamptz(microsecondsSince1970: task.createdAt.microseconds),
                ])
        }
    }

    /// What waits in one queue: at most ``depthBound`` are counted of each state.
    public struct Depth: Sendable, Equatable {
        public var queue: TaskQueue
        public var ready: Int
        public var waiting: Int
        public var running: Int
        public var dead: Int
        /// In a message queue.
        public var handedOver = 0
        /// How long the first one has been ready, in seconds; nil: none is.
        public var oldest: Double?
    }

    public static let depthBound = 10_000

    // Index: tasks_time, of each state so many rows.
    private static let depths = PostgresStatement(
        """
        SELECT q.name, c.ready, c.waiting, c.running, c.dead, c.handed,
               EXTRACT(EPOCH FROM clock_timestamp() - (SELECT run_at FROM tasks WHERE queue = q.name AND state = 0 ORDER BY run_at LIMIT 1))::float8
        FROM unnest($1::text[]) AS q(name) CROSS JOIN LATERAL (
            SELECT (SELECT count(*) FROM (SELECT FROM tasks WHERE queue = q.name AND state = 0 LIMIT \(depthBound)) t)::integer AS ready,
                   (SELECT count(*) FROM (SELECT FROM tasks WHERE queue = q.name AND state = 1 LIMIT \(depthBound)) t)::integer AS waiting,
                   (SELECT count(*) FROM (SELECT FROM tasks WHERE queue = q.name AND state = 2 LIMIT \(depthBound)) t)::integer AS running,
                   (SELECT count(*) FROM (SELECT FROM tasks WHERE queue = q.name AND state = 3 LIMIT \(depthBound)) t)::integer AS dead,
                   (SELECT count(*) FROM (SELECT FROM tasks WHERE queue = q.name AND state = 4 LIMIT \(depthBound)) t)::integer AS handed) c
        """)

    public func depths(of queues: [TaskQueue] = TaskQueue.all) async throws(StoreError) -> [Depth] {
        try await InboxReader.run { () async throws(PostgresError) in
            var depths: [Depth] = []
            for row in try await self.pool.execute(Self.depths, [.textArray(queues.map(\.rawValue))]) {
                depths.append(
                    Depth(
                        queue: TaskQueue(rawValue: try row.text(0)), ready: Int(try row.int4(1)), waiting: Int(try row.int4(2)),
                        running: Int(try row.int4(3)), dead: Int(try row.int4(4)), handedOver: Int(try row.int4(5)), oldest: try row.optionalFloat8(6)))
            }
            return depths
        }
    }

    // MARK: Dead letters

    /// A page of dead letters, the last ones first.
    public struct DeadLetterQuery: Sendable {
        public struct Cursor: Sendable, Equatable {
            public var at: Timestamp
            public var id: NotificationID

            public init(at: Timestamp, id: NotificationID) {
                self.at = at
                self.id = id
            }
        }

        public var queues: [TaskQueue] = TaskQueue.all
        public var after: Cursor?
        public var limit = 50

        public init() {}
    }

    // Index: tasks_time, a page of each queue.
    private static let dead = PostgresStatement(
        """
        SELECT t.* FROM unnest($1::text[]) AS q(name) CROSS JOIN LATERAL (
            SELECT id, key, priority, attempts, user_id, notification_id, endpoint, payload, created_at, trace, queue, last_error, run_at FROM tasks
            WHERE queue = q.name AND state = 3 AND (run_at, id) < ($2, $3) ORDER BY run_at DESC, id DESC LIMIT $4) t
        ORDER BY t.run_at DESC, t.id DESC LIMIT $4
        """)
    // Index: tasks_pkey, deliveries_pkey.
    private static let retry = PostgresStatement("SELECT repeated, queue FROM retry_task_once($1, $2, $3, $4, $5)")
    private static let drop = PostgresStatement("DELETE FROM tasks WHERE id = $1 AND state = 3")

    public func deadLetters(_ query: DeadLetterQuery) async throws(StoreError) -> [DeadLetter] {
        let after = query.after ?? DeadLetterQuery.Cursor(at: Timestamp(microseconds: .max), id: NotificationID(high: .max, low: .max))
        return try await InboxReader.run { () async throws(PostgresError) in
            let values: [PostgresValue] = [
                .textArray(query.queues.map(\.rawValue)), .timestamptz(microsecondsSince1970: after.at.microseconds), .uuid(after.id.bytes),
                .int8(Int64(query.limit)),
            ]
            var letters: [DeadLetter] = []
            for row in try await self.pool.execute(Self.dead, values) {
                letters.append(
                    DeadLetter(
                        task: try Self.task(row, TaskQueue(rawValue: try row.text(10))), error: try row.optionalText(11),
                        at: Timestamp(microseconds: try row.timestamptz(12))))
            }
            return letters
        }
    }

    /// A dead one has all its attempts again. Answers its queue; nil when there is no such one.
    ///
    /// - Parameter claim: the answer is kept with it; `isRepeated`: it was made before, and nothing was done.
    public func retry(_ id: NotificationID, claim: IdempotencyClaim? = nil) async throws(StoreError) -> (isRepeated: Bool, queue: TaskQueue?) {
        try await InboxReader.runWrite { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.retry, [.uuid(id.bytes)] + IdempotencyStore.values(claim)).first else { return (false, nil) }
            return (try row.bool(0), try row.optionalText(1).map { TaskQueue(rawValue: $0) })
        }
    }

    /// Gives a dead one up; its delivery stays dead. False when there is no such dead letter.
    public func drop(_ id: NotificationID) async throws(StoreError) -> Bool {
        try await InboxReader.runWrite { () async throws(PostgresError) in
            try await self.pool.execute(Self.drop, [.uuid(id.bytes)]).affectedRows > 0
        }
    }
}
