public import Logging
public import NotificationCore

/// Carries jobs out, chunk by chunk in byte order of their users, for as long as this node holds them.
///
/// A chunk is written with a claim of its place, in the chunk's own transaction, and how far the job is is noted after that: whoever dies in between, the next one
/// finds the claim and goes on behind the chunk. Nobody is written twice and nobody is left out, however many believe that they hold the job.
public struct JobRunner: Sendable {
    /// Users a chunk of a large job: its transaction, and its piece of the log, is what others' wait behind.
    static let chunk = 25
    /// Users a job that is done in one chunk has at most.
    static let smallJob = 100
    /// The route of chunks' claims; their owner is the job.
    private static let route = "job"
    /// The same where a request waits for its answer.
    private static let shortRest = 0.3

    public let store: JobStore
    /// This node, for leases; another one with every start.
    public let owner: NotificationID
    private let idempotency: IdempotencyStore
    private let writer: InboxWriter
    private let planner: NotifyPlanner
    private let catalogue: @Sendable () -> Catalogue
    private let rest: Double
    private let logger: Logger

    /// - Parameter rest: after each chunk of a large job that nobody waits for, as a multiple of the time that the chunk took: what others get of the
    ///   database meanwhile.
    public init(
        store: JobStore, idempotency: IdempotencyStore, writer: InboxWriter, planner: NotifyPlanner, catalogue: @escaping @Sendable () -> Catalogue,
        rest: Double = 2, logger: Logger
    ) {
        self.store = store
        self.owner = NotificationID.make()
        self.idempotency = idempotency
        self.writer = writer
        self.planner = planner
        self.catalogue = catalogue
        self.rest = rest
        self.logger = logger
    }

    /// A job that is under way here.
    struct Run: Sendable {
        var job: Job
        var request: NotifyRequest
        var position: String
        /// The users that come next, at most so many.
        var users: [UserID]
        var limit: Int
        /// So many are written one by one, since one of their chunk was refused.
        var alone = 0
    }

    /// Jobs up to this size are one chunk.
    public static let small: ClosedRange<Int32> = 0...Int32(smallJob)
    public static let large: ClosedRange<Int32> = Int32(smallJob) + 1...Int32.max

    /// Carries out small jobs, many at a time, until there are none. Answers how many there were.
    public func carryOutSmall(atMost count: Int) async throws(StoreError) -> Int {
        let held = try await self.store.take(count, ofUsers: Self.small, owner: self.owner)
        await withTaskGroup(of: Void.self) { group in
            for job in held { group.addTask { await self.carryOut(job, bulk: false) } }
        }
        return held.count
    }

    /// Chunks of a large job before others that wait have theirs.
    private static let turns = 10

    /// Carries out large jobs, their chunks by turns, until there are none. However many there are, and however large, each gets on: after some chunks
    /// those go on that did so longest ago.
    public func carryOutLarge(atMost count: Int) async throws(StoreError) {
        while !Task.isCancelled {
            let held = try await self.store.take(count, ofUsers: Self.large, byTurns: true, owner: self.owner)
            if held.isEmpty { return }
            var runs: [Run] = []
            for one in held {
                if let run = try await self.begin(one, limit: Self.chunk) { runs.append(run) }
            }
            for _ in 0..<Self.turns where !Task.isCancelled {
                var going: [Run] = []
                for run in runs {
                    if let next = await self.step(run, bulk: true, rest: self.rest) { going.append(next) }
                }
                runs = going
            }
            for run in runs { try await self.store.release(run.job.id, owner: self.owner) }
        }
    }

    /// One job to its end, or until it is somebody else's.
    private func carryOut(_ held: HeldJob, bulk: Bool) async {
        do throws(StoreError) {
            var run = try await self.begin(held, limit: bulk ? Self.chunk : Self.smallJob)
            while let current = run, !Task.isCancelled { run = await self.step(current, bulk: bulk, rest: bulk ? Self.shortRest : 0) }
        } catch {
            self.tell(error, held.job.id)
        }
    }

    /// Carries out a job whose request waits for it. Returns when it is done, by whomever.
    ///
    /// - Throws: `inDoubt` when the database was away for too long: it will be done all the same.
    public func finish(_ job: Job) async throws(StoreError) -> JobStatus {
        var since = ContinuousClock.now
        var last: JobStatus?
        while true {
            do throws(StoreError) {
                if let held = try await self.store.take(job.id, owner: self.owner) { await self.carryOut(held, bulk: true) }
                let status = try await self.store.status(job.id)
                if let status, status.state == .done || status.state == .failed { return status }
                if status != last { since = .now }
                last = status
            } catch {
                self.tell(error, job.id)
            }
            if Task.isCancelled || ContinuousClock.now - since > Self.patience {
                throw StoreError(code: .inDoubt, message: "the job is written down, and is carried out later")
            }
            do { try await Task.sleep(for: .milliseconds(100)) } catch {
                throw StoreError(code: .inDoubt, message: "the job is written down, and is carried out by another node")
            }
        }
    }

