public import Logging
public import NIOCore
internal import NIOConcurrencyHelpers
internal import Synchronization

/// One pipelined connection for commands. It reconnects for ever, with a jittered backoff, until it is shut down.
///
/// Any thread may send. Commands of one thread reach the server in the order of sending, and what is sent in one tick of the event loop is one
/// write. Nothing is sent twice: a command whose connection is lost fails, and the caller knows whether it may be repeated. Blocking commands
/// (BLPOP and the like) and subscriptions do not belong here: all others would wait behind them.
///
/// With sentinels the connection goes to the master that they name, and leaves it when they name another one, though it be alive.
///
/// With a cluster there is one such connection to each master, and each command goes to the master that serves its first key. What belongs
/// together must share a hash tag (`{…}`). PUBLISH becomes SPUBLISH, so that a channel is a matter of one shard; a ``RedisSubscriber`` of the same
/// cluster subscribes accordingly. The order of commands is kept for each key, as long as its slot stays where it is.
public final class RedisClient: Sendable {
    public let deployment: RedisDeployment
    public let eventLoop: any EventLoop
    private let shared: CommandShared
    private let core: NIOLoopBoundBox<any ClientCore>

    /// Does nothing yet: see ``start()``.
    public init(deployment: RedisDeployment, eventLoop: any EventLoop, configuration: RedisClientConfiguration = .init(), logger: Logger) {
        self.deployment = deployment
        self.eventLoop = eventLoop
        let shared = CommandShared(
            admission: Admission(maximumCommands: configuration.maximumCommandsInFlight, maximumBytes: configuration.maximumBytesInFlight)
        )
        self.shared = shared
        core = NIOLoopBoundBox.makeBoxSendingValue(
            Self.core(deployment, configuration: configuration, eventLoop: eventLoop, shared: shared, logger: logger), eventLoop: eventLoop
        )
    }

    private static func core(
        _ deployment: RedisDeployment, configuration: RedisClientConfiguration, eventLoop: any EventLoop, shared: CommandShared, logger: Logger
    ) -> any ClientCore {
        let source: any EndpointSource
        switch deployment {
        case .server(let endpoint):
            source = FixedSource(endpoint, eventLoop: eventLoop, role: configuration.acceptsReplica ? .any : .writable)
        case .sentinel(let sentinel):
            source = SentinelSource(sentinel, configuration: configuration.connection, eventLoop: eventLoop, logger: logger)
        case .cluster(let cluster):
            return ClusterCore(cluster, configuration: configuration, eventLoop: eventLoop, shared: shared, logger: logger)
        }
        return CommandCore(source: source, configuration: configuration, eventLoop: eventLoop, shared: shared, logger: logger)
    }

    /// For one server.
    public convenience init(endpoint: RedisEndpoint, eventLoop: any EventLoop, configuration: RedisClientConfiguration = .init(), logger: Logger) {
        self.init(deployment: .server(endpoint), eventLoop: eventLoop, configuration: configuration, logger: logger)
    }

    deinit {
        if !shared.isShutDown.load(ordering: .relaxed) {
            eventLoop.execute { [core] in _ = core.value.shutdown() }
        }
    }

    /// Starts connecting. A second call does nothing.
    public func start() {
        onLoop { $0.start() }
    }

    /// Refuses new commands, waits for the replies to those in flight (no longer than the silence bound allows), closes the connection and
    /// stays closed.
    public func shutdown() -> EventLoopFuture<Void> {
        shared.isShutDown.store(true, ordering: .relaxed)
        let promise = eventLoop.makePromise(of: Void.self)
        onLoop { $0.shutdown().cascade(to: promise) }
        return promise.futureResult
    }

    /// False while there is no connection that greeted, and from the moment that the silence bound closed one; with a cluster, unless each
    /// of its slots is served by a master that is connected. Cheap, from any thread.
    public var isAvailable: Bool { shared.isAvailable.load(ordering: .acquiring) }

    /// Whether any server is connected: the same as ``isAvailable`` but for a cluster, of which a part may be away. Commands for that part fail
    /// with `unavailable`, the others are done. Cheap, from any thread.
    public var isReachable: Bool { shared.isReachable.load(ordering: .acquiring) }

    /// Called on the event loop each time that the connection is established (`true`) or lost (`false`). Add before ``start()``.
    public func onStateChange(_ body: @escaping @Sendable (Bool) -> Void) {
        shared.stateHandlers.withLockedValue { $0.append(body) }
    }

    /// Why the last connection, or the last attempt to make one, ended; nil while there is one, and before the first attempt ends.
    public var connectionError: RedisError? { shared.connection.reason.withLockedValue { $0 } }

