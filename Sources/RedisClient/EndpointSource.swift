internal import Logging
internal import NIOCore

/// Says where to connect, anew before each attempt. Bound to its event loop.
protocol EndpointSource: AnyObject {
    /// For logs, when nothing better is known.
    var description: String { get }
    /// What the greeting asks of the server's role.
    var role: Greeting.Role { get }
    /// - Parameter changed: told of every later answer that is known without asking, so that a connection to somewhere else can be ended.
    func start(changed: @escaping (RedisEndpoint) -> Void)
    func next() -> EventLoopFuture<RedisEndpoint>
    /// What ``next()`` named could not be reached, or did not take the greeting.
    func attemptFailed()
    func shutdown() -> EventLoopFuture<Void>
}

extension EndpointSource {
    func attemptFailed() {}
}

/// Always the same server.
final class FixedSource: EndpointSource {
    private let endpoint: RedisEndpoint
    private let eventLoop: any EventLoop
    let role: Greeting.Role

    init(_ endpoint: RedisEndpoint, eventLoop: any EventLoop, role: Greeting.Role = .any) {
        self.endpoint = endpoint
        self.eventLoop = eventLoop
        self.role = role
    }

    var description: String { endpoint.description }
    func start(changed: @escaping (RedisEndpoint) -> Void) {}
    func next() -> EventLoopFuture<RedisEndpoint> { eventLoop.makeSucceededFuture(endpoint) }
    func shutdown() -> EventLoopFuture<Void> { eventLoop.makeSucceededVoidFuture() }
}

/// Each of some servers in turn, in an order of this process's own, so that the nodes of a service spread over them.
final class RotatingSource: EndpointSource {
    private(set) var endpoints: [RedisEndpoint]
    private let eventLoop: any EventLoop
    private var last = 0

    /// - Parameter endpoints: at least one.
    init(_ endpoints: [RedisEndpoint], eventLoop: any EventLoop) {
        precondition(!endpoints.isEmpty, "a rotation of no servers")
        self.endpoints = endpoints.shuffled()
        self.eventLoop = eventLoop
    }

    /// Takes these in place of those it had.
    func replace(_ endpoints: [RedisEndpoint]) {
        // Each once: a node that is known by several ways would be asked more often than the others.
        let new = Set(endpoints)
        guard !new.isEmpty, new != Set(self.endpoints) else { return }
        self.endpoints = new.shuffled()
    }

    var description: String { endpoints.map(\.description).joined(separator: " ") }
    var role: Greeting.Role { .any }
    func start(changed: @escaping (RedisEndpoint) -> Void) {}

    func next() -> EventLoopFuture<RedisEndpoint> {
        last += 1
        return eventLoop.makeSucceededFuture(endpoints[last % endpoints.count])
    }

    func shutdown() -> EventLoopFuture<Void> { eventLoop.makeSucceededVoidFuture() }
}

/// The master that the sentinels name, watched all the time.
final class SentinelSource: EndpointSource {
    private let deployment: RedisSentinelDeployment
    private let watch: TopologyWatch<RedisAddress>
    /// Failed attempts since the sentinel that is asked was last changed.
    private var failures = 0

    /// Attempts that may fail before another sentinel is asked: this one may be the last to hear of the new master. More than one, so that
    /// the connections to the sentinels last while a failover takes its time, and the news come at once.
    static let patience = 3

    init(_ deployment: RedisSentinelDeployment, configuration: RedisConnectionConfiguration, eventLoop: any EventLoop, logger: Logger) {
        self.deployment = deployment
        watch = TopologyWatch(
            candidates: RotatingSource(deployment.sentinels, eventLoop: eventLoop), configuration: configuration, eventLoop: eventLoop, logger: logger,
            question: RedisCommand("SENTINEL", "get-master-addr-by-name", .string(deployment.master)),
            read: { reply, _ in Self.master(reply, name: deployment.master) }
        )
    }

    var description: String { deployment.description }
    var role: Greeting.Role { .master }

    func start(changed: @escaping (RedisEndpoint) -> Void) {
        let access = deployment.access
        watch.start { changed(access.at($0)) }
    }

    func next() -> EventLoopFuture<RedisEndpoint> {
        let access = deployment.access
        return watch.ask().map { access.at($0) }
    }

    func attemptFailed() {
        failures += 1
        guard failures >= Self.patience else { return }
        failures = 0
        watch.leave()
    }

    func shutdown() -> EventLoopFuture<Void> { watch.shutdown() }

    /// The answer to `SENTINEL get-master-addr-by-name`: host and port, or null where the sentinel knows no such master.
    static func master(_ reply: RedisValue, name: String) -> Result<RedisAddress, RedisError> {
        switch reply {
        case .array(let parts):
            guard parts.count == 2, let host = parts[0].string, !host.isEmpty, let port = parts[1].int, (1...65535).contains(port) else {
                return .failure(.violation("a sentinel's answer that is no address"))
            }
            return .success(RedisAddress(host: host, port: Int(port)))
        case .null:
            return .failure(RedisError(code: .unavailable, message: "the sentinel knows no master named \(name); check the name in the URL"))
        case .error(let error): return .failure(error)
        case .integer, .status, .bulk: return .failure(.violation("a sentinel's answer that is no address"))
        }
    }
}
