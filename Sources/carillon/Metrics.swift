import API
import Delivery
import Edge
import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore
import NotificationStore
import PostgresClient
import RedisClient
import Synchronization

/// Writes what the parts of this node count, in Prometheus' text format (0.0.4).
final class NodeMetrics: Sendable {
    private struct State {
        var edge: EdgeMetrics?
        var subscriber: RedisSubscriber?
        var writer: InboxWriter?
        var publisher: Publisher?
        var repair: CopyRepair?
        var catalogue: LiveCatalogue?
        var recipients: RecipientReader?
        var notifier: Notifier?
        var audience: DirectAudience?
        var events: DirectEvents?
        var jobs: JobWorker?
        var tasks: TaskQueues?
        var gateway: GatewayServer?
        var channels: Channels?
        var health: Health?
    }

    let publish = Histogram()
    let canary = Histogram()
    private let pool: PostgresPool
    private let background: PostgresPool
    private let recorded: RecordedMetrics
    private let redis: RedisClient
    private let copies: CountCopies
    private let limiter: RateLimiter
    private let audit: AuditLog
    private let state = Mutex(State())

    init(
        pool: PostgresPool, background: PostgresPool, redis: RedisClient, copies: CountCopies, limiter: RateLimiter, audit: AuditLog, recorded: RecordedMetrics
    ) {
        self.pool = pool
        self.background = background
        self.recorded = recorded
        self.redis = redis
        self.copies = copies
        self.limiter = limiter
        self.audit = audit
    }

    func watch(edge: EdgeMetrics, subscriber: RedisSubscriber) {
        self.state.withLock {
            $0.edge = edge
            $0.subscriber = subscriber
        }
    }
    func watch(catalogue: LiveCatalogue) { self.state.withLock { $0.catalogue = catalogue } }
    func watch(notifier: Notifier) { self.state.withLock { $0.notifier = notifier } }
    func watch(recipients: RecipientReader) { self.state.withLock { $0.recipients = recipients } }
    func watch(events: DirectEvents) { self.state.withLock { $0.events = events } }
    func watch(audience: DirectAudience) { self.state.withLock { $0.audience = audience } }
    func watch(jobs: JobWorker) { self.state.withLock { $0.jobs = jobs } }
    func watch(gateway: GatewayServer) { self.state.withLock { $0.gateway = gateway } }
    func watch(health: Health) { self.state.withLock { $0.health = health } }
    func watch(channels: Channels) { self.state.withLock { $0.channels = channels } }
    func watch(tasks: TaskQueues) { self.state.withLock { $0.tasks = tasks } }
    func watch(repair: CopyRepair) { self.state.withLock { $0.repair = repair } }
    func watch(writer: InboxWriter, publisher: Publisher) {
        self.state.withLock {
            $0.writer = writer
            $0.publisher = publisher
        }
    }

