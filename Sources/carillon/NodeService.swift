import API
import Authentication
import Delivery
import Edge
import Gateway
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NotificationBus
import NotificationCore
import NotificationStore
import PostgresClient
import RedisClient
import ServiceLifecycle

/// One node: its parts are made, started in order, and stopped in the reverse order.
struct NodeService: Service {
    let configuration: NodeConfiguration
    let logger: Logger
    /// What is measured through swift-metrics.
    var recorded = RecordedMetrics()
    /// Told the address and all routes once the node listens.
    var onStart: @Sendable (SocketAddress, [ServedRoute]) -> Void = { _, _ in }

    func run() async throws {
        let configuration = self.configuration
        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.threads)
        let names = RedisNames(prefix: configuration.redisPrefix)
        let identity = ClusterIdentity()
        // First what may be wrong with the settings: to wait for the database would hide it.
        let verifier = try TokenVerifier(configuration: configuration.tokens, logger: self.logger)

        // A statement ends before its connection is given up for it, and for those behind it.
        var brief = configuration.database
        brief.statementTimeout = .seconds(8)
        let pool = PostgresPool(configuration: brief, size: 4, name: "pool", logger: self.logger)
        identity.watch(pool)
        pool.start()
        // What may take long, so that nobody's inbox waits behind it.
        var patient = configuration.database
        patient.responseTimeout = .seconds(35)
        let background = PostgresPool(configuration: patient, size: 2, name: "background", logger: self.logger)
        identity.watch(background)
        background.start()
        var commanding = RedisClientConfiguration()
        commanding.connection.tls = configuration.redisTLS
        let redis = RedisClient(deployment: configuration.redis, eventLoop: group.next(), configuration: commanding, logger: self.logger)
        let copies = CountCopies(redis: redis, names: names)
        redis.start()
        let limiter = RateLimiter(redis: redis, names: names, settings: configuration.rateLimits)

        // The cluster's secret is in the database: nothing can be served before it was read once.
        let schema = try SchemaWatch(pool: pool, logger: self.logger)
        let begun: Result<[UInt8]?, any Error>
        do { begun = .success(try await self.secret(pool, schema)) } catch { begun = .failure(error) }
        guard case .success(let found?) = begun else {
            try await self.stop(limiter, redis, [pool, background], group)
            _ = try begun.get()
            return
        }
        let secret = found
        // Before anything is answered from a database that was put back, or from what Redis remembers of another.
        let life = LifeWatch(marks: ClusterMarks(redis: redis, names: names, secret: secret), identity: identity, pool: pool, redis: redis, logger: self.logger)
        let compared = await life.begin()
        let tickets = TicketSigner(secret: secret)
        let credentials = Credentials(
            verifier: verifier, keys: APIKeyStore(pool: pool), tickets: tickets, cookieName: configuration.cookieName,
            origins: Origins(configuration.origins), limiter: limiter)
        let audit = AuditLog(pool: pool, logger: self.logger)
        let metrics = NodeMetrics(
            pool: pool, background: background, redis: redis, copies: copies, limiter: limiter, audit: audit, recorded: self.recorded)

        let catalogue = { @Sendable in configuration.catalogue.current }
        metrics.watch(channels: configuration.channels)
        var tasks: TaskQueues?
        var jobs: JobWorker?
        if configuration.roles.contains(.worker) {
            let worker = JobWorker(logger: self.logger)
            metrics.watch(jobs: worker)
            jobs = worker
            let queues = TaskQueues(configuration: configuration, secret: secret, pool: pool, background: background, catalogue: catalogue, logger: self.logger)
            metrics.watch(tasks: queues)
            tasks = queues
        }

        let publishing = TaskPokes(redis: redis, names: names, logger: self.logger)
        let poke = { @Sendable [tasks, jobs] (queues: Set<TaskQueue>) in
            tasks?.poke(queues)
            if queues.contains(.jobs) { jobs?.poke() }
        }
        let onTasks = { @Sendable (queues: Set<TaskQueue>) in
            poke(queues)
            publishing.publish(queues)
        }

        var writer: InboxWriter?
        var recipients: RecipientReader?
        if configuration.roles.contains(.api) || configuration.roles.contains(.worker) {
            let publisher = Publisher(redis: redis, names: names, copies: copies, latency: metrics.publish, logger: self.logger)
            var settings = InboxWriter.Settings()
            settings.lanes = configuration.lanes
            let made = InboxWriter(
                configuration: configuration.database, settings: settings, identity: identity, observer: publisher, logger: self.logger, onTasks: onTasks)
            made.start()
            writer = made
            metrics.watch(writer: made, publisher: publisher)
            let reader = RecipientReader(configuration: configuration.database, identity: identity, logger: self.logger)
            reader.start()
            recipients = reader
            metrics.watch(recipients: reader)
        }

