import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore
import NotificationStore
import RedisClient

/// `POST /v1/notifications/sse`: a direct event. It is not stored and has no number; whoever is connected now gets it at most once. The edges leave
/// out users who turned the channel `in_app` off for it; of a broadcast nobody is.
///
/// A class, as the other hot route: what it holds is used by all event loops, and would be counted up and down by each with every request.
final class DirectRoute: PlainRoute {
    let events: DirectEvents
    let credentials: Credentials
    let catalogue: @Sendable () -> Catalogue

    init(events: DirectEvents, credentials: Credentials, catalogue: @escaping @Sendable () -> Catalogue) {
        self.events = events
        self.credentials = credentials
        self.catalogue = catalogue
    }

    var isOneOfMany: Bool { true }

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        eventLoop.answer(to: request, scope: .direct, credentials: self.credentials) { _, promise in self.accept(request, eventLoop, promise) }
    }

    private func accept(_ request: GatewayRequest, _ eventLoop: any EventLoop, _ promise: EventLoopPromise<GatewayResponse>) {
        let now = Timestamp.now()
        let event: NotifyRequest
        do throws(Problem) {
            event = try self.parse(request.body, now: now)
        } catch {
            promise.fail(error)
            return
        }
        guard event.channels.contains(.inApp) else {
            promise.fail(Problem.invalidField("/channels", "a direct event is shown in the application or not at all"))
            return
        }
        let subject = DirectEnvelope.Subject(type: event.type, event: event.event, isRequired: event.required.contains(.inApp))
        let message = DirectEnvelope.encode(customer: event.customer, subject: subject, sentAt: now, frameBytes: event.typicalBytes) { bytes in
            StreamFrame.appendDirect(id: NotificationID.make(now: now), event, createdAt: now, to: &bytes)
        }
        let sent = event.broadcast ? self.events.broadcast(message) : self.events.send(message, to: event.users, on: eventLoop)
        sent.whenComplete { result in
            switch result {
            case .success(let edges):
                var bytes: [UInt8] = []
                bytes.append(ascii: "{\"message\":\"Event sent to connected users\",\"edges\":")
                bytes.append(decimal: Int64(edges))
                bytes.append(UInt8(ascii: "}"))
                promise.succeed(.json(.ok, bytes))
            case .failure(let error as RedisError) where error.code == .queueFull:
                promise.fail(Problem.unavailable("Too much is on its way to Redis; send it again in a moment."))
            case .failure:
                promise.fail(Problem.unavailable("Redis is out of reach, and a direct event is stored nowhere; send it again."))
            }
        }
    }

    private func parse(_ body: ByteBuffer, now: Timestamp) throws(Problem) -> NotifyRequest {
        let json = try JSONBody.parse(body)
        do throws(ValidationError) {
            return try NotifyRequest(json: json, kind: .direct, catalogue: self.catalogue(), now: now)
        } catch {
            throw Problem(error)
        }
    }
}