    var text: String {
        let state = self.state.withLock { $0 }
        var text = MetricsText()
        if let health = state.health {
            let configuration = health.configuration
            let roles = configuration.roles.map(\.rawValue).sorted().joined(separator: ",")
            text.gauges("carillon_node_info", "The node's name and roles; always 1.", [(MetricsText.labels([("node", configuration.name), ("roles", roles)]), 1)])
            let answer = health.answer(ready: true)
            text.gauge("carillon_ready", "1 while /health/ready answers 200.", answer.ok ? 1 : 0)
            text.gauge("carillon_draining", "1 while the node is being stopped.", health.isDraining ? 1 : 0)
            text.gauge("carillon_connections_limit", "Streams that this node may have.", configuration.maximumConnections)
        }
        if let gateway = state.gateway?.counters {
            text.gauge("carillon_http_connections", "Connections open, streams included.", gateway.connections)
            text.counter("carillon_http_connections_refused_total", "Connections past the bound.", gateway.excess + gateway.refused)
            text.gauge("carillon_http_body_bytes", "Bytes of bodies of requests that are not answered yet.", gateway.bodyBytes)
            text.counter("carillon_http_bodies_refused_total", "Requests refused since such bodies took too much.", gateway.bodiesRefused)
        }
        if let edge = state.edge {
            text.gauge("carillon_connections", "Streams open, or being opened.", edge.connections.load(ordering: .relaxed))
            text.gauges(
                "carillon_transport_connections", "Those of them that have their place, by transport.",
                Transport.allCases.map { ("transport=\"\($0.rawValue)\"", edge.open($0)) })
            text.gauge("carillon_socketio_sessions", "Sessions of Socket.IO, with or without a stream.", edge.sessions.load(ordering: .relaxed))
            text.counter("carillon_socketio_silent_total", "Sessions that ended since the client did not answer.", edge.silent.load(ordering: .relaxed))
            text.gauge("carillon_lagging_connections", "Streams that are behind and nothing is written to.", edge.lagging.load(ordering: .relaxed))
            text.counter("carillon_streams_opened_total", "Streams opened.", edge.opened.load(ordering: .relaxed))
            text.counter("carillon_streams_refused_total", "Streams sent away or refused.", edge.refused.load(ordering: .relaxed))
            text.counter("carillon_streams_evicted_total", "Streams closed for their user's limit.", edge.evicted.load(ordering: .relaxed))
            text.counter("carillon_streams_stalled_total", "Streams closed since nothing was read.", edge.stalled.load(ordering: .relaxed))
            text.counter("carillon_suspensions_total", "Times that an event loop had stood still and took its streams' places again.", edge.suspensions.load(ordering: .relaxed))
            text.counter("carillon_events_delivered_total", "Changes written to streams.", edge.delivered.load(ordering: .relaxed))
            text.counter("carillon_direct_events_delivered_total", "Direct events written to streams.", edge.direct.load(ordering: .relaxed))
            text.counter("carillon_direct_events_dropped_total", "Direct events that a stream could not take.", edge.directDropped.load(ordering: .relaxed))
            text.counter("carillon_gap_repairs_total", "Gaps filled from the change log.", edge.gapRepairs.load(ordering: .relaxed))
            text.counter("carillon_resyncs_total", "Streams told to start anew.", edge.resyncs.load(ordering: .relaxed))
            text.counter("carillon_malformed_messages_total", "Messages from Redis that were not understood.", edge.malformed.load(ordering: .relaxed))
            text.histogram("carillon_fanout_seconds", "From commit to the write on the socket.", edge.fanout)
            if let subscriber = state.subscriber?.counters {
                text.counter("carillon_redis_messages_total", "Messages heard on users' channels and this edge's own.", subscriber.messages)
                text.gauge("carillon_redis_channels", "Channels that this edge is subscribed to.", subscriber.channels)
                text.counter("carillon_redis_resubscribes_total", "Times that everything was subscribed again.", subscriber.resubscribes)
            }
            text.histogram("carillon_redis_canary_seconds", "From publishing a probe to hearing it.", self.canary)
        }
        if state.edge != nil || state.repair != nil {
            text.gauge(
                "carillon_unpublished_commits", "Users whose commit the tail found undelivered.",
                (state.edge?.unpublished.load(ordering: .relaxed) ?? 0) + (state.repair?.unpublished ?? 0))
        }
        if let writer = state.writer?.counters, let publisher = state.publisher?.counters {
            text.counter("carillon_batches_total", "Batches committed.", writer.batches)
            text.counter("carillon_commands_total", "Inbox commands committed.", writer.commands)
            text.counter("carillon_batches_isolated_total", "Batches whose items were written alone.", writer.isolated)
            text.counter("carillon_batches_recovered_total", "Batches in doubt that were committed.", writer.recovered)
            text.gauge("carillon_writer_queue_bytes", "What waits to be written.", writer.queuedBytes)
            text.counter("carillon_published_total", "Messages published.", publisher.published)
            text.counter("carillon_publish_failures_total", "Messages left to the commit tail.", publisher.failed)
            text.histogram("carillon_publish_seconds", "From commit to Redis' answer.", self.publish)
        }
        if let notifier = state.notifier?.counters {
            text.counter("carillon_notify_guesses_total", "Requests for one user that were written without asking what is known of the user.", notifier.guesses)
            text.counter("carillon_notify_wrong_guesses_total", "Those of them that were left out and planned again.", notifier.wrongGuesses)
            text.gauge("carillon_known_recipients", "Users who are asked about at once, since something is known of them.", notifier.known)
        }
        if let recipients = state.recipients?.counters {
            text.counter("carillon_recipient_queries_total", "Queries for what recipients prefer and where they are reached.", recipients.queries)
            text.counter("carillon_recipient_lookups_total", "Recipients that these asked for.", recipients.lookups)
            text.counter("carillon_recipient_refusals_total", "Requests refused since too many recipients waited.", recipients.refused)
            text.gauge("carillon_recipients_waiting", "Recipients that wait for their query.", recipients.waiting)
        }
        if let audience = state.audience {
            text.counter("carillon_direct_unchecked_total", "Direct events delivered to a user without knowing what the user prefers.", audience.unchecked)
        }
        if let repair = state.repair { text.counter("carillon_copies_repaired_total", "Counts' copies refreshed by the tail.", repair.repaired) }
        if let queue = state.jobs?.queue {
            let depths = state.tasks?.depths ?? []
            text.gauges(
                "carillon_queue_depth", "What waits, or is under way.",
                [("queue=\"jobs\"", "\(queue.jobs)")] + depths.map { ("queue=\"\($0.queue.rawValue)\"", "\($0.ready + $0.waiting + $0.running + $0.handedOver)") })
            text.gauges(
                "carillon_queue_oldest_seconds", "Age of the oldest of it; of tasks: of those whose time has come.",
                [("queue=\"jobs\"", "\(Double(queue.oldestMilliseconds) / 1000)")] + depths.map { ("queue=\"\($0.queue.rawValue)\"", "\(max(0, $0.oldest ?? 0))") })
            text.gauges("carillon_dead_letters", "Tasks that no attempt carried out.", depths.map { ("queue=\"\($0.queue.rawValue)\"", "\($0.dead)") })
        }
        if let channels = state.channels { text.gauge("carillon_transfers", "HTTP calls and mails under way.", channels.transfers) }
        if let workers = state.tasks?.workers, !workers.isEmpty {
            let counters = workers.map { (queue: $0.queue.rawValue, counters: $0.counters) }
            text.counters(
                "carillon_deliveries_total", "What became of deliveries; queued: tried again later.",
                counters.flatMap { entry in
                    // Also those that are 0: a rate begins at the first value that was seen.
                    DeliveryState.allCases.map { ("channel=\"\(entry.queue)\",state=\"\($0.rawValue)\"", "\(entry.counters.states[$0.rawValue] ?? 0)") }
                })
            text.counters("carillon_delivery_attempts_total", "Attempts begun.", counters.map { ("channel=\"\($0.queue)\"", "\($0.counters.attempts)") })
            text.gauges("carillon_deliveries_under_way", "Deliveries under way here.", counters.map { ("channel=\"\($0.queue)\"", "\($0.counters.underWay)") })
        }
        if let tasks = state.tasks {
            // Also without SQS: an alert looks at it.
            text.counters(
                "carillon_sqs_errors_total", "Calls of Amazon SQS that came to nothing.",
                tasks.workers.map { worker in
                    let errors = tasks.messages.first { $0.name == worker.queue.rawValue }?.counters.errors ?? 0
                    return ("queue=\"\(worker.queue.rawValue)\"", "\(errors)")
                })
        }
        if let messages = state.tasks?.messages, !messages.isEmpty {
            let counters = messages.map { (queue: $0.name, counters: $0.counters) }
            text.counters(
                "carillon_sqs_messages_total", "Messages of Amazon SQS, by what became of them here.",
                counters.flatMap { entry in
                    let counted = [
                        ("sent", entry.counters.sent), ("not_sent", entry.counters.notSent), ("received", entry.counters.received), ("stale", entry.counters.stale),
                        ("postponed", entry.counters.postponed), ("deleted", entry.counters.deleted), ("foreign", entry.counters.foreign),
                    ]
                    return counted.map { ("queue=\"\(entry.queue)\",what=\"\($0.0)\"", "\($0.1)") }
                })
            text.gauges(
                "carillon_sqs_messages", "Messages in SQS, as it says itself, about.",
                counters.flatMap { entry in
                    [("waiting", entry.counters.waiting), ("taken", entry.counters.taken)].compactMap { state, count in
                        count.map { ("queue=\"\(entry.queue)\",state=\"\(state)\"", "\($0)") }
                    }
                } as [(labels: String, value: String)])
        }
        text.counter("carillon_unread_drift_total", "Copies with the same position and another count; must stay 0.", self.copies.drift)
        if let catalogue = state.catalogue?.counters {
            text.counter("carillon_catalogue_reloads_total", "Times that the catalogue was read again and taken.", catalogue.reloads)
            text.counter("carillon_catalogue_reload_failures_total", "Times that it was wrong and the old one stayed.", catalogue.failures)
        }
        let limits = self.limiter.counters
        text.counter("carillon_rate_limited_total", "Requests refused by a rate limit.", limits.refused)
        text.counter("carillon_rate_limit_ungoverned_total", "Requests let in while Redis was away.", limits.ungoverned)
        text.counter("carillon_rate_limit_untracked_total", "Requests let in since too many subjects were known.", limits.untracked)
        text.gauge("carillon_rate_limit_subjects", "Users and API keys that this node counts now.", self.limiter.subjects)
        let audit = self.audit.counters
        text.counter("carillon_audit_written_total", "Rows of the audit log written.", audit.written)
        text.counter("carillon_audit_dropped_total", "Requests of which the audit log says nothing, since too many waited for Postgres.", audit.dropped)
        text.gauge("carillon_audit_waiting", "Rows of the audit log that wait to be written.", audit.waiting)
        let pool = self.pool.snapshot
        let pools = [("pool=\"requests\"", pool), ("pool=\"background\"", self.background.snapshot)]
        text.gauge("carillon_postgres_available", "1 while Postgres answers, and takes writes where this node writes.", state.health?.hasPostgres ?? false ? 1 : 0)
        text.gauges("carillon_postgres_pool_size", "Connections that there should be.", pools.map { ($0, $1.size) })
        text.gauges("carillon_postgres_connections", "Connections that are up.", pools.map { ($0, $1.connected) })
        text.gauges("carillon_postgres_in_flight", "Statements in flight, or waiting for their turn.", pools.map { ($0, $1.inFlight) })
        text.counters("carillon_postgres_reconnects_total", "Connections made after the first ones.", pools.map { ($0, "\($1.reconnects)") })
        text.counters("carillon_postgres_connect_failures_total", "Attempts to connect that failed.", pools.map { ($0, "\($1.connectFailures)") })
        text.counters("carillon_postgres_errors_total", "Statements that failed, for whatever reason.", pools.map { ($0, "\($1.errors)") })
        let redis = [self.redis.counters] + (state.events?.counters ?? [])
        text.gauge("carillon_redis_available", "1 while Redis answers.", self.redis.isAvailable ? 1 : 0)
        text.counter("carillon_redis_commands_total", "Commands sent.", redis.reduce(0) { $0 + $1.commandsSent })
        text.counter("carillon_redis_commands_failed_total", "Commands that failed.", redis.reduce(0) { $0 + $1.commandsFailed })
        ProcessFigures().write(to: &text)
        self.recorded.write(to: &text)
        return text.text
    }
}

struct MetricsRoute: PlainRoute {
    let metrics: NodeMetrics
    let token: String?

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        if let token, !Self.isSame(Credentials.bearer(request.header("authorization")) ?? "", token) {
            return eventLoop.makeSucceededFuture(Problem.unauthorized.response(instance: request.requestID))
        }
        let metrics = self.metrics
        // Not on the loop: its streams would wait.
        return eventLoop.makeFutureWithTask {
            GatewayResponse(status: .ok, headers: ["content-type": "text/plain; version=0.0.4; charset=utf-8"], body: ByteBuffer(string: metrics.text))
        }
    }

    /// In a time that does not say how much of it is right.
    private static func isSame(_ given: String, _ token: String) -> Bool {
        let (given, token) = (Array(given.utf8), Array(token.utf8))
        return given.count == token.count && zip(given, token).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}