        let health = Health(configuration: configuration, pool: pool, writer: writer, redis: redis, schema: schema)
        metrics.watch(health: health)
        metrics.watch(catalogue: configuration.catalogue)
        var runner: JobRunner?
        var notifier: Notifier?
        if let writer, let recipients {
            let planner = NotifyPlanner(recipients: recipients, configured: configuration.channels.configured)
            let made = Notifier(planner: planner, writer: writer)
            notifier = made
            tasks?.tell(through: made)
            metrics.watch(notifier: made)
            runner = JobRunner(
                store: JobStore(pool: pool) { onTasks([.jobs]) }, idempotency: IdempotencyStore(pool: pool), writer: writer, planner: planner, catalogue: catalogue,
                rest: configuration.jobRest, logger: self.logger)
        }
        var routes = GatewayRoutes(origins: Origins(configuration.origins), wrongRole: WrongRole(roles: configuration.roles).role)
        routes.add(.GET, "/health/live", HealthRoute(health: health, ready: false))
        routes.add(.GET, "/health/ready", HealthRoute(health: health, ready: true))
        routes.add(.GET, "/openapi.json", try OpenAPIRoute())
        routes.add(.GET, "/metrics", MetricsRoute(metrics: metrics, token: configuration.metricsToken))
        try routes.addPages(demo: configuration.demo)

        var direct: DirectEvents?
        if configuration.roles.contains(.api), let writer, let recipients, let notifier, let runner {
            let lanes = group.makeIterator().filter { $0 !== redis.eventLoop }.map {
                RedisClient(deployment: configuration.redis, eventLoop: $0, configuration: commanding, logger: self.logger)
            }
            let events = DirectEvents(redis: redis, lanes: lanes, names: names)
            metrics.watch(events: events)
            direct = events
            let api = API(
                writer: writer, reader: InboxReader(pool: pool), idempotency: IdempotencyStore(pool: pool),
                counts: CopiedCounts(copies: copies, redis: redis, reader: InboxReader(pool: pool), identity: identity), events: events,
                credentials: credentials, notifier: notifier, recipients: Recipients(pool: pool, reader: recipients, observer: events),
                sent: SentNotifications(pool: pool, writer: writer), jobs: runner, audit: AuditStore(pool: pool), catalogue: catalogue, logger: self.logger)
            api.addPlainRoutes(to: &routes)
            let router = Router(context: CarillonRequestContext.self)
            router.add(middleware: ProblemMiddleware())
            api.addRoutes(to: router)
            Administration(
                keys: APIKeyStore(pool: pool), connections: Connections(redis: redis, names: names), totals: TotalsStore(pool: background),
                queues: QueueDepths(pool: background), deliveries: DeliverySearch(pool: background), erasure: UserErasure(pool: background, writer: writer),
                export: UserExport(pool: background),
                idempotency: IdempotencyStore(pool: pool), jobs: runner.store, tasks: TaskStore(pool: pool), credentials: credentials, onTasks: onTasks
            ).addRoutes(to: router)
            let channels = configuration.channels
            Webhooks(
                store: WebhookStore(pool: pool, box: channels.settings.secrets),
                tester: DirectWebhookTester(deliveries: WebhookDeliveries(pool: pool, box: channels.settings.secrets), caller: channels.webhooks),
                addresses: channels.settings.addresses, idempotency: IdempotencyStore(pool: pool), jobs: runner.store, credentials: credentials, catalogue: catalogue
            ).addRoutes(to: router)
            PublicRoutes(
                signer: UnsubscribeSigner(secret: secret), preferences: PreferencesStore(pool: pool, observer: events), deliveries: DeliveryCallbacks(pool: pool),
                publicURL: channels.settings.publicURL?.text, twilioToken: channels.settings.twilioToken
            ).addRoutes(to: router)
            routes.use(router)
            if configuration.demo {
                Demo(configuration: configuration, credentials: credentials, notifier: notifier, contacts: ContactStore(pool: pool), catalogue: catalogue).add(to: &routes)
            }
        }

