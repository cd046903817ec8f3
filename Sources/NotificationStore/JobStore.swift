public import NotificationCore
public import PostgresClient

/// Jobs as they are written down. Every statement is one transaction.
public struct JobStore: Sendable {
    /// How long a node may be silent before another one takes its job over.
    static let lease = 5.0
    /// How long a request may bring no user before its job counts as left behind.
    static let loadingLease = 60.0
    /// How long a statement in doubt is looked after.
    private static let doubt: Duration = .seconds(8)

    let pool: PostgresPool
    private let onQueued: @Sendable () -> Void

    /// - Parameter onQueued: there is a job for the next worker. It must not block.
    public init(pool: PostgresPool, onQueued: @escaping @Sendable () -> Void = {}) {
        self.pool = pool
        self.onQueued = onQueued
    }

    // MARK: Writing them down

    // Index: jobs_pkey, job_users_pkey, idempotency_pkey.
    private static let add = PostgresStatement("SELECT add_job($1, $2, $3, $4, $5, $6, make_interval(secs => $7), $8, $9, $10, $11, $12, $13, $14)")
    private static let open = PostgresStatement(
        """
        INSERT INTO jobs (id, body, told, state, created_at, lease_until, trace, turn)
        VALUES ($1, $2, $3, 'loading', $4, clock_timestamp() + make_interval(secs => $5), $6, job_turn($4, $7)) ON CONFLICT (id) DO NOTHING
        """)
    private static let load = PostgresStatement("SELECT load_job($1, $2, make_interval(secs => $3))")
    private static let queue = PostgresStatement("SELECT queue_job($1, $2, $3, $4, $5, $6)")

    /// A whole job at once: durable with all its users when this returns.
    ///
    /// - Parameter owner: whose it is to carry out; nil: the next worker's.
    /// - Returns: The number of its users; nil when the claim was made before, and nothing was written.
    public func add(_ job: Job, users: [UserID], owner: NotificationID? = nil, claim: IdempotencyClaim? = nil) async throws(StoreError) -> Int? {
        let values: [PostgresValue] = [
            .uuid(job.id.bytes), .text(job.body), .bool(job.isTold), .timestamptz(microsecondsSince1970: job.createdAt.microseconds),
            .textArray(users.map(\.value)), owner.map { .uuid($0.bytes) } ?? .null, .float8(Self.lease),
        ]
        let all = values + Self.values(claim) + [.optional(job.trace?.header), .int2(job.priority.rawValue)]
        let total = try await self.untilKnown(Self.add, all) { row throws(PostgresError) in try row.optionalInt4(0).map(Int.init) } ?? nil
        if total != nil, owner == nil { self.onQueued() }
        return total
    }

    /// Begins a job whose users come one after the other: nobody carries it out before ``queue(_:claim:)``.
    public func open(_ job: Job) async throws(StoreError) {
        let values: [PostgresValue] = [
            .uuid(job.id.bytes), .text(job.body), .bool(job.isTold), .timestamptz(microsecondsSince1970: job.createdAt.microseconds), .float8(Self.loadingLease),
            .optional(job.trace?.header), .int2(job.priority.rawValue),
        ]
        _ = try await self.untilKnown(Self.open, values) { _ in () }
    }

    /// - Throws: `unavailable` also when the job was given up meanwhile.
    public func load(_ job: NotificationID, users: [UserID]) async throws(StoreError) {
        let values: [PostgresValue] = [.uuid(job.bytes), .textArray(users.map(\.value)), .float8(Self.loadingLease)]
        let isThere = try await self.untilKnown(Self.load, values) { row throws(PostgresError) in try row.bool(0) }
        if isThere != true { throw Self.givenUp }
    }

    /// All users have come. Answers how many, doubles counted once; nil when the claim was made before.
    public func queue(_ job: NotificationID, claim: IdempotencyClaim?) async throws(StoreError) -> Int? {
        let total = try await self.untilKnown(Self.queue, [.uuid(job.bytes)] + Self.values(claim)) { row throws(PostgresError) in
            try row.optionalInt4(0).map(Int.init)
        }
        if total == .some(-1) { throw Self.givenUp }
        if total != nil { self.onQueued() }
        return total ?? nil
    }

