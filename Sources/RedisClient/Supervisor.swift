internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// What wants a connection at all times.
protocol SupervisorClient: AnyObject {
    var awaitsReply: Bool { get }
    /// A connection is ready for use.
    func up(_ connection: Connection)
    func received(_ reply: ReplyView) throws(RedisError)
    func readComplete()
    func probe(_ connection: Connection)
    /// The connection that was up is gone.
    func down(_ reason: RedisError)
    /// Nothing more is wanted of the connection: call `end` on it once it may go.
    func finish(_ connection: Connection)
}

/// Keeps one connection up: performs what ``ConnectionLifecycle`` decides. Bound to its event loop.
final class Supervisor: ConnectionUser {
    private let connector: Connector
    private let eventLoop: any EventLoop
    private let counters: ConnectionCounters
    private let logger: Logger
    /// Strong: the client lets go of the supervisor once it has finished.
    private let client: any SupervisorClient
    private var lifecycle: ConnectionLifecycle
    private var connection: Connection?
    private var retry: Scheduled<Void>?
    private var random = SystemRandomNumberGenerator()
    private var awaitingFinish: [EventLoopPromise<Void>] = []
    /// A reason that repeats is not worth a warning each time.
    private var lastReason: RedisError?

    init(
        endpoint: RedisEndpoint, configuration: RedisConnectionConfiguration, purpose: ConnectionPurpose, eventLoop: any EventLoop,
        counters: ConnectionCounters, logger: Logger, client: any SupervisorClient
    ) {
        connector = Connector(endpoint: endpoint, configuration: configuration, purpose: purpose)
        self.eventLoop = eventLoop
        self.counters = counters
        self.logger = logger
        self.client = client
        lifecycle = ConnectionLifecycle(backoff: Backoff(initial: configuration.backoffInitial, maximum: configuration.backoffMaximum))
    }

    func start() {
        run(lifecycle.start(), reason: .unavailable)
    }

    func shutdown() -> EventLoopFuture<Void> {
        let promise = eventLoop.makePromise(of: Void.self)
        awaitingFinish.append(promise)
        run(lifecycle.shutdown(), reason: .shutDown)
        return promise.futureResult
    }

    private func run(_ action: ConnectionLifecycle.Action, reason: RedisError) {
        eventLoop.assertInEventLoop()
        switch action {
        case .none: break
        case .connect: connect()
        case .announceOpen:
            guard let connection else { preconditionFailure("a connection opened that nobody holds") }
            lastReason = nil
            counters.reason.withLockedValue { $0 = nil }
            counters.connected.add()
            logger.log(.info, "connected to Redis", [.endpoint: connector.endpoint.description])
            client.up(connection)
        case .discard:
            connection?.end(.shutDown)
        case .retry(let delay):
            counters.connectFailures.add()
            schedule(after: delay, reason: reason)
        case .announceLostAndRetry(let delay):
            counters.lost.add()
            schedule(after: delay, reason: reason)
            client.down(reason)
        case .close:
            guard let connection else { preconditionFailure("an open connection that nobody holds") }
            client.finish(connection)
        case .cancelRetryAndFinish:
            retry?.cancel()
            retry = nil
            finish()
        case .announceLostAndFinish:
            client.down(reason)
            finish()
        case .finish:
            finish()
        }
    }

    private func finish() {
        let promises = awaitingFinish
        awaitingFinish = []
        for promise in promises { promise.succeed() }
    }

    private func connect() {
        connector.connect(on: eventLoop).assumeIsolated().whenComplete { result in
            switch result {
            case .success(let bound):
                self.connection = bound.value
                bound.value.begin(Greeting(endpoint: self.connector.endpoint, for: self.connector.purpose), user: self)
                if case .stopping = self.lifecycle.state { bound.value.end(.shutDown) }
            case .failure(let error):
                self.ended(RedisError(connecting: error))
            }
        }
    }

    private func schedule(after delay: TimeAmount, reason: RedisError) {
        logger.log(
            reason == lastReason ? .debug : .warning, "no connection to Redis, trying again",
            [.endpoint: connector.endpoint.description, .reason: reason.description, .retryMilliseconds: String(delay.nanoseconds / 1_000_000)]
        )
        lastReason = reason
        retry = eventLoop.assumeIsolated().scheduleTask(in: delay) {
            self.retry = nil
            self.run(self.lifecycle.retryDue(), reason: reason)
        }
    }

    // MARK: The connection

    var awaitsReply: Bool { client.awaitsReply }

    func opened(_ connection: Connection) {
        run(lifecycle.opened(now: eventLoop.now), reason: .unavailable)
    }

    func received(_ reply: ReplyView) throws(RedisError) {
        try client.received(reply)
    }

    func readComplete() {
        client.readComplete()
    }

    func probe(_ connection: Connection) {
        client.probe(connection)
    }

    func ended(_ reason: RedisError) {
        connection = nil
        counters.reason.withLockedValue { $0 = reason }
        switch reason.code {
        case .timedOut: counters.silences.add()
        case .protocolViolation: counters.protocolViolations.add()
        case .unavailable, .connectionLost, .queueFull, .server, .invalidURL, .tls, .cancelled: break
        }
        run(lifecycle.ended(now: eventLoop.now, slowly: reason.needsAnOperator, using: &random), reason: reason)
    }
}
