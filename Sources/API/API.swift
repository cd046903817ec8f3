public import Gateway
import HTTPTypes
public import Hummingbird
public import Logging
import NIOHTTP1
public import NotificationBus
public import NotificationCore
public import NotificationStore

/// The HTTP API of the role `api`.
public struct API: Sendable {
    private let notify: NotifyRoute
    private let direct: DirectRoute
    private let reads: InboxReads
    private let writes: InboxWrites
    private let corrections: Corrections
    private let preferences: PreferencesRoutes
    private let contacts: ContactRoutes
    private let deliveries: DeliveryReads
    private let audit: AuditReads
    private let trigger: TriggerRoute
    private let jobs: JobReads
    private let logger: Logger

    public init(
        writer: InboxWriter, reader: InboxReader, idempotency: IdempotencyStore, counts: any CountSource, events: DirectEvents, credentials: Credentials,
        notifier: Notifier, recipients: Recipients, sent: SentNotifications, jobs: JobRunner, audit: AuditStore,
        catalogue: @escaping @Sendable () -> Catalogue, logger: Logger
    ) {
        self.logger = logger
        let idempotency = Idempotency(store: idempotency, jobs: jobs.store)
        self.notify = NotifyRoute(
            notifier: notifier, reader: reader, jobs: jobs, credentials: credentials, idempotency: idempotency, catalogue: catalogue)
        self.trigger = TriggerRoute(jobs: jobs.store, credentials: credentials, idempotency: idempotency, catalogue: catalogue)
        self.jobs = JobReads(jobs: jobs.store, credentials: credentials)
        self.direct = DirectRoute(events: events, credentials: credentials, catalogue: catalogue)
        self.reads = InboxReads(reader: reader, counts: counts, credentials: credentials, catalogue: catalogue)
        self.writes = InboxWrites(writer: writer, reads: self.reads)
        self.corrections = Corrections(sent: sent, credentials: credentials)
        self.preferences = PreferencesRoutes(recipients: recipients, credentials: credentials, catalogue: catalogue)
        self.contacts = ContactRoutes(recipients: recipients, credentials: credentials)
        self.deliveries = DeliveryReads(recipients: recipients, credentials: credentials)
        self.audit = AuditReads(store: audit, credentials: credentials)
    }

    /// Adds the routes that answer without Hummingbird.
    public func addPlainRoutes(to routes: inout GatewayRoutes) {
        routes.add(.POST, "/v1/internal/notify", self.notify, publishes: true)
        routes.add(.POST, "/v1/notifications/trigger", self.trigger, publishes: true)
        routes.add(body: "/v1/notifications/trigger", contentType: "application/x-ndjson", TriggerLinesRoute(trigger: self.trigger))
        routes.add(.POST, "/v1/notifications/sse", self.direct, publishes: true)
        let reads = self.reads
        routes.add(.GET, "/v1/notifications", TaskRoute(logger: self.logger) { call throws(Problem) in try await reads.list(call) })
        routes.add(.GET, "/v1/notifications/count", TaskRoute(logger: self.logger) { call throws(Problem) in try await reads.count(call) })
    }

    /// Adds all others. The router must hold ``ProblemMiddleware`` already: ``GatewayRoutes/makeRouter()`` makes one.
    public func addRoutes(to router: Router<CarillonRequestContext>) {
        let (reads, writes, corrections, jobs, audit) = (self.reads, self.writes, self.corrections, self.jobs, self.audit)
        router.get("/v1/notifications/:id") { _, context in try await reads.one(context).hummingbird }
        router.get("/v1/internal/users/:id/count") { _, context in try await reads.countOfUser(context).hummingbird }
        router.get("/v1/jobs/:id") { _, context in try await jobs.status(context).hummingbird }
        router.patch("/v1/internal/notifications") { _, context in try await corrections.correct(context).hummingbird }
        router.delete("/v1/internal/notifications") { _, context in try await corrections.takeBack(context).hummingbird }
        for method in [HTTPRequest.Method.patch, .post] {
            router.on("/v1/notifications/read-all", method: method) { _, context in try await writes.readAll(context).hummingbird }
            router.on("/v1/notifications/:id/read", method: method) { _, context in try await writes.read(context).hummingbird }
        }
        router.patch("/v1/notifications/:id") { _, context in try await writes.change(context).hummingbird }
        router.post("/v1/notifications/seen") { _, context in try await writes.seen(context).hummingbird }
        router.get("/v1/admin/audit") { _, context in try await audit.list(context).hummingbird }
        router.delete("/v1/notifications/:id") { _, context in try await writes.delete(context).hummingbird }
        self.addRecipientRoutes(to: router)
    }

    private func addRecipientRoutes(to router: Router<CarillonRequestContext>) {
        let (preferences, contacts, deliveries) = (self.preferences, self.contacts, self.deliveries)
        router.get("/v1/notifications/preferences") { _, context in try await preferences.get(context).hummingbird }
        router.put("/v1/notifications/preferences") { _, context in try await preferences.put(context).hummingbird }
        router.patch("/v1/notifications/preferences") { _, context in try await preferences.patch(context).hummingbird }
        router.get("/v1/notifications/preferences/effective") { _, context in try await preferences.effective(context).hummingbird }
        router.get("/v1/notifications/:id/deliveries") { _, context in try await deliveries.list(context).hummingbird }
        router.get("/v1/contacts/:user_id") { _, context in try await contacts.get(context).hummingbird }
        router.put("/v1/contacts/:user_id") { _, context in try await contacts.put(context).hummingbird }
        router.delete("/v1/contacts/:user_id") { _, context in try await contacts.delete(context).hummingbird }
    }
}