        var edge: Edge?
        var subscriber: RedisSubscriber?
        var subscriptions: Subscriptions?
        if configuration.roles.contains(.edge) {
            let leases = Leases(
                redis: redis, names: names, node: configuration.name, limit: configuration.connectionLimit, mode: configuration.connectionLimitMode, logger: self.logger)
            let table = Subscriptions(
                names: names, edge: leases.incarnation, loops: configuration.threads, eventLoop: group.next(), probe: metrics.canary, logger: self.logger)
            var settings = EdgeConfiguration(node: configuration.name)
            settings.maximumConnections = configuration.maximumConnections
            settings.pingSeconds = Int64(configuration.pingSeconds)
            settings.stalledSeconds = Int64(configuration.stalledSeconds)
            settings.drainWindow = .seconds(Int64(configuration.drainSeconds))
            let audience = DirectAudience(reader: recipients ?? RecipientReader(pool: pool, logger: self.logger))
            metrics.watch(audience: audience)
            let made = Edge(
                configuration: settings, group: group, leases: leases, subscriptions: table, pool: pool, audience: audience, identity: identity,
                credentials: credentials, tickets: tickets, ledger: TicketLedger(redis: redis, names: names), logger: self.logger)
            var subscribing = RedisSubscriberConfiguration()
            subscribing.probeChannelPrefix = names.probes
            subscribing.connection.tls = configuration.redisTLS
            let connection = RedisSubscriber(
                deployment: configuration.redis, eventLoop: group.next(), publisher: redis, configuration: subscribing, logger: self.logger,
                handler: table)
            made.addRoutes(to: &routes)
            made.start()
            table.start(connection, listener: made)
            health.watch(edge: made, subscriber: connection)
            metrics.watch(edge: made.metrics, subscriber: connection)
            (edge, subscriber, subscriptions) = (made, connection, table)
        }

        var pokes: (RedisSubscriber, TaskPokeListener)?
        if configuration.roles.contains(.worker) {
            let listener = TaskPokeListener(onTasks: poke)
            var subscribing = RedisSubscriberConfiguration()
            subscribing.probeChannelPrefix = names.probes
            subscribing.connection.tls = configuration.redisTLS
            let connection = RedisSubscriber(
                deployment: configuration.redis, eventLoop: group.next(), publisher: redis, configuration: subscribing, logger: self.logger, handler: listener)
            listener.start(connection, names: names, logger: self.logger)
            pokes = (connection, listener)
        }

