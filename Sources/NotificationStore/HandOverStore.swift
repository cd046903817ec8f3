public import NotificationCore
public import PostgresClient

/// The queue in Postgres, as far as its tasks go through a message queue: see `0010_hand_over.sql`.
public struct HandOverStore: Sendable {
    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    // Index: tasks_time, tasks_ready, tasks_pkey: see the function.
    private static let next = PostgresStatement("SELECT id, key FROM claim_tasks($1, $2, make_interval(secs => $3), $4, $5, $6, '{}', false, true, $7)")
    // Index: tasks_pkey.
    private static let note = PostgresStatement("SELECT note_hand_over($1, $2, $3, $4, make_interval(secs => $5), make_interval(secs => $6))")
    // Index: tasks_pkey, tasks_user, deliveries_pkey: see the function.
    private static let take = PostgresStatement(
        """
        SELECT id, key, priority, attempts, user_id, notification_id, endpoint, payload, created_at, trace, wait
        FROM take_tasks($1, $2, make_interval(secs => $3), $4, $5, $6, $7)
        """)

    /// Ready tasks that are to be handed over by this node, within the lease. Keys take turns as in a claim.
    ///
    /// - Parameters:
    ///   - claim: `perKey`: how many of a key there are to be in the message queue at once. `busy` and `whole` are not looked at.
    ///   - bound: how many of all, where two of a key are counted at most. A claim may go beyond it by what each key has more.
    public func next(_ claim: TaskStore.Claim, bound: Int = 2000) async throws(StoreError) -> [(task: NotificationID, key: String)] {
        let values: [PostgresValue] = [
            .text(claim.queue.rawValue), .uuid(claim.owner.bytes), .float8(claim.lease), .int4(Int32(claim.limit)), .int4(Int32(clamping: claim.perKey)),
            .text(claim.after), .int4(Int32(clamping: bound)),
        ]
        return try await InboxReader.run { () async throws(PostgresError) in
            var tasks: [(task: NotificationID, key: String)] = []
            for row in try await self.pool.execute(Self.next, values) { tasks.append((NotificationID(bytes: try row.uuid(0)), try row.text(1))) }
            return tasks
        }
    }

    /// Notes which tasks are in the message queue now.
    ///
    /// - Parameters:
    ///   - window: in seconds, after which a task that nobody took is ready again: its message may be lost.
    ///   - pause: in seconds, after which those that were not taken are ready again.
    public func note(_ tasks: [(task: NotificationID, isSent: Bool)], of queue: TaskQueue, owner: NotificationID, window: Double, pause: Double) async throws(StoreError) {
        let values: [PostgresValue] = [
            .text(queue.rawValue), .uuid(owner.bytes), .uuidArray(tasks.map(\.task.bytes)), .boolArray(tasks.map(\.isSent)), .float8(window), .float8(pause),
        ]
        _ = try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(Self.note, values) }
    }

    /// What there is of the tasks that messages name. Of all others nothing is to be done now, or ever.
    public struct Taken: Sendable {
        /// This node's, for the lease.
        public var tasks: [QueuedTask] = []
        /// Those that cannot be had now, and after how many seconds they may be.
        public var busy: [NotificationID: Int] = [:]
    }

    /// - Parameter claim: `limit` and `after` are not looked at: the messages say which.
    public func take(_ tasks: [NotificationID], _ claim: TaskStore.Claim) async throws(StoreError) -> Taken {
        let values: [PostgresValue] = [
            .text(claim.queue.rawValue), .uuid(claim.owner.bytes), .float8(claim.lease), .uuidArray(tasks.map(\.bytes)), .int4(Int32(clamping: claim.perKey)),
            .textArray(claim.busy), .bool(claim.whole),
        ]
        return try await InboxReader.run { () async throws(PostgresError) in
            var taken = Taken()
            for row in try await self.pool.execute(Self.take, values) {
                let task = try TaskStore.task(row, claim.queue)
                if let wait = try row.optionalInt4(10) { taken.busy[task.id] = Int(wait) } else { taken.tasks.append(task) }
            }
            return taken
        }
    }
}
