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
        var jobs: JobWorker?
        var tasks: TaskQueues?
    }

    let publish = Histogram()
    let canary = Histogram()
    private let pool: PostgresPool
    private let redis: RedisClient
    private let copies: CountCopies
    private let limiter: RateLimiter
    private let audit: AuditLog
    private let state = Mutex(State())

    init(pool: PostgresPool, redis: RedisClient, copies: CountCopies, limiter: RateLimiter, audit: AuditLog) {
        self.pool = pool
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
    func watch(audience: DirectAudience) { self.state.withLock { $0.audience = audience } }
    func watch(jobs: JobWorker) { self.state.withLock { $0.jobs = jobs } }
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
            text.counter("carillon_direct_unchecked_total", "Direct events sent without knowing what their users prefer.", audience.unchecked)
        }
        if let repair = state.repair { text.counter("carillon_copies_repaired_total", "Counts' copies refreshed by the tail.", repair.repaired) }
        if let queue = state.jobs?.queue {
            let depths = state.tasks?.depths ?? []
            text.gauges(
                "carillon_queue_depth", "What waits, or is under way.",
                [("queue=\"jobs\"", "\(queue.jobs)")] + depths.map { ("queue=\"\($0.queue.rawValue)\"", "\($0.ready + $0.waiting + $0.running)") })
            text.gauges(
                "carillon_queue_oldest_seconds", "Age of the oldest of it; of tasks: of those whose time has come.",
                [("queue=\"jobs\"", "\(Double(queue.oldestMilliseconds) / 1000)")] + depths.map { ("queue=\"\($0.queue.rawValue)\"", "\(max(0, $0.oldest ?? 0))") })
            text.gauges("carillon_dead_letters", "Tasks that no attempt carried out.", depths.map { ("queue=\"\($0.queue.rawValue)\"", "\($0.dead)") })
        }
        if let workers = state.tasks?.workers, !workers.isEmpty {
            let counters = workers.map { (queue: $0.queue.rawValue, counters: $0.counters) }
            text.counters(
                "carillon_deliveries_total", "What became of deliveries; queued: tried again later.",
                counters.flatMap { entry in
                    entry.counters.states.sorted { $0.key < $1.key }.map { ("channel=\"\(entry.queue)\",state=\"\($0.key)\"", "\($0.value)") }
                })
            text.counters("carillon_delivery_attempts_total", "Attempts begun.", counters.map { ("channel=\"\($0.queue)\"", "\($0.counters.attempts)") })
            text.gauges("carillon_deliveries_under_way", "Deliveries under way here.", counters.map { ("channel=\"\($0.queue)\"", "\($0.counters.underWay)") })
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
        text.gauge("carillon_postgres_connections", "Connections of the pool that are up.", pool.connected)
        text.gauge("carillon_postgres_in_flight", "Statements of the pool in flight.", pool.inFlight)
        text.counter("carillon_postgres_reconnects_total", "Reconnects of the pool.", pool.reconnects)
        let redis = self.redis.counters
        text.gauge("carillon_redis_available", "1 while Redis answers.", self.redis.isAvailable ? 1 : 0)
        text.counter("carillon_redis_commands_total", "Commands sent.", redis.commandsSent)
        text.counter("carillon_redis_commands_failed_total", "Commands that failed.", redis.commandsFailed)
        return text.text
    }
}

private struct MetricsText {
    var text = ""

    mutating func gauge(_ name: String, _ help: String, _ value: Int) { self.one(name, help, "gauge", value) }
    mutating func gauges(_ name: String, _ help: String, _ values: [(labels: String, value: Int)]) {
        self.text += "# HELP \(name) \(help)\n# TYPE \(name) gauge\n"
        for (labels, value) in values { self.text += "\(name){\(labels)} \(value)\n" }
    }
    mutating func counter(_ name: String, _ help: String, _ value: Int) { self.one(name, help, "counter", value) }

    mutating func gauges(_ name: String, _ help: String, _ values: [(labels: String, value: String)]) { self.many(name, help, "gauge", values) }
    mutating func counters(_ name: String, _ help: String, _ values: [(labels: String, value: String)]) { self.many(name, help, "counter", values) }

    private mutating func many(_ name: String, _ help: String, _ type: String, _ values: [(labels: String, value: String)]) {
        self.text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
        for (labels, value) in values { self.text += "\(name){\(labels)} \(value)\n" }
    }

    private mutating func one(_ name: String, _ help: String, _ type: String, _ value: Int) {
        self.text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n\(name) \(value)\n"
    }

    mutating func histogram(_ name: String, _ help: String, _ histogram: Histogram) {
        let (cumulative, sum) = histogram.snapshot
        self.text += "# HELP \(name) \(help)\n# TYPE \(name) histogram\n"
        for (bound, count) in zip(Histogram.bounds, cumulative) { self.text += "\(name)_bucket{le=\"\(bound)\"} \(count)\n" }
        self.text += "\(name)_bucket{le=\"+Inf\"} \(cumulative.last ?? 0)\n\(name)_sum \(sum)\n\(name)_count \(cumulative.last ?? 0)\n"
    }
}

struct MetricsRoute: PlainRoute {
    let metrics: NodeMetrics
    let token: String?

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        if let token, Credentials.bearer(request.header("authorization")) != token {
            return eventLoop.makeSucceededFuture(Problem.unauthorized.response(instance: request.requestID))
        }
        return eventLoop.makeSucceededFuture(
            GatewayResponse(
                status: .ok, headers: ["content-type": "text/plain; version=0.0.4; charset=utf-8"], body: ByteBuffer(string: self.metrics.text)))
    }
}
