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
    let credentials: Credentials
    let catalogue: @Sendable () -> Catalogue

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        eventLoop.answer(to: request, scope: .notify, credentials: self.credentials) { _, promise in self.accept(request, promise) }
    }

    private func accept(_ request: GatewayRequest, _ promise: EventLoopPromise<GatewayResponse>) {
        let now = Timestamp.now()
        let notify: NotifyRequest
        do throws(Problem) {
            notify = try self.parse(request.body, now: now)
        } catch {
            promise.fail(error)
            return
        }
        let body = String(decoding: notify.encodeBody(createdAt: now), as: UTF8.self)
        let template = NewNotification(id: NotificationID.make(now: now), request: notify, body: body, createdAt: now)
        var commands: [InboxCommand] = []
        commands.reserveCapacity(notify.users.count)
        var entries: [NotifyAnswer.Entry] = []
        entries.reserveCapacity(notify.users.count)
        for user in notify.users {
            var new = template
            new.id = NotificationID.make(now: now)
            commands.append(InboxCommand(user: user, action: .create(new)))
            entries.append(NotifyAnswer.Entry(id: new.id, user: user))
        }
        let planned = entries
        self.writer.submit(commands) { result in
            switch result {
            case .success(let outcomes): self.answer(planned, outcomes, promise)
            case .failure(let error): promise.fail(error)
            }
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

    private func answer(_ planned: [NotifyAnswer.Entry], _ outcomes: [InboxOutcome], _ promise: EventLoopPromise<GatewayResponse>) {
        var answer = NotifyAnswer(entries: planned)
        var isKnown = true
        for (index, outcome) in outcomes.enumerated() where index < answer.entries.count {
            if outcome.status == .recovered { isKnown = false }
            answer.entries[index].seq = outcome.changes.last { $0.kind == .created && $0.notification == planned[index].id }?.seq
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
