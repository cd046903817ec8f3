public import Logging
public import NIOCore
internal import NIOConcurrencyHelpers
internal import Synchronization

/// What a subscriber tells. All calls come on the subscriber's event loop.
public protocol RedisSubscriberDelegate: AnyObject, Sendable {
    /// All messages of one read of the socket, in the order of arrival, of all channels. The subscriber's own probes are not among them.
    func subscriber(_ subscriber: RedisSubscriber, received messages: [RedisMessage])
    /// Channels are subscribed and confirmed again (or for the first time, when no `subscribe` that succeeded has said so). What was published
    /// to them in between did not arrive and will not.
    ///
    /// - Parameter channels: nil for all that are wanted: a connection is up, the first one too. With a cluster, those whose master was lost or
    ///   whose slot has moved, gathered over some milliseconds; or none, when it is whole again and no channel was concerned.
    func subscriberResubscribed(_ subscriber: RedisSubscriber, channels: [String]?)
    /// The connection of the last ``subscriberResubscribed(_:channels:)`` is gone; with a cluster: messages of a part of the slots do not arrive
    /// now. Not called for connections that did not get that far.
    func subscriberLost(_ subscriber: RedisSubscriber)
    /// A probe that the publisher sent came back after so many nanoseconds.
    func subscriber(_ subscriber: RedisSubscriber, probeTook nanoseconds: Int64)
}

/// One connection for subscriptions. It reconnects for ever, with a jittered backoff, subscribes again to every channel that is wanted, and
/// notices a silent server: at each probe interval it has a message published to a channel of its own.
///
/// With sentinels the connection goes to the master that they name, and leaves it when they name another one, though it be alive.
///
/// With a cluster there is one such connection to each master, for the channels of its slots (sharded pub/sub: SSUBSCRIBE; what a ``RedisClient``
/// of the same cluster publishes). Channels follow their slots. While a master is away, the channels of the others go on undisturbed.
///
/// Wanting a channel is not counted: two subscribes and one unsubscribe leave it unsubscribed.
public final class RedisSubscriber: Sendable {
    public let deployment: RedisDeployment
    public let eventLoop: any EventLoop
    private let shared: SubscriberShared
    private let core: NIOLoopBoundBox<any SubscriberCoreProtocol>

    /// Does nothing yet: see ``start()``.
    ///
    /// - Parameters:
    ///   - publisher: sends the probes. While it is not available, PING on the subscriber's own connection takes their place. It is of the same
    ///     deployment: a cluster's map of slots comes from it, too.
    ///   - handler: held weakly.
    public init(
        deployment: RedisDeployment, eventLoop: any EventLoop, publisher: RedisClient, configuration: RedisSubscriberConfiguration = .init(),
        logger: Logger, handler: any RedisSubscriberDelegate
    ) {
        self.deployment = deployment
        self.eventLoop = eventLoop
        let shared = SubscriberShared()
        self.shared = shared
        core = NIOLoopBoundBox.makeBoxSendingValue(
            Self.core(
                deployment, configuration: configuration, eventLoop: eventLoop, publisher: publisher, shared: shared, logger: logger, handler: handler
            ),
            eventLoop: eventLoop
        )
    }

    private static func core(
        _ deployment: RedisDeployment, configuration: RedisSubscriberConfiguration, eventLoop: any EventLoop, publisher: RedisClient,
        shared: SubscriberShared, logger: Logger, handler: any RedisSubscriberDelegate
    ) -> any SubscriberCoreProtocol {
        let source: any EndpointSource
        switch deployment {
        case .server(let endpoint):
            source = FixedSource(endpoint, eventLoop: eventLoop)
        case .sentinel(let sentinel):
            source = SentinelSource(sentinel, configuration: configuration.connection, eventLoop: eventLoop, logger: logger)
        case .cluster(let cluster):
            return ClusterSubscriberCore(
                cluster, configuration: configuration, eventLoop: eventLoop, publisher: publisher, shared: shared, logger: logger, delegate: handler
            )
        }
        return SubscriberCore(
            source: source, configuration: configuration, eventLoop: eventLoop, publisher: publisher, shared: shared, logger: logger, delegate: handler
        )
    }