        var listening = GatewayConfiguration(
            host: configuration.host, port: configuration.port, nodeName: configuration.name, roles: configuration.roles.map(\.rawValue).sorted(),
            maxConnections: configuration.maximumConnections + 100)
        listening.recognizes = { credentials.recognizes($0) }
        listening.trustedProxies = configuration.trustedProxies
        configuration.intake.apply(to: &listening)
        let server = GatewayServer(
            configuration: listening, routes: routes, group: group, audit: audit,
            metrics: self.recorded, logger: self.logger)
        metrics.watch(gateway: server)
        let delays = LoopDelays(group: group, metrics: self.recorded)
        let (theEdge, theWriter, theTasks) = (edge, writer, tasks)
        var failure: (any Error)?
        do {
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { await verifier.run() }
                tasks.addTask { await audit.run() }
                tasks.addTask { await health.probe.run() }
                tasks.addTask { await life.run(compared) }
                if let theEdge {
                    tasks.addTask { await theEdge.runHeartbeat() }
                    tasks.addTask { await theEdge.runCommitTail() }
                }
                if let jobs, let theWriter, let runner {
                    tasks.addTask { await jobs.run(runner) }
                    var settings = Worker.Settings()
                    settings.retentionDays = configuration.retentionDays
                    let worker = Worker(pool: pool, background: background, writer: theWriter, settings: settings, logger: self.logger)
                    let repair = CopyRepair(pool: pool, copies: copies, redis: redis, logger: self.logger)
                    metrics.watch(repair: repair)
                    tasks.addTask { await worker.run() }
                    tasks.addTask { await repair.run() }
                    let counts = CountAudit(pool: pool, copies: copies, redis: redis, logger: self.logger)
                    tasks.addTask { await counts.run() }
                }
                if let theTasks { tasks.addTask { await theTasks.run() } }
                let address = try await server.start()
                self.logger.info(
                    "node started",
                    metadata: [
                        "address": "\(address)", "roles": "\(configuration.roles.map(\.rawValue).sorted().joined(separator: ","))",
                        "connections": "\(configuration.maximumConnections)",
                    ])
                self.onStart(address, routes.served)
                let (stops, stop) = AsyncStream.makeStream(of: SchemaRefusal?.self)
                tasks.addTask {
                    // It fails when the whole node is cancelled, which is a stop as well.
                    try? await gracefulShutdown()
                    stop.yield(nil)
                }
                tasks.addTask { if let refusal = await schema.run() { stop.yield(refusal) } }
                // Nothing else is waited for: a database that hangs must not keep a node from draining.
                for await refusal in stops {
                    failure = refusal
                    break
                }
                self.logger.info("node drains")
                health.drain()
                await theEdge?.drain()
                server.drain()
                await server.shutdown()
                tasks.cancelAll()
            }
        } catch {
            // The port is taken, mostly.
            failure = error
        }

        delays.stop()
        edge?.stop()
        subscriptions?.stop()
        try? await subscriber?.shutdown().get()
        try? await pokes?.0.shutdown().get()
        await writer?.close()
        await recipients?.close()
        await direct?.shutdown()
        await audit.close()
        await life.end()
        try await self.stop(limiter, redis, [pool, background], group)
        if let failure { throw failure }
    }

    /// What every node begins with ends last.
    private func stop(_ limiter: RateLimiter, _ redis: RedisClient, _ pools: [PostgresPool], _ group: MultiThreadedEventLoopGroup) async throws {
        limiter.stop()
        try? await redis.shutdown().get()
        for pool in pools { await pool.close() }
        try await group.shutdownGracefully()
        self.logger.info("node stopped")
    }

    /// Waits until the database is there and has the schema. Nil: the node is to stop before.
    ///
    /// - Throws: `SchemaRefusal`.
    private func secret(_ pool: PostgresPool, _ schema: SchemaWatch) async throws -> [UInt8]? {
        do {
            return try await cancelWhenGracefulShutdown {
                var complained = false
                while true {
                    do {
                        if try await schema.isThere() { return try await ClusterStore(pool: pool).secret() }
                    } catch let refusal as SchemaRefusal {
                        throw refusal
                    } catch {
                        if !complained { self.logger.warning("waiting for the database", metadata: ["error": "\(error)"]) }
                        complained = true
                    }
                    try await Task.sleep(for: .milliseconds(100))
                }
            }
        } catch is CancellationError {
            return nil
        }
    }
}

/// Counts from the Redis copy, else from the database, which then refreshes the copy.
struct CopiedCounts: CountSource {
    let copies: CountCopies
    let redis: RedisClient
    let reader: InboxReader
    let identity: ClusterIdentity

    /// Past this the database is asked instead.
    private static let patience: TimeAmount = .milliseconds(150)

    func head(of user: UserID) async throws(StoreError) -> InboxHead {
        if self.copies.areTrusted, let copy = await self.copy(of: user) { return copy }
        let head = try await self.reader.head(of: user)
        if self.redis.isReachable {
            let refreshed = self.copies.write([(user, head)])
            refreshed.whenFailure { _ in
                // Another read or write refreshes it.
            }
        }
        return head
    }

    private func copy(of user: UserID) async -> InboxHead? {
        let promise = self.redis.eventLoop.makePromise(of: InboxHead?.self)
        let timeout = self.redis.eventLoop.scheduleTask(in: Self.patience) { promise.succeed(nil) }
        self.copies.read(user, epoch: self.identity.epoch).whenComplete { result in
            timeout.cancel()
            switch result {
            case .success(let head): promise.succeed(head)
            case .failure: promise.succeed(nil)
            }
        }
        return try? await promise.futureResult.get()
    }
}

/// Which routes belong to which role.
struct WrongRole: Sendable {
    let roles: Set<Role>

    private static let edgePaths: Set<String> = [
        "/v1/notifications/stream", "/v1/notifications/ws", "/v1/notifications/poll", "/v1/notifications/stream-ticket",
        "/v1/notifications/stream-renew",
    ]

    func role(_ method: HTTPMethod, _ path: String) -> String? {
        let role: Role
        if path == "/v1/notifications/sse" {
            role = method == .POST ? .api : .edge
        } else if Self.edgePaths.contains(path) || path.hasPrefix("/socket.io/") {
            role = .edge
        } else if path.hasPrefix("/v1/") {
            role = .api
        } else {
            return nil
        }
        return self.roles.contains(role) ? nil : role.rawValue
    }
}
