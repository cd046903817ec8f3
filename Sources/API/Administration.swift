public import Gateway
public import Hummingbird
public import NotificationBus
public import NotificationStore

/// The administrators' routes, below `/v1/admin`.
public struct Administration: Sendable {
    private let keys: AdminKeys
    private let connections: AdminConnections
    private let statistics: AdminStatistics
    private let users: AdminUsers
    private let deliveries: AdminDeliveries
    private let deadLetters: AdminDeadLetters

    public init(
        keys: APIKeyStore, connections: Connections, totals: TotalsStore, queues: QueueDepths, deliveries: DeliverySearch, erasure: UserErasure,
        export: UserExport, idempotency: IdempotencyStore, jobs: JobStore, tasks: TaskStore, credentials: Credentials,
        onTasks: @escaping @Sendable (Set<TaskQueue>) -> Void
    ) {
        let idempotency = Idempotency(store: idempotency, jobs: jobs)
        self.keys = AdminKeys(keys: keys, credentials: credentials, idempotency: idempotency)
        self.connections = AdminConnections(connections: connections, credentials: credentials, idempotency: idempotency)
        self.statistics = AdminStatistics(totals: totals, queues: queues, credentials: credentials)
        self.users = AdminUsers(erasure: erasure, export: export, credentials: credentials)
        self.deliveries = AdminDeliveries(search: deliveries, credentials: credentials)
        self.deadLetters = AdminDeadLetters(store: tasks, credentials: credentials, idempotency: idempotency, onTasks: onTasks)
    }

    /// The router must hold ``ProblemMiddleware`` already.
    public func addRoutes(to router: Router<CarillonRequestContext>) {
        let (keys, connections, statistics, users, deliveries) = (self.keys, self.connections, self.statistics, self.users, self.deliveries)
        let deadLetters = self.deadLetters
        router.get("/v1/admin/apikeys") { _, context in try await keys.list(context).hummingbird }
        router.post("/v1/admin/apikeys") { _, context in try await keys.create(context).hummingbird }
        router.delete("/v1/admin/apikeys/:id") { _, context in try await keys.revoke(context).hummingbird }
        router.get("/v1/admin/connections") { _, context in try await connections.list(context).hummingbird }
        router.post("/v1/admin/users/:id/disconnect") { _, context in try await connections.disconnect(context).hummingbird }
        router.get("/v1/admin/stats") { _, context in try await statistics.totals(context).hummingbird }
        router.get("/v1/admin/queues") { _, context in try await statistics.depths(context).hummingbird }
        router.get("/v1/admin/deliveries") { _, context in try await deliveries.list(context).hummingbird }
        router.get("/v1/admin/dead-letters") { _, context in try await deadLetters.list(context).hummingbird }
        router.post("/v1/admin/dead-letters/:id/retry") { _, context in try await deadLetters.retry(context).hummingbird }
        router.delete("/v1/admin/dead-letters/:id") { _, context in try await deadLetters.drop(context).hummingbird }
        router.post("/v1/admin/users/:id/export") { _, context in try await users.export(context) }
        router.delete("/v1/admin/users/:id") { _, context in try await users.erase(context).hummingbird }
    }
}

/// What the service itself fails with here.
let administrationFailure = "internal_error"
