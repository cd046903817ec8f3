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
    /// A connection could not be made, or its server refused the greeting.
    func attemptFailed(_ reason: RedisError)
    /// The connection that was up is gone.
    func down(_ reason: RedisError)
    /// Nothing more is wanted of the connection: call `end` on it once it may go.
    func finish(_ connection: Connection)
}

extension SupervisorClient {
    func attemptFailed(_ reason: RedisError) {}
}

/// Keeps one connection up, to whatever its source names: performs what ``ConnectionLifecycle`` decides. Bound to its event loop.
final class Supervisor: ConnectionUser {
    private let source: any EndpointSource
    private let connector: Connector
    private let eventLoop: any EventLoop
    private let counters: ConnectionCounters
    private let logger: Logger
    /// Strong: the client lets go of the supervisor once it has finished.
    private let client: any SupervisorClient
    private var lifecycle: ConnectionLifecycle
    private var connection: Connection?
    /// Where the connection goes, or the last attempt went.
    private var endpoint: RedisEndpoint?
    private var retry: Scheduled<Void>?
    private var random = SystemRandomNumberGenerator()
    private var awaitingFinish: [EventLoopPromise<Void>] = []
    /// A reason that repeats is not worth a warning each time.
    private var lastReason: RedisError?

    init(
        source: any EndpointSource, configuration: RedisConnectionConfiguration, purpose: ConnectionPurpose, eventLoop: any EventLoop,
        counters: ConnectionCounters, logger: Logger, client: any SupervisorClient
    ) {
        self.source = source
        connector = Connector(configuration: configuration, purpose: purpose)
        self.eventLoop = eventLoop
        self.counters = counters
        self.logger = logger
        self.client = client
        lifecycle = ConnectionLifecycle(backoff: Backoff(initial: configuration.backoffInitial, maximum: configuration.backoffMaximum))
    }

    func start() {
        if case .idle = lifecycle.state { source.start { [weak self] in self?.changed($0) } }
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
            logger.log(.info, "connected to Redis", [.endpoint: place])
            client.up(connection)
        case .discard:
            // Without a socket yet, what is waited for may be an answer of the source.
            if let connection { connection.end(.shutDown) } else { _ = source.shutdown() }
        case .retry(let delay):
            counters.connectFailures.add()
            schedule(after: delay, reason: reason)
            if endpoint != nil { source.attemptFailed() }
            client.attemptFailed(reason)
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
        source.shutdown().assumeIsolated().whenComplete { _ in
            for promise in promises { promise.succeed() }
        }
    }

    private var place: String { endpoint?.description ?? source.description }

    private func connect() {
        endpoint = nil
        source.next().assumeIsolated().whenComplete { result in
            if case .stopping = self.lifecycle.state { return self.ended(.shutDown) }
            switch result {
            case .success(let endpoint): self.connect(to: endpoint)
            case .failure(let error): self.ended(RedisError(connecting: error))
            }
        }
    }

    private func connect(to endpoint: RedisEndpoint) {
        self.endpoint = endpoint
        connector.connect(to: endpoint, on: eventLoop).assumeIsolated().whenComplete { result in
            switch result {
            case .success(let bound):
                self.connection = bound.value
                bound.value.begin(Greeting(endpoint: endpoint, for: self.connector.purpose, role: self.source.role), user: self)
                if case .stopping = self.lifecycle.state { bound.value.end(.shutDown) }
            case .failure(let error):
                self.ended(RedisError(connecting: error))
            }
        }
    }

    /// The source names this server now, whatever is connected.
    private func changed(_ new: RedisEndpoint) {
        guard endpoint != new else { return }
        if let connection {
            connection.end(
                RedisError(code: .connectionLost, message: "another server is the master now; what was in flight may or may not have been done")
            )
        } else if let retry {
            // What is waited for is there.
            retry.cancel()
            self.retry = nil
            run(lifecycle.retryDue(), reason: .unavailable)
        }
    }

    private func schedule(after delay: TimeAmount, reason: RedisError) {
        logger.log(
            reason == lastReason ? .debug : .warning, "no connection to Redis, trying again",
            [.endpoint: place, .reason: reason.description, .retryMilliseconds: String(delay.nanoseconds / 1_000_000)]
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
