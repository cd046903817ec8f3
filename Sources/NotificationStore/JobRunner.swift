public import Logging
public import NotificationCore

/// Carries jobs out, chunk by chunk in byte order of their users, for as long as this node holds them.
///
/// A chunk is written with a claim of its place, in the chunk's own transaction, and how far the job is is noted after some of them: whoever dies in between, the
/// next one finds the claims and goes on behind the chunks. Nobody is written twice and nobody is left out, however many believe that they hold the job.
public struct JobRunner: Sendable {
    /// Users a chunk of a large job: its transaction, and its piece of the log, is what others' wait behind.
    static let chunk = 10
    /// Users a job that is done in one chunk has at most, and that are taken up at once.
    static let smallJob = 100
    /// How far a job is is noted this often at least: it keeps the lease, and tells those who ask.
    private static let noting: Duration = .seconds(1)
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
        /// Where the next chunk begins.
        var position: String
        /// The users that come next.
        var users: [UserID]
        /// Users a chunk.
        var chunk: Int
        /// So many are written one by one, since one of their chunk was refused.
        var alone = 0
        /// What was done since it was noted, and when that was.
        var unnoted: JobStore.Step
        var noted = ContinuousClock.now
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
                if let run = try await self.begin(one, chunk: Self.chunk) { runs.append(run) }
            }
            for _ in 0..<Self.turns where !Task.isCancelled {
                var going: [Run] = []
                for run in runs {
                    if let next = await self.step(run, bulk: true, rest: self.rest) { going.append(next) }
                }
                runs = going
            }
            for run in runs {
                // Nothing is lost where it is not noted: the claims are there.
                if run.unnoted.from != run.unnoted.to { _ = try await self.store.advance(run.job.id, owner: self.owner, run.unnoted, limit: 1) }
                try await self.store.release(run.job.id, owner: self.owner)
            }
        }
    }

    /// One job to its end, or until it is somebody else's.
    private func carryOut(_ held: HeldJob, bulk: Bool) async {
        do throws(StoreError) {
            var run = try await self.begin(held, chunk: bulk ? Self.chunk : Self.smallJob)
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
    private func begin(_ held: HeldJob, chunk: Int) async throws(StoreError) -> Run? {
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
        guard let users = try await self.store.advance(held.job.id, owner: self.owner, step, limit: Self.smallJob), !users.isEmpty else { return nil }
        // Of one that is taken up again nobody knows where the chunks began that were written: one by one each is found.
        return Run(job: held.job, request: request, position: held.position, users: users, chunk: held.job.isAgain ? 1 : chunk, unnoted: step)
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
        let users = Array(run.users.prefix(run.alone > 0 ? 1 : run.chunk))
        guard let last = users.last else { return nil }
        let plan = try await self.plan(run.request, users, now: run.job.createdAt)
        var chunk = JobChunk(last: last, plan: plan, isTold: run.job.isTold)
        var next = run
        next.alone = max(0, run.alone - 1)
        do throws(StoreError) {
            let claim = IdempotencyClaim(owner: run.job.id, route: Self.route, key: run.position, digest: [], answer: chunk.encode())
            let outcomes = try await self.writer.write(plan.commands, claim: claim, bulk: bulk, trace: run.job.trace)
            // Recovered: that its batch was committed says nothing of whether this claim was made before.
            if outcomes.contains(where: { $0.status == .claimed || $0.status == .recovered }) {
                chunk = try await self.written(claim)
            } else {
                self.tell(plan, outcomes, run.job)
            }
            next.unnoted.done += chunk.done
            next.unnoted.skipped += chunk.skipped
            next.position = chunk.last
        } catch where error.code == .refused {
            self.logger.error("users of a job refused", metadata: ["job": "\(run.job.id)", "users": "\(users.count)", "error": "\(error)"])
            if users.count > 1 {
                // One of them is the cause: one by one, so that only that one is left out.
                next.alone = users.count
                return next
            }
            next.unnoted.failed += 1
            next.position = last.value
        }
        next.unnoted.to = next.position
        // What was written before may have ended elsewhere.
        next.users.removeAll { !next.position.utf8.lexicographicallyPrecedes($0.value.utf8) }
        // One that was left out has no claim, by which the next one would know it.
        if !next.users.isEmpty, next.unnoted.failed == 0, ContinuousClock.now - run.noted < Self.noting { return next }
        guard let more = try await self.store.advance(run.job.id, owner: self.owner, next.unnoted, limit: Self.smallJob), !more.isEmpty else { return nil }
        next.users = more
        next.unnoted = JobStore.Step(from: next.position, to: next.position)
        next.noted = .now
        return next
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

    /// Which change of whose inbox it was: an edge's log goes on by that. The first ones: a line has an end.
    private func tell(_ plan: NotifyPlan, _ outcomes: [InboxOutcome], _ job: Job) {
        guard self.logger.logLevel <= .debug else { return }
        let made = zip(plan.entries, outcomes).prefix(20).map { entry, outcome in
            let seq = outcome.changes.last { $0.kind == .created && $0.notification == entry.id }?.seq
            return "\(entry.user.value) \(seq.map(String.init) ?? "-")"
        }
        self.logger.debug(
            "part of a job written",
            metadata: job.trace.logged.merging(["job": "\(job.id)", "users": "\(plan.entries.count)", "made": "\(made.joined(separator: ", "))"]) { $1 })
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
