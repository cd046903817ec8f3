public import Gateway
import HTTPTypes
public import Hummingbird
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
    private let trigger: TriggerRoute
    private let jobs: JobReads

    public init(
        writer: InboxWriter, reader: InboxReader, idempotency: IdempotencyStore, counts: any CountSource, events: DirectEvents, credentials: Credentials,
        planner: NotifyPlanner, sent: SentNotifications, jobs: JobRunner,
        catalogue: @escaping @Sendable () -> Catalogue
    ) {
        let idempotency = Idempotency(store: idempotency, jobs: jobs.store)
        self.notify = NotifyRoute(
            writer: writer, reader: reader, planner: planner, jobs: jobs, credentials: credentials, idempotency: idempotency, catalogue: catalogue)
        self.trigger = TriggerRoute(jobs: jobs.store, credentials: credentials, idempotency: idempotency, catalogue: catalogue)
        self.jobs = JobReads(jobs: jobs.store, credentials: credentials)
        self.direct = DirectRoute(events: events, credentials: credentials, catalogue: catalogue)
        self.reads = InboxReads(reader: reader, counts: counts, credentials: credentials, catalogue: catalogue)
        self.writes = InboxWrites(writer: writer, reads: self.reads)
        self.corrections = Corrections(sent: sent, credentials: credentials)
    }

    /// Adds the routes that answer without Hummingbird.
    public func addPlainRoutes(to routes: inout GatewayRoutes) {
        routes.add(.POST, "/v1/internal/notify", self.notify, publishes: true)
        routes.add(.POST, "/v1/notifications/trigger", self.trigger, publishes: true)
        routes.add(body: "/v1/notifications/trigger", contentType: "application/x-ndjson", TriggerLinesRoute(trigger: self.trigger))
        routes.add(.POST, "/v1/notifications/sse", self.direct, publishes: true)
    }

    /// Adds all others. The router must hold ``ProblemMiddleware`` already: ``GatewayRoutes/makeRouter()`` makes one.
    public func addRoutes(to router: Router<CarillonRequestContext>) {
        let (reads, writes, corrections, jobs) = (self.reads, self.writes, self.corrections, self.jobs)
        router.get("/v1/notifications") { _, context in try await reads.list(context).hummingbird }
        router.get("/v1/notifications/count") { _, context in try await reads.count(context).hummingbird }
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
        router.delete("/v1/notifications/:id") { _, context in try await writes.delete(context).hummingbird }
    }
}
