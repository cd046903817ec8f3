import Crypto
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `POST /v1/notifications/trigger`: a notification by way of the queue. It is answered once its job is durable.
struct TriggerRoute: PlainRoute {
    static let route = "trigger"

    let jobs: JobStore
    let credentials: Credentials
    let idempotency: Idempotency
    let catalogue: @Sendable () -> Catalogue

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        eventLoop.answer(to: request, scope: .notify, credentials: self.credentials) { key, promise in
            Task {
                do {
                    promise.succeed(try await self.accept(request, key))
                } catch {
                    promise.fail(error)
                }
            }
        }
    }

    private func accept(_ request: GatewayRequest, _ key: APIKeyStore.Key) async throws -> GatewayResponse {
        let now = Timestamp.now()
        var claim = try Idempotency.claim(request, owner: key, route: Self.route)
        let json = try JSONBody.parse(request.body)
        let notify: NotifyRequest
        do throws(ValidationError) {
            notify = try NotifyRequest(json: json, catalogue: self.catalogue(), now: now)
        } catch {
            // What was right when it was accepted may be wrong by now.
            if let claim, let known = try await self.idempotency.findJob(claim) { return Self.answer(known, isReplay: true) }
            throw Problem(error)
        }
        let job = Job(body: json.withoutUsers, isTold: false, createdAt: now, trace: request.trace.context, priority: notify.priority)
        claim?.answer = Idempotency.answer(job.id)
        if let claim { try self.idempotency.begins(claim) }
        defer { if let claim { self.idempotency.ends(claim) } }
        if try await self.jobs.add(job, users: notify.users, claim: claim) == nil, let claim {
            let known = try await self.idempotency.replayJob(claim)
            // One that failed is taken up with those whom it has not written to.
            _ = try await self.jobs.reopen(known, users: notify.users)
            return Self.answer(known, isReplay: true)
        }
        return Self.answer(job.id)
    }

    static func answer(_ job: NotificationID, isReplay: Bool = false) -> GatewayResponse {
        var response = GatewayResponse.json(
            .accepted, Array("{\"message\":\"Notification sent to all connected users\",\"job_id\":\"\(job)\"}".utf8))
        if isReplay { response.headers.add(name: "idempotent-replayed", value: "true") }
        return response
    }
}

/// The same with up to a million users, as `application/x-ndjson`: written down while it comes, no faster than the database takes it.
struct TriggerLinesRoute: BodyRoute {
    /// Users a statement, unless one part brings more.
    private static let portion = 2000
    /// A request that brings little is written down all the same after so long.
    private static let patience: Duration = .seconds(15)

    let trigger: TriggerRoute

    func respond(to request: GatewayRequest, body: BodyParts) async throws -> GatewayResponse {
        let key = try await self.trigger.credentials.application(request, scope: .notify)
        let claim = try Idempotency.claim(request, owner: key, route: TriggerRoute.route)
        if let claim { try self.trigger.idempotency.begins(claim) }
        defer { if let claim { self.trigger.idempotency.ends(claim) } }
        var loading = Loading(jobs: self.trigger.jobs, claim: claim, trace: request.trace.context)
        do {
            return try await self.load(&loading, body)
        } catch {
            await loading.drop()
            throw error
        }
    }

    private func load(_ loading: inout Loading, _ body: BodyParts) async throws -> GatewayResponse {
        var lines = TriggerLines()
        var users: [UserID] = []
        var digest = SHA256()
        var last = ContinuousClock.now
        for try await part in body {
            part.withUnsafeReadableBytes { digest.update(bufferPointer: $0) }
            try lines.add(part, to: &users)
            guard users.count >= Self.portion || ContinuousClock.now - last > Self.patience else { continue }
            try await self.write(&loading, lines.first, &users)
            last = .now
        }
        try lines.end(to: &users)
        try await self.write(&loading, lines.first, &users)
        loading.claim?.digest = Array(digest.finalize())
        if let refusal = loading.refusal {
            if let claim = loading.claim, let known = try await self.trigger.idempotency.findJob(claim) { return TriggerRoute.answer(known, isReplay: true) }
            throw refusal
        }
        guard let job = loading.job else { throw Problem.invalidBody("The body is empty.") }
        loading.claim?.answer = Idempotency.answer(job.id)
        guard let claim = loading.claim else {
            _ = try await self.trigger.jobs.queue(job.id, claim: nil)
            return TriggerRoute.answer(job.id)
        }
        if try await self.trigger.jobs.queue(job.id, claim: claim) != nil { return TriggerRoute.answer(job.id) }
        let known = try await self.trigger.idempotency.replayJob(claim)
        _ = try await self.trigger.jobs.reopen(known, usersOf: job.id)
        await loading.drop()
        return TriggerRoute.answer(known, isReplay: true)
    }

    private func write(_ loading: inout Loading, _ first: JSONValue?, _ users: inout [UserID]) async throws {
        guard let first else { return }
        if loading.refusal != nil {
            users.removeAll(keepingCapacity: true)
            return
        }
        let id: NotificationID
        if let job = loading.job {
            id = job.id
        } else {
            let now = Timestamp.now()
            let priority: Priority
            do throws(ValidationError) {
                priority = try NotifyRequest(json: first, kind: .apart, catalogue: self.trigger.catalogue(), now: now).priority
            } catch {
                var problem = Problem(error)
                problem.detail = "Line 1: " + problem.detail
                // What was right when it was accepted may be wrong by now: whether it is that request again shows at its end.
                guard let claim = loading.claim, try await self.trigger.idempotency.isKnown(claim) else { throw problem }
                loading.refusal = problem
                users.removeAll(keepingCapacity: true)
                return
            }
            let job = Job(body: first.withoutUsers, isTold: false, createdAt: now, trace: loading.trace, priority: priority)
            loading.job = job
            try await self.trigger.jobs.open(job)
            id = job.id
        }
        if users.isEmpty { return }
        try await self.trigger.jobs.load(id, users: users)
        users.removeAll(keepingCapacity: true)
    }

    /// A job whose users are coming in.
    private struct Loading {
        let jobs: JobStore
        var job: Job?
        var claim: IdempotencyClaim?
        /// What is wrong with a request whose key is known.
        var refusal: Problem?
        let trace: TraceContext?

        init(jobs: JobStore, claim: IdempotencyClaim?, trace: TraceContext?) {
            self.jobs = jobs
            self.claim = claim
            self.trace = trace
        }

        /// Nothing is left of it.
        func drop() async {
            guard let job else { return }
            do throws(StoreError) {
                try await self.jobs.drop(job.id)
            } catch {
                // The database is away: a worker finds it in a minute.
            }
        }
    }
}

extension JSONValue {
    /// The text of a request less the fields that name its users.
    var withoutUsers: String {
        guard case .object(let members) = self else { return "{}" }
        let rest = members.filter { !["user_ids", "user_id", "userId"].contains($0.name) }
        return String(decoding: JSONValue.object(rest).encoded, as: UTF8.self)
    }
}