    // Index: jobs_pkey, job_users_pkey.
    private static let reopen = PostgresStatement("SELECT reopen_job($1, $2, $3)")

    /// Takes up a job that did not get to all of these users, who are its own: those whom it has written to are left out. False: there is nothing to take up.
    public func reopen(_ job: NotificationID, users: [UserID]) async throws(StoreError) -> Bool { try await self.reopen(job, users, nil) }

    /// The same with users who have been loaded for another one, which their request was to be.
    public func reopen(_ job: NotificationID, usersOf other: NotificationID) async throws(StoreError) -> Bool { try await self.reopen(job, [], other) }

    private func reopen(_ job: NotificationID, _ users: [UserID], _ other: NotificationID?) async throws(StoreError) -> Bool {
        let values: [PostgresValue] = [.uuid(job.bytes), .textArray(users.map(\.value)), other.map { .uuid($0.bytes) } ?? .null]
        let isOpen = try await InboxReader.runWrite { () async throws(PostgresError) in try await self.pool.execute(Self.reopen, values).first?.bool(0) ?? false }
        if isOpen { self.onQueued() }
        return isOpen
    }

    private static let givenUp = StoreError(code: .unavailable, message: "the job was given up since its users took too long to come")

    private static func values(_ claim: IdempotencyClaim?) -> [PostgresValue] {
        guard let claim else { return [.null, .null, .null, .null, .null] }
        return [.uuid(claim.owner.bytes), .text(claim.route), .text(claim.key), .bytea(claim.digest), .text(claim.answer)]
    }

    // MARK: Carrying them out

