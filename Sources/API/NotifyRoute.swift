import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `POST /v1/internal/notify`: stores a notification for each of its users, and answers once that is committed.
///
/// The hot route: with a key that was seen a moment ago there is no task on its way, only the writer's callback.
///
/// For more users than one transaction should hold it is a job, which this node carries out before it answers, and another one if this one dies.
final class NotifyRoute: PlainRoute {
    /// The most users of one transaction.
    static let transactionBound = 500

    let notifier: Notifier
    let reader: InboxReader
    let jobs: JobRunner
    let credentials: Credentials
    let idempotency: Idempotency
    let catalogue: @Sendable () -> Catalogue

    init(
        notifier: Notifier, reader: InboxReader, jobs: JobRunner, credentials: Credentials, idempotency: Idempotency, catalogue: @escaping @Sendable () -> Catalogue
    ) {
        self.notifier = notifier
        self.reader = reader
        self.jobs = jobs
        self.credentials = credentials
        self.idempotency = idempotency
        self.catalogue = catalogue
    }

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        eventLoop.answer(to: request, scope: .notify, credentials: self.credentials) { key, promise in
            do throws(Problem) {
                try self.accept(request, key, promise)
            } catch {
                promise.fail(error)
            }
        }
    }

    private func accept(_ request: GatewayRequest, _ key: APIKeyStore.Key, _ promise: EventLoopPromise<GatewayResponse>) throws(Problem) {
        let now = Timestamp.now()
        let claim = try Idempotency.claim(request, owner: key, route: "notify")
        let notify: NotifyRequest
        let json: JSONValue
        do throws(Problem) {
            json = try JSONBody.parse(request.body)
            notify = try self.parse(json, now: now)
        } catch {
            guard let claim, error.status == .unprocessableEntity else { throw error }
            self.replay(claim, or: error, promise)
            return
        }
        if notify.users.count > Self.transactionBound {
            try self.carryOutMany(notify, Job(body: json.withoutUsers, isTold: true, createdAt: now, trace: request.trace.context, priority: notify.priority), claim, promise)
            return
        }
        if let claim { try self.idempotency.begins(claim) }
        self.notifier.notify(notify, claim: claim, trace: request.trace.context, now: now) { [claim, trace = request.trace] result in
            if let claim {
                self.answer(claim, result, trace, promise)
                return
            }
            switch result {
            case .success(let notified): self.answer(notified, trace, promise)
            case .failure(let error): promise.fail(error)
            }
        }
    }

    /// What was right when it was carried out may be wrong by now: it expires in the past. Its answer is still its answer.
    private func replay(_ claim: IdempotencyClaim, or problem: Problem, _ promise: EventLoopPromise<GatewayResponse>) {
        Task {
            do throws(Problem) {
                guard let answer = try await self.idempotency.find(claim) else { throw problem }
                var response = GatewayResponse.json(.created, answer.encode())
                response.headers.add(name: "idempotent-replayed", value: "true")
                promise.succeed(response)
            } catch {
                promise.fail(error)
            }
        }
    }

    private func answer(
        _ claim: IdempotencyClaim, _ result: Result<Notifier.Notified, StoreError>, _ trace: RequestTrace, _ promise: EventLoopPromise<GatewayResponse>
    ) {
        switch result {
        case .failure(let error):
            self.idempotency.ends(claim)
            promise.fail(error)
        case .success(let notified) where notified.outcomes.contains(where: { $0.status == .claimed || $0.status == .recovered }):
            Task {
                defer { self.idempotency.ends(claim) }
                do throws(Problem) {
                    let answer = try await self.idempotency.replay(claim)
                    var response = GatewayResponse.json(.created, answer.encode())
                    // After a connection that broke it may be this very request that was carried out.
                    let isAnother = notified.outcomes.contains { $0.status == .claimed } || answer.entries.first?.id != notified.plan.entries.first?.id
                    if isAnother { response.headers.add(name: "idempotent-replayed", value: "true") }
                    promise.succeed(response)
                } catch {
                    promise.fail(error)
                }
            }
        case .success(let notified):
            self.idempotency.ends(claim)
            self.answer(notified, trace, promise)
        }
    }

    private func carryOutMany(
        _ notify: NotifyRequest, _ job: Job, _ claim: IdempotencyClaim?, _ promise: EventLoopPromise<GatewayResponse>
    ) throws(Problem) {
        var claim = claim
        claim?.answer = Idempotency.answer(job.id)
        if let claim { try self.idempotency.begins(claim) }
        Task { [claim] in
            defer { if let claim { self.idempotency.ends(claim) } }
            do {
                var job = job
                if try await self.jobs.store.add(job, users: notify.users, owner: self.jobs.owner, claim: claim) == nil, let claim {
                    // A failure is not remembered: the job goes on with those whom it has not written to.
                    if let known = try await self.idempotency.job(of: claim), try await self.jobs.store.reopen(known, users: notify.users) {
                        job.id = known
                    } else {
                        var response = GatewayResponse.json(.created, try await self.idempotency.replay(claim).ordered(by: notify.users).encode())
                        response.headers.add(name: "idempotent-replayed", value: "true")
                        promise.succeed(response)
                        return
                    }
                }
                let status = try await self.jobs.finish(job)
                guard status.state == .done, status.failed == 0 else {
                    throw Problem(
                        .internalServerError, "failed_to_notify",
                        "\(status.failed) of the users could not be written to; it is in the log under job \(job.id).")
                }
                promise.succeed(.json(.created, try await self.jobs.store.answer(job.id).ordered(by: notify.users).encode()))
            } catch {
                promise.fail(error)
            }
        }
    }

    private func parse(_ json: JSONValue, now: Timestamp) throws(Problem) -> NotifyRequest {
        do throws(ValidationError) {
            return try NotifyRequest(json: json, catalogue: self.catalogue(), now: now)
        } catch {
            throw Problem(error)
        }
    }

    private func answer(_ notified: Notifier.Notified, _ trace: RequestTrace, _ promise: EventLoopPromise<GatewayResponse>) {
        var answer = NotifyAnswer(notified.plan)
        var isKnown = true
        for (index, outcome) in notified.outcomes.enumerated() where index < answer.entries.count {
            if outcome.status == .recovered { isKnown = false }
            let id = answer.entries[index].id
            answer.entries[index].seq = outcome.changes.last { $0.kind == .created && $0.notification == id }?.seq
        }
        if isKnown {
            trace.made(answer.entries)
            promise.succeed(.json(.created, answer.encode()))
            return
        }
        let written = answer
        Task { await self.readNumbers(written, isGuess: notified.plan.isGuess, promise) }
    }

    /// All of it is committed, unless it was a guess; what numbers it got was not heard.
    private func readNumbers(_ written: NotifyAnswer, isGuess: Bool, _ promise: EventLoopPromise<GatewayResponse>) async {
        var answer = written
        for index in answer.entries.indices where answer.entries[index].seq == nil {
            let entry = answer.entries[index]
            do throws(StoreError) {
                let found = try await self.reader.notification(entry.id, of: entry.user, scope: nil)
                if isGuess, found == nil { throw StoreError(code: .inDoubt, message: "the connection broke; whether this was written is not known") }
                answer.entries[index].seq = found?.createdSeq
            } catch {
                // Not "nothing was written", which an unavailable database means otherwise.
                promise.fail(StoreError(code: .inDoubt, message: error.message))
                return
            }
        }
        promise.succeed(.json(.created, answer.encode()))
    }
}
