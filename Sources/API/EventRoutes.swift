import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `POST /v1/events`: an event without recipients, for webhooks.
struct EventRoutes: Sendable {
    private static let dataBound = 8 * 1024

    let store: WebhookStore
    let credentials: Credentials
    let idempotency: Idempotency
    let catalogue: @Sendable () -> Catalogue

    func add(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let key = try await self.credentials.application(context.request, scope: .notify)
        let event = try self.parse(context.request)
        var claim = try Idempotency.claim(context.request, owner: key, route: "events")
        claim?.answer = Self.answer(event.id)
        let claimed = claim
        let endpoints = try await stored("failed_to_notify", context) { () async throws(StoreError) in 
            try await self.store.add(event, claim: claimed, trace: context.request.trace.context)
        }
        guard endpoints == nil, let claimed else { return .json(.accepted, Array(Self.answer(event.id).utf8)) }
        var answer = GatewayResponse.json(.accepted, Array(try await self.idempotency.text(claimed).utf8))
        answer.headers.add(name: "idempotent-replayed", value: "true")
        return answer
    }

    private static func answer(_ id: NotificationID) -> String { "{\"id\":\"\(id)\"}" }

    private func parse(_ request: GatewayRequest) throws(Problem) -> WebhookEvent {
        var errors: [FieldError] = []
        var (type, event, customer): (String?, String?, String?)
        var data = "{}"
        for (member, value) in try JSONBody.object(request.body) {
            switch (member, value) {
            case ("type", .string(let text)): type = text
            case ("event", .string(let text)): event = text
            case ("customer_id", .string(let text)):
                customer = CustomerID(text)?.value
                if customer == nil { errors.add("/customer_id", "must have 1 to \(CustomerID.maximumLength) characters, none of them a control character") }
            case ("data", .object):
                let bytes = value.encoded
                data = String(decoding: bytes, as: UTF8.self)
                if bytes.count > Self.dataBound { errors.add("/data", "must have at most \(Self.dataBound) bytes") }
            case ("event", .null), ("customer_id", .null), ("data", .null): break
            case ("type", _), ("event", _), ("customer_id", _): errors.add("/" + member, "must be a text")
            case ("data", _): errors.add("/data", "must be an object")
            default: errors.add("/" + String(member.prefix(OpaqueID.maximumLength)), "is not a field of an event")
            }
        }
        if type == nil, !errors.contains(where: { $0.pointer == "/type" }) { errors.add("/type", "is needed") }
        try WebhookBody.check(errors)
        guard let type else { throw .invalidField("/type", "is needed") }
        let kind = try self.kind(type, event)
        return WebhookEvent(id: .make(), type: kind.name, event: event, customer: customer, at: .now(), data: data)
    }

    /// What the catalogue calls it.
    private func kind(_ type: String, _ event: String?) throws(Problem) -> Catalogue.Kind {
        guard let kind = self.catalogue()[type] else {
            throw Problem(.unprocessableEntity, "invalid_group", "There is no such type.", errors: [FieldError(pointer: "/type", detail: "is not a type of the catalogue")])
        }
        if let event, kind.events[event] == nil {
            throw Problem(
                .unprocessableEntity, "invalid_event", "The type has no such event.", errors: [FieldError(pointer: "/event", detail: "is not an event of \(kind.name)")])
        }
        return kind
    }
}
