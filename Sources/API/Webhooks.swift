public import Gateway
public import Hummingbird
public import NotificationCore
public import NotificationStore

/// The routes of webhooks, and of events that are told to nobody else.
public struct Webhooks: Sendable {
    private let webhooks: WebhookRoutes
    private let events: EventRoutes

    /// - Parameter addresses: where webhooks may lead.
    public init(
        store: WebhookStore, tester: any WebhookTester, addresses: AddressGuard, idempotency: IdempotencyStore, jobs: JobStore, credentials: Credentials,
        catalogue: @escaping @Sendable () -> Catalogue
    ) {
        let idempotency = Idempotency(store: idempotency, jobs: jobs)
        self.webhooks = WebhookRoutes(
            store: store, tester: tester, check: EndpointCheck(addresses: addresses), credentials: credentials, idempotency: idempotency)
        self.events = EventRoutes(store: store, credentials: credentials, idempotency: idempotency, catalogue: catalogue)
    }

    /// The router must hold ``ProblemMiddleware`` already.
    public func addRoutes(to router: Router<CarillonRequestContext>) {
        let (webhooks, events) = (self.webhooks, self.events)
        router.get("/v1/webhooks") { _, context in try await webhooks.list(context).hummingbird }
        router.post("/v1/webhooks") { _, context in try await webhooks.create(context).hummingbird }
        router.get("/v1/webhooks/:id") { _, context in try await webhooks.get(context).hummingbird }
        router.patch("/v1/webhooks/:id") { _, context in try await webhooks.change(context).hummingbird }
        router.delete("/v1/webhooks/:id") { _, context in try await webhooks.delete(context).hummingbird }
        router.post("/v1/webhooks/:id/test") { _, context in try await webhooks.test(context).hummingbird }
        router.post("/v1/webhooks/:id/rotate") { _, context in try await webhooks.rotate(context).hummingbird }
        router.post("/v1/webhooks/:id/enable") { _, context in try await webhooks.enable(context).hummingbird }
        router.post("/v1/webhooks/:id/replay") { _, context in try await webhooks.replay(context).hummingbird }
        router.get("/v1/webhooks/:id/attempts") { _, context in try await webhooks.attempts(context).hummingbird }
        router.post("/v1/events") { _, context in try await events.add(context).hummingbird }
    }
}