    // Index: jobs_open.
    private static func taking(inOrderOf order: String) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE jobs SET state = 'running', lease_owner = $1, lease_until = clock_timestamp() + make_interval(secs => $2)
            WHERE id IN (SELECT id FROM jobs WHERE ended_at IS NULL AND state IN ('queued', 'running') AND (lease_until IS NULL OR lease_until < clock_timestamp())
                         AND total BETWEEN $3 AND $4 ORDER BY \(order) LIMIT $5 FOR UPDATE SKIP LOCKED)
            RETURNING id, body, told, created_at, position, trace, again
            """)
    }
    private static let take = taking(inOrderOf: "turn")
    // Whose turn was longest ago; a step of priority is an hour before the first one, and seconds from then on.
    private static let takeByTurns = taking(inOrderOf: "COALESCE(lease_until - (created_at - turn) / 720, turn)")
    // Index: jobs_pkey.
    private static let takeOne = PostgresStatement(
        """
        UPDATE jobs SET state = 'running', lease_owner = $1, lease_until = clock_timestamp() + make_interval(secs => $2)
        WHERE id = $3 AND ended_at IS NULL AND state IN ('queued', 'running') AND (lease_until IS NULL OR lease_until < clock_timestamp() OR lease_owner = $1)
        RETURNING id, body, told, created_at, position, trace, again
        """)
    // Index: jobs_pkey, job_users_pkey.
    private static let advance = PostgresStatement(
        "SELECT held, users FROM advance_job($1, $2, make_interval(secs => $3), $4, $5, $6, $7, $8, $9)")
    private static let release = PostgresStatement("UPDATE jobs SET lease_until = clock_timestamp() WHERE lease_owner = $1 AND ended_at IS NULL")
    private static let releaseOne = PostgresStatement(
        "UPDATE jobs SET lease_until = clock_timestamp() WHERE id = $1 AND lease_owner = $2 AND ended_at IS NULL")
    private static let postpone = PostgresStatement(
        """
        UPDATE jobs SET failed = CASE WHEN too_late THEN total - done - skipped ELSE failed END, state = CASE WHEN too_late THEN 'failed' ELSE 'queued' END,
               ended_at = CASE WHEN too_late THEN clock_timestamp() END, lease_owner = NULL, lease_until = clock_timestamp() + interval '10 seconds'
        FROM (SELECT created_at < clock_timestamp() - interval '1 hour' AS too_late FROM jobs WHERE id = $1) AS t
        WHERE id = $1 AND lease_owner = $2 AND ended_at IS NULL
        """)

    /// The oldest jobs that nobody carries out, those of higher priorities before, among those of that many users; by turns: those that were let go longest ago.
    func take(_ count: Int, ofUsers users: ClosedRange<Int32>, byTurns: Bool = false, owner: NotificationID) async throws(StoreError) -> [HeldJob] {
        let values: [PostgresValue] = [
            .uuid(owner.bytes), .float8(Self.lease), .int4(users.lowerBound), .int4(users.upperBound), .int8(Int64(count)),
        ]
        return try await InboxReader.run { () async throws(PostgresError) in try Self.held(await self.pool.execute(byTurns ? Self.takeByTurns : Self.take, values)) }
    }

    /// That job, when nobody carries it out.
    func take(_ job: NotificationID, owner: NotificationID) async throws(StoreError) -> HeldJob? {
        let values: [PostgresValue] = [.uuid(owner.bytes), .float8(Self.lease), .uuid(job.bytes)]
        return try await InboxReader.run { () async throws(PostgresError) in try Self.held(await self.pool.execute(Self.takeOne, values)).first }
    }

    private static func held(_ rows: PostgresRows) throws(PostgresError) -> [HeldJob] {
        var jobs: [HeldJob] = []
        for row in rows {
            let id = try row.uuid(0)
            var job = Job(
                id: NotificationID(high: id.high, low: id.low), body: try row.text(1), isTold: try row.bool(2),
                createdAt: Timestamp(microseconds: try row.timestamptz(3)), trace: TraceContext(parent: try row.optionalText(5)))
            job.isAgain = try row.bool(6)
            jobs.append(HeldJob(job: job, position: try row.text(4)))
        }
        return jobs
    }

    /// What a step of a job came to.
    struct Step: Sendable {
        var from: String
        var to: String
        var done = 0
        var skipped = 0
        var failed = 0
    }

    /// Notes a step. Answers the next users, none when the job is done; nil when this node does not hold the job any more.
    func advance(_ job: NotificationID, owner: NotificationID, _ step: Step, limit: Int) async throws(StoreError) -> [UserID]? {
        let values: [PostgresValue] = [
            .uuid(job.bytes), .uuid(owner.bytes), .float8(Self.lease), .text(step.from), .text(step.to), .int4(Int32(step.done)), .int4(Int32(step.skipped)),
            .int4(Int32(step.failed)), .int4(Int32(limit)),
        ]
        return try await InboxReader.run { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.advance, values).first, try row.bool(0) else { return nil }
            return try row.textArray(1).compactMap { UserID($0) }
        }
    }

    /// Others may have what this node holds at once.
    func release(owner: NotificationID) async throws(StoreError) {
        _ = try await InboxReader.run { () async throws(PostgresError) in try await self.pool.execute(Self.release, [.uuid(owner.bytes)]) }
    }

    /// It goes on when its turn comes again, here or elsewhere.
    func release(_ job: NotificationID, owner: NotificationID) async throws(StoreError) {
        _ = try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(Self.releaseOne, [.uuid(job.bytes), .uuid(owner.bytes)])
        }
    }

    /// Leaves a job that this node does not understand to others; after an hour it has failed.
    func postpone(_ job: NotificationID, owner: NotificationID) async throws(StoreError) {
        _ = try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(Self.postpone, [.uuid(job.bytes), .uuid(owner.bytes)])
        }
    }

    // MARK: Looking at them

    // Index: jobs_pkey.
    private static let status = PostgresStatement("SELECT state, total, done, skipped, failed FROM jobs WHERE id = $1 AND state <> 'loading'")
    // Index: idempotency_pkey.
    private static let chunks = PostgresStatement("SELECT answer, ids, seqs FROM idempotency WHERE owner = $1 AND route = 'job' ORDER BY key")
    // Index: jobs_open. No more than it takes to see that there are many.
    private static let queued = PostgresStatement(
        """
        SELECT count(*)::integer, COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - min(created_at)), 0)::float8
        FROM (SELECT created_at FROM jobs WHERE ended_at IS NULL AND state <> 'loading' ORDER BY turn LIMIT 10000) AS open
        """)

    /// Nil when there is no such job, or not yet.
    public func status(_ job: NotificationID) async throws(StoreError) -> JobStatus? {
        try await InboxReader.run { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.status, [.uuid(job.bytes)]).first, let state = JobStatus.State(rawValue: try row.text(0)) else {
                return nil
            }
            return JobStatus(
                state: state, total: Int(try row.int4(1)), done: Int(try row.int4(2)), skipped: Int(try row.int4(3)), failed: Int(try row.int4(4)))
        }
    }

    /// What was written for each user of a job whose request is told, in byte order of the users.
    public func answer(_ job: NotificationID) async throws(StoreError) -> NotifyAnswer {
        try await InboxReader.run { () async throws(PostgresError) in
            var answer = NotifyAnswer(NotifyPlan())
            for row in try await self.pool.execute(Self.chunks, [.uuid(job.bytes)]) {
                guard let chunk = JobChunk(try row.text(0), seqs: IdempotencyStore.numbers(try row.uuidArray(1), try row.nullableInt8Array(2)))?.answer else {
                    throw PostgresError(code: .decoding, message: "a chunk's answer is not understood")
                }
                answer.entries += chunk.entries
                answer.skipped += chunk.skipped
            }
            return answer
        }
    }

    /// How many jobs are open (up to 10,000), and the age of the oldest in seconds.
    public func queued() async throws(StoreError) -> (jobs: Int, oldest: Double) {
        try await InboxReader.run { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(Self.queued).first else { return (0, 0) }
            return (Int(try row.int4(0)), try row.float8(1))
        }
    }

    // MARK: Forgetting them

    private static let portion = 10_000
    // Index: job_users_pkey, jobs_pkey. One that was taken up again meanwhile keeps them.
    private static let forgetUsers = PostgresStatement(
        """
        WITH job AS MATERIALIZED (SELECT id FROM jobs WHERE id = $1 AND ended_at IS NOT NULL FOR SHARE)
        DELETE FROM job_users WHERE job_id IN (SELECT id FROM job) AND job_id = $1
        AND user_id = ANY (ARRAY(SELECT user_id FROM job_users WHERE job_id = $1 ORDER BY user_id LIMIT \(portion)))
        """)
    // Index: idempotency_pkey, jobs_pkey.
    private static let forgetJob = PostgresStatement(
        "WITH claims AS (DELETE FROM idempotency WHERE owner = $1 AND route = 'job') DELETE FROM jobs WHERE id = $1")
    // Index: jobs_pkey.
    private static let giveUp = PostgresStatement("UPDATE jobs SET state = 'failed', ended_at = clock_timestamp() WHERE id = $1 AND state = 'loading'")
    // Index: jobs_open.
    private static let giveUpLeftBehind = PostgresStatement(
        """
        UPDATE jobs SET state = 'failed', ended_at = clock_timestamp()
        WHERE id IN (SELECT id FROM jobs WHERE ended_at IS NULL AND state = 'loading' AND lease_until < clock_timestamp() LIMIT 100 FOR UPDATE SKIP LOCKED)
        RETURNING id
        """)
    private static let page = 100
    // Index: jobs_peopled.
    private static let ended = PostgresStatement(
        "SELECT id FROM jobs WHERE has_users AND ended_at < clock_timestamp() - interval '1 minute' ORDER BY ended_at LIMIT \(page)")
    // Index: jobs_pkey.
    private static let emptied = PostgresStatement("UPDATE jobs SET has_users = false WHERE id = $1 AND ended_at IS NOT NULL")
    // Index: jobs_ended.
    private static let old = PostgresStatement(
        "SELECT id FROM jobs WHERE NOT has_users AND ended_at < clock_timestamp() - make_interval(days => $1) ORDER BY ended_at LIMIT \(page)")

    /// What a request that broke off has left: as if it had never come. A job that was queued after all stays.
    public func drop(_ job: NotificationID) async throws(StoreError) {
        let given = try await InboxReader.run { () async throws(PostgresError) in
            try await self.pool.execute(Self.giveUp, [.uuid(job.bytes)]).affectedRows
        }
        if given > 0 { try await self.forgetGivenUp(job) }
    }

    private func forgetGivenUp(_ job: NotificationID) async throws(StoreError) {
        try await self.forgetUsers(of: job)
        try await self.forget(job)
    }

    /// Ended jobs' users at once, the jobs themselves after `days`; and those of nodes that died while their users were coming in.
    public func forget(days: Int) async throws(StoreError) {
        let leftBehind = try await InboxReader.run { () async throws(PostgresError) in
            var jobs: [NotificationID] = []
            for row in try await self.pool.execute(Self.giveUpLeftBehind) { jobs.append(NotificationID(bytes: try row.uuid(0))) }
            return jobs
        }
        for job in leftBehind { try await self.forgetGivenUp(job) }
        try await self.each(Self.ended, []) { job throws(StoreError) in
            try await self.forgetUsers(of: job)
            _ = try await InboxReader.run { () async throws(PostgresError) in try await self.pool.execute(Self.emptied, [.uuid(job.bytes)]) }
        }
        try await self.each(Self.old, [.int4(Int32(days))]) { job throws(StoreError) in try await self.forget(job) }
    }

    /// Page by page, each of which must be gone from the search when it is done.
    private func each(
        _ search: PostgresStatement, _ values: [PostgresValue], _ body: (NotificationID) async throws(StoreError) -> Void
    ) async throws(StoreError) {
        var isFull = true
        while isFull, !Task.isCancelled {
            let jobs = try await InboxReader.run { () async throws(PostgresError) in
                var jobs: [NotificationID] = []
                for row in try await self.pool.execute(search, values) { jobs.append(NotificationID(bytes: try row.uuid(0))) }
                return jobs
            }
            for job in jobs { try await body(job) }
            isFull = jobs.count == Self.page
        }
    }

    private func forget(_ job: NotificationID) async throws(StoreError) {
        _ = try await InboxReader.run { () async throws(PostgresError) in try await self.pool.execute(Self.forgetJob, [.uuid(job.bytes)]) }
    }

    private func forgetUsers(of job: NotificationID) async throws(StoreError) {
        var count = Self.portion
        while count == Self.portion {
            count = try await InboxReader.run { () async throws(PostgresError) in
                try await self.pool.execute(Self.forgetUsers, [.uuid(job.bytes)]).affectedRows
            }
        }
    }

    // MARK: In doubt

    /// Again while the connection breaks under it: each of these statements changes nothing the second time.
    private func untilKnown<Value: Sendable>(
        _ statement: PostgresStatement, _ values: [PostgresValue], _ decode: (PostgresRow) throws(PostgresError) -> Value
    ) async throws(StoreError) -> Value? {
        let since = ContinuousClock.now
        var wasInDoubt = false
        while true {
            let result: Result<Value?, PostgresError>
            do throws(PostgresError) {
                let row = try await self.pool.execute(statement, values).first
                result = .success(try row.map(decode))
            } catch {
                result = .failure(error)
            }
            switch result {
            case .success(let value): return value
            case .failure(let error):
                wasInDoubt = wasInDoubt || error.isInDoubt
                if !wasInDoubt { throw WriterLane.translate(error) }
                // A refusal says nothing about the first attempt.
                if ContinuousClock.now - since > Self.doubt { throw StoreError(code: .inDoubt, message: error.message) }
                do { try await Task.sleep(for: .milliseconds(50)) } catch { throw StoreError(code: .inDoubt, message: "stopped while a write was in doubt") }
            }
        }
    }
}

extension NotificationID {
    var bytes: UUIDBytes { UUIDBytes(high: self.high, low: self.low) }
    init(bytes: UUIDBytes) { self.init(high: bytes.high, low: bytes.low) }
}
