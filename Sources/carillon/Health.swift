import Edge
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore
import PostgresClient
import RedisClient
import Synchronization

/// Whether this node lives, and whether it can do something useful.
final class Health: Sendable {
    private struct State {
        var draining = false
        var edge: Edge?
        var subscriber: RedisSubscriber?
        var wasComplete = false
    }

    let configuration: NodeConfiguration
    private let pool: PostgresPool
    let probe: PostgresProbe
    private let writer: InboxWriter?
    private let redis: RedisClient
    private let schema: SchemaWatch
    private let started = ContinuousClock.now
    private let state = Mutex(State())

    init(configuration: NodeConfiguration, pool: PostgresPool, writer: InboxWriter?, redis: RedisClient, schema: SchemaWatch) {
        self.configuration = configuration
        self.pool = pool
        self.probe = PostgresProbe(pool: pool, writes: writer != nil)
        self.writer = writer
        self.redis = redis
        self.schema = schema
    }

    func watch(edge: Edge, subscriber: RedisSubscriber) {
        self.state.withLock {
            $0.edge = edge
            $0.subscriber = subscriber
        }
    }

    var isDraining: Bool { self.state.withLock { $0.draining } }

    func drain() { self.state.withLock { $0.draining = true } }

    var hasPostgres: Bool { self.pool.isAvailable && (self.writer?.isAvailable ?? true) && self.probe.isAnswered }

    /// With either server it is useful: without Redis writes succeed and streams deliver, without Postgres open streams live on. Right after
    /// the start it waits for both, for a few seconds.
    func answer(ready: Bool) -> (ok: Bool, body: JSONValue) {
        let postgres = self.hasPostgres
        let (draining, subscribed, complete) = self.state.withLock { state in
            let subscribed = state.subscriber?.isAvailable ?? true
            if postgres, self.redis.isAvailable, subscribed { state.wasComplete = true }
            return (state.draining, subscribed, state.wasComplete)
        }
        let redis = self.redis.isAvailable && subscribed
        let starting = !complete && ContinuousClock.now - self.started < .seconds(5)
        let word = draining ? "draining" : starting ? "starting" : !postgres && !redis ? "no server within reach" : postgres && redis ? "ready" : "degraded"
        let ok = !ready || (!draining && !starting && (postgres || redis))
        var members: [(String, JSONValue)] = [
            ("status", .string(ready ? word : "live")), ("node", .string(self.configuration.name)),
            ("roles", .array(self.configuration.roles.map(\.rawValue).sorted().map { .string($0) })), ("postgres", .bool(postgres)),
            ("redis", .bool(redis)),
        ]
        // A later version has migrated: this node works on, and is to be followed by one of that version.
        if let newer = self.schema.newer {
            members.append(("schema", .object([("version", .number(String(newer.number))), ("known", .number(String(self.schema.known)))])))
        }
        return (ok, .object(members))
    }
}

struct HealthRoute: PlainRoute {
    let health: Health
    let ready: Bool

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        let (ok, body) = self.health.answer(ready: self.ready)
        return eventLoop.makeSucceededFuture(.json(ok ? .ok : .serviceUnavailable, body.encoded))
    }
}