    /// How long a job that nobody moves on is waited for.
    private static let patience: Duration = .seconds(15)

    /// Nil: it has no users left, or this node does not understand it.
    private func begin(_ held: HeldJob, limit: Int) async throws(StoreError) -> Run? {
        let request: NotifyRequest
        do {
            let json = try JSONParser.parse(Array(held.job.body.utf8))
            request = try NotifyRequest(json: json, kind: .apart, catalogue: self.catalogue(), now: held.job.createdAt)
        } catch {
            self.logger.error("job not understood", metadata: ["job": "\(held.job.id)", "error": "\(error)"])
            try await self.store.postpone(held.job.id, owner: self.owner)
            return nil
        }
        // Before its first user; whoever begins it again finds the event there.
        if held.position.isEmpty { try await self.store.addEvent(of: held.job.id, request, createdAt: held.job.createdAt) }
        let step = JobStore.Step(from: held.position, to: held.position)
        guard let users = try await self.store.advance(held.job.id, owner: self.owner, step, limit: limit), !users.isEmpty else { return nil }
        return Run(job: held.job, request: request, position: held.position, users: users, limit: limit)
    }

    /// One chunk. Nil when the job is done, or not this node's any more.
    private func step(_ run: Run, bulk: Bool, rest: Double) async -> Run? {
        let start = ContinuousClock.now
        do throws(StoreError) {
            guard let next = try await self.writeChunk(run, bulk: bulk) else { return nil }
            if rest > 0 {
                // Others have had to wait behind it.
                do { try await Task.sleep(for: (ContinuousClock.now - start) * rest) } catch { return nil }
            }
            return next
        } catch {
            // Its lease ends by itself.
            self.tell(error, run.job.id)
            return nil
        }
    }

    private func writeChunk(_ run: Run, bulk: Bool) async throws(StoreError) -> Run? {
        guard let last = run.users.last else { return nil }
        let plan = try await self.plan(run.request, run.users, now: run.job.createdAt)
        var chunk = JobChunk(last: last, plan: plan, isTold: run.job.isTold)
        var step = JobStore.Step(from: run.position, to: last.value)
        var alone = max(0, run.alone - 1)
        do throws(StoreError) {
            if plan.commands.isEmpty {
                step.unwritten = (run.position, chunk)
            } else {
                let claim = IdempotencyClaim(owner: run.job.id, route: Self.route, key: run.position, digest: [], answer: chunk.encode())
                let outcomes = try await self.writer.write(plan.commands, claim: claim, bulk: bulk)
                // Recovered: that its batch was committed says nothing of whether this claim was made before.
                if outcomes.contains(where: { $0.status == .claimed || $0.status == .recovered }) { chunk = try await self.written(claim) }
            }
            (step.to, step.done, step.skipped) = (chunk.last, chunk.done, chunk.skipped)
        } catch where error.code == .refused {
            self.logger.error("users of a job refused", metadata: ["job": "\(run.job.id)", "users": "\(run.users.count)", "error": "\(error)"])
            if run.users.count > 1 {
                // One of them is the cause: one by one, so that only that one is left out.
                step.to = run.position
                alone = run.users.count
            } else {
                step.failed = 1
            }
        }
        let limit = alone > 0 ? 1 : run.limit
        guard let users = try await self.store.advance(run.job.id, owner: self.owner, step, limit: limit), !users.isEmpty else { return nil }
        return Run(job: run.job, request: run.request, position: step.to, users: users, limit: run.limit, alone: alone)
    }

    /// What whoever wrote this chunk before made of it.
    private func written(_ claim: IdempotencyClaim) async throws(StoreError) -> JobChunk {
        guard let found = try await self.idempotency.find(claim, isJob: true), let chunk = JobChunk(found.answer, seqs: found.seqs) else {
            throw StoreError(code: .failed, message: "the claim of a chunk is not understood")
        }
        return chunk
    }

    private func plan(_ request: NotifyRequest, _ users: [UserID], now: Timestamp) async throws(StoreError) -> NotifyPlan {
        let result: Result<NotifyPlan, StoreError> = await withCheckedContinuation { continuation in
            self.planner.plan(request, users: users, now: now) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    private func tell(_ error: StoreError, _ job: NotificationID) {
        self.logger.warning("job interrupted, carried on later", metadata: ["job": "\(job)", "error": "\(error)"])
    }

    /// Others may carry on what this node has begun.
    public func release() async {
        do throws(StoreError) {
            try await self.store.release(owner: self.owner)
        } catch {
            self.logger.debug("leases left to end by themselves", metadata: ["error": "\(error)"])
        }
    }
}