    public var counters: RedisClientCounters {
        var counters = RedisClientCounters()
        counters.connected = shared.connection.connected.value
        counters.lost = shared.connection.lost.value
        counters.connectFailures = shared.connection.connectFailures.value
        counters.silences = shared.connection.silences.value
        counters.protocolViolations = shared.connection.protocolViolations.value
        counters.commandsSent = shared.commands.sent.value
        counters.commandsFailed = shared.commands.failed.value
        counters.rejectedUnavailable = shared.commands.rejectedUnavailable.value
        counters.rejectedQueueFull = shared.commands.rejectedQueueFull.value
        counters.serverErrors = shared.commands.serverErrors.value
        counters.readOnlyReplies = shared.commands.readOnlyReplies.value
        counters.loadingReplies = shared.commands.loadingReplies.value
        counters.masterDownReplies = shared.commands.masterDownReplies.value
        counters.redirections = shared.commands.redirections.value
        counters.commandsInFlight = shared.admission.commands
        counters.bytesInFlight = shared.admission.bytes
        return counters
    }

    /// Sends one command. The future fails with a ``RedisError``: `server` for an error reply, `unavailable` and `queueFull` when nothing was
    /// sent, `connectionLost` and `timedOut` when it is unknown whether the command was done.
    public func send(_ command: RedisCommand) -> EventLoopFuture<RedisValue> {
        let bytes = command.wireBytes
        if let error = refusal(commands: 1, bytes: bytes) { return eventLoop.makeFailedFuture(error) }
        let promise = eventLoop.makePromise(of: RedisValue.self)
        onLoop { $0.send(command, bytes: bytes, promise: promise) }
        return promise.futureResult
    }

    /// Sends many commands with one write. One value for each, in order; an error reply of one is a ``RedisValue/error(_:)`` and does not fail
    /// the others. All of them are sent or none; other callers' commands do not come between them. (It is no transaction.)
    ///
    /// With a cluster each master gets its part. When a part fails as a whole, each of its commands has the failure (`unavailable`,
    /// `connectionLost`…) as a ``RedisValue/error(_:)``; only when nothing at all was answered does the future fail.
    public func pipeline(_ commands: [RedisCommand]) -> EventLoopFuture<[RedisValue]> {
        guard !commands.isEmpty else { return eventLoop.makeSucceededFuture([]) }
        let bytes = commands.reduce(0) { $0 + $1.wireBytes }
        if let error = refusal(commands: commands.count, bytes: bytes) { return eventLoop.makeFailedFuture(error) }
        let promise = eventLoop.makePromise(of: [RedisValue].self)
        onLoop { $0.pipeline(commands, bytes: bytes, promise: promise) }
        return promise.futureResult
    }

    /// Runs a script by its SHA-1, and once more by its source if the server does not know it (it forgets them when it restarts).
    public func run(_ script: RedisScript, keys: [String] = [], arguments: [RedisArgument] = []) -> EventLoopFuture<RedisValue> {
        send(script.evalsha(keys: keys, arguments: arguments)).flatMapError { error in
            guard let error = error as? RedisError, error.serverCode == "NOSCRIPT" else { return self.eventLoop.makeFailedFuture(error) }
            return self.send(script.eval(keys: keys, arguments: arguments))
        }
    }

    /// Runs a script for many calls, pipelined. One value for each call, in order; errors as in ``pipeline(_:)``. Calls that the server refused
    /// since it did not know the script run once more by source, after everything that was sent in the meantime.
    public func run(_ script: RedisScript, calls: [(keys: [String], arguments: [RedisArgument])]) -> EventLoopFuture<[RedisValue]> {
        pipeline(calls.map { script.evalsha(keys: $0.keys, arguments: $0.arguments) }).flatMap { values in
            let unknown = values.indices.filter { values[$0].error?.serverCode == "NOSCRIPT" }
            guard !unknown.isEmpty else { return self.eventLoop.makeSucceededFuture(values) }
            return self.pipeline(unknown.map { script.eval(keys: calls[$0].keys, arguments: calls[$0].arguments) }).map { again in
                var all = values
                for (index, value) in zip(unknown, again) { all[index] = value }
                return all
            }
        }
    }

    private func refusal(commands: Int, bytes: Int) -> RedisError? {
        guard isReachable else {
            shared.commands.rejectedUnavailable.add(commands)
            return .unavailable
        }
        guard shared.admission.take(commands: commands, bytes: bytes) else {
            shared.commands.rejectedQueueFull.add(commands)
            return .queueFull
        }
        return nil
    }

    // MARK: The map of a cluster, for its subscriber

    /// Calls the handler on the client's event loop with the map of slots, now and whenever it changes. Nothing without a cluster.
    func observeSlots(_ handler: @escaping @Sendable (SlotMap) -> Void) {
        onLoop { ($0 as? ClusterCore)?.observe(handler) }
    }

    /// A server said that this slot is elsewhere.
    func slotMoved(_ slot: HashSlot, to address: RedisAddress) {
        onLoop { ($0 as? ClusterCore)?.moved(slot, to: address) }
    }

    /// Something happened that the map may tell.
    func refreshSlots() {
        onLoop { ($0 as? ClusterCore)?.refresh() }
    }

    private func onLoop(_ body: @escaping @Sendable (any ClientCore) -> Void) {
        if eventLoop.inEventLoop {
            body(core.value)
        } else {
            eventLoop.execute { [core] in body(core.value) }
        }
    }
}
