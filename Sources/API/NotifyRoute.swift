import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `POST /v1/internal/notify`: stores a notification for each of its users, and answers once that is committed.
///
/// The hot route: with a key that was seen a moment ago there is no task on its way, only the writer's callback.
struct NotifyRoute: PlainRoute {
    let writer: InboxWriter
    let reader: InboxReader
    let planner: NotifyPlanner
    let credentials: Credentials
    let idempotency: Idempotency
    let catalogue: @Sendable () -> Catalogue

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
        do throws(Problem) {
            notify = try self.parse(request.body, now: now)
        } catch {
            guard let claim, error.status == .unprocessableEntity else { throw error }
            self.replay(claim, or: error, promise)
            return
        }
        self.planner.plan(notify, users: notify.users, now: now) { [claim] result in
            switch result {
            case .success(let plan):
                do throws(Problem) {
                    try self.carryOut(plan, claim, promise)
                } catch {
                    promise.fail(error)
                }
            case .failure(let error): promise.fail(error)
            }
        }
    }

    private func carryOut(_ plan: NotifyPlan, _ claim: IdempotencyClaim?, _ promise: EventLoopPromise<GatewayResponse>) throws(Problem) {
        let planned = NotifyAnswer(plan)
        var claim = claim
        if claim != nil {
            claim!.answer = String(decoding: planned.encode(), as: UTF8.self)
            try self.idempotency.begins(claim!)
        }
        self.writer.submit(plan.commands, claim: claim) { [claim] result in
            if let claim {
                self.answer(claim, planned, result, promise)
                return
            }
            switch result {
            case .success(let outcomes): self.answer(planned, outcomes, promise)
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
        _ claim: IdempotencyClaim, _ planned: NotifyAnswer, _ result: Result<[InboxOutcome], StoreError>,
        _ promise: EventLoopPromise<GatewayResponse>
    ) {
        switch result {
        case .failure(let error):
            self.idempotency.ends(claim)
            promise.fail(error)
        case .success(let outcomes) where outcomes.contains(where: { $0.status == .claimed || $0.status == .recovered }):
            Task {
                defer { self.idempotency.ends(claim) }
                do throws(Problem) {
                    let answer = try await self.idempotency.replay(claim)
                    var response = GatewayResponse.json(.created, answer.encode())
                    // After a connection that broke it may be this very request that was carried out.
                    let isAnother = outcomes.contains { $0.status == .claimed } || answer.entries.first?.id != planned.entries.first?.id
                    if isAnother { response.headers.add(name: "idempotent-replayed", value: "true") }
                    promise.succeed(response)
                } catch {
                    promise.fail(error)
                }
            }
        case .success(let outcomes):
            self.idempotency.ends(claim)
            self.answer(planned, outcomes, promise)
        }
    }

    private func parse(_ body: ByteBuffer, now: Timestamp) throws(Problem) -> NotifyRequest {
        let json = try JSONBody.parse(body)
        do throws(ValidationError) {
            return try NotifyRequest(json: json, catalogue: self.catalogue(), now: now)
        } catch {
            throw Problem(error)
        }
    }

    private func answer(_ planned: NotifyAnswer, _ outcomes: [InboxOutcome], _ promise: EventLoopPromise<GatewayResponse>) {
        var answer = planned
        var isKnown = true
        for (index, outcome) in outcomes.enumerated() where index < answer.entries.count {
            if outcome.status == .recovered { isKnown = false }
            answer.entries[index].seq = outcome.changes.last { $0.kind == .created && $0.notification == planned.entries[index].id }?.seq
        }
        if isKnown {
            promise.succeed(.json(.created, answer.encode()))
            return
        }
        let written = answer
        Task { await self.readNumbers(written, promise) }
    }

    /// All of it is committed; what numbers it got was not heard.
    private func readNumbers(_ written: NotifyAnswer, _ promise: EventLoopPromise<GatewayResponse>) async {
        var answer = written
        for index in answer.entries.indices where answer.entries[index].seq == nil {
            let entry = answer.entries[index]
            do throws(StoreError) {
                answer.entries[index].seq = try await self.reader.notification(entry.id, of: entry.user, scope: nil)?.createdSeq
            } catch {
                // Not "nothing was written", which an unavailable database means otherwise.
                promise.fail(StoreError(code: .inDoubt, message: error.message))
                return
            }
        }
        promise.succeed(.json(.created, answer.encode()))
    }
}