    /// For one server.
    public convenience init(
        endpoint: RedisEndpoint, eventLoop: any EventLoop, publisher: RedisClient, configuration: RedisSubscriberConfiguration = .init(), logger: Logger,
        handler: any RedisSubscriberDelegate
    ) {
        self.init(
            deployment: .server(endpoint), eventLoop: eventLoop, publisher: publisher, configuration: configuration, logger: logger, handler: handler
        )
    }

    deinit {
        if !shared.isShutDown.load(ordering: .relaxed) {
            eventLoop.execute { [core] in _ = core.value.shutdown() }
        }
    }

    /// Starts connecting. A second call does nothing.
    public func start() {
        onLoop { core in core.start(for: self) }
    }

    /// Fails what waits for a confirmation, closes the connection and stays closed.
    public func shutdown() -> EventLoopFuture<Void> {
        shared.isShutDown.store(true, ordering: .relaxed)
        let promise = eventLoop.makePromise(of: Void.self)
        onLoop { $0.shutdown().cascade(to: promise) }
        return promise.futureResult
    }

    /// Whether everything that was wanted when the connection began is subscribed, so that messages arrive; with a cluster, those of every
    /// slot. Cheap, from any thread.
    public var isAvailable: Bool { shared.isAvailable.load(ordering: .acquiring) }

    /// Wants these channels from now on, until ``unsubscribe(_:)``, across reconnects. What is called within one tick of the event loop is
    /// one SUBSCRIBE (of up to `channelsPerCommand` channels).
    ///
    /// Completes once the server has confirmed every one of them: what is published after that arrives. Fails with ``RedisError``:
    /// `unavailable` at once while there is no connection, `connectionLost` or `timedOut` when it is lost before the confirmation (in all three
    /// cases the channels are remembered, and subscribed with the next connection), `cancelled` when one of them is unsubscribed before its
    /// confirmation, `queueFull` beyond the bound on channels (then nothing is remembered).
    public func subscribe(_ channels: [String]) -> EventLoopFuture<Void> {
        let promise = eventLoop.makePromise(of: Void.self)
        onLoop { $0.subscribe(channels, promise: promise) }
        return promise.futureResult
    }

    /// Wants these channels no longer. Messages that are on their way still arrive.
    public func unsubscribe(_ channels: [String]) {
        onLoop { $0.unsubscribe(channels) }
    }

    /// Why the last connection, or the last attempt to make one, ended; nil while there is one, and before the first attempt ends.
    public var connectionError: RedisError? { shared.connection.reason.withLockedValue { $0 } }

    public var counters: RedisSubscriberCounters {
        var counters = RedisSubscriberCounters()
        counters.connected = shared.connection.connected.value
        counters.lost = shared.connection.lost.value
        counters.connectFailures = shared.connection.connectFailures.value
        counters.silences = shared.connection.silences.value
        counters.protocolViolations = shared.connection.protocolViolations.value
        counters.resubscribes = shared.resubscribes.value
        counters.messages = shared.messages.value
        counters.batches = shared.batches.value
        counters.subscribesFailed = shared.subscribesFailed.value
        counters.probesSent = shared.probesSent.value
        counters.probesReceived = shared.probesReceived.value
        counters.probeFailures = shared.probeFailures.value
        counters.channels = shared.channels.value
        return counters
    }

    private func onLoop(_ body: @escaping @Sendable (any SubscriberCoreProtocol) -> Void) {
        if eventLoop.inEventLoop {
            body(core.value)
        } else {
            eventLoop.execute { [core] in body(core.value) }
        }
    }
}
