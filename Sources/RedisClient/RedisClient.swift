public import Logging
public import NIOCore
internal import NIOConcurrencyHelpers
internal import Synchronization

/// One pipelined connection for commands. It reconnects for ever, with a jittered backoff, until it is shut down.
///
/// Any thread may send. Commands of one thread reach the server in the order of sending, and what is sent in one tick of the event loop is one
/// write. Nothing is sent twice: a command whose connection is lost fails, and the caller knows whether it may be repeated. Blocking commands
/// (BLPOP and the like) and subscriptions do not belong here: all others would wait behind them.
public final class RedisClient: Sendable {
    public let deployment: RedisDeployment
    public let eventLoop: any EventLoop
    private let shared: CommandShared
    private let core: NIOLoopBoundBox<CommandCore>

    /// Does nothing yet: see ``start()``.
    public init(deployment: RedisDeployment, eventLoop: any EventLoop, configuration: RedisClientConfiguration = .init(), logger: Logger) {
        self.deployment = deployment
        self.eventLoop = eventLoop
        let shared = CommandShared(
            admission: Admission(maximumCommands: configuration.maximumCommandsInFlight, maximumBytes: configuration.maximumBytesInFlight)
        )
        self.shared = shared
        core = NIOLoopBoundBox.makeBoxSendingValue(
            CommandCore(
                source: deployment.source(configuration.connection, eventLoop: eventLoop, logger: logger), configuration: configuration,
                eventLoop: eventLoop, shared: shared, logger: logger
            ),
            eventLoop: eventLoop
        )
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

    /// False while there is no connection that greeted, and from the moment that the silence bound closed one. Cheap, from any thread.
    public var isAvailable: Bool { shared.isAvailable.load(ordering: .acquiring) }

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
        counters.commandsSent = shared.commandsSent.value
        counters.commandsFailed = shared.commandsFailed.value
        counters.rejectedUnavailable = shared.rejectedUnavailable.value
        counters.rejectedQueueFull = shared.rejectedQueueFull.value
        counters.serverErrors = shared.serverErrors.value
        counters.readOnlyReplies = shared.readOnlyReplies.value
        counters.loadingReplies = shared.loadingReplies.value
        counters.masterDownReplies = shared.masterDownReplies.value
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
        guard isAvailable else {
            shared.rejectedUnavailable.add(commands)
            return .unavailable
        }
        guard shared.admission.take(commands: commands, bytes: bytes) else {
            shared.rejectedQueueFull.add(commands)
            return .queueFull
        }
        return nil
    }

    private func onLoop(_ body: @escaping @Sendable (CommandCore) -> Void) {
        if eventLoop.inEventLoop {
            body(core.value)
        } else {
            eventLoop.execute { [core] in body(core.value) }
        }
    }
}
