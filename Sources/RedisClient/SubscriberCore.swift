internal import Logging
internal import NIOCore
internal import Synchronization

/// What every thread may read of a subscriber.
final class SubscriberShared: Sendable {
    let isAvailable = Atomic<Bool>(false)
    let isShutDown = Atomic<Bool>(false)
    let connection = ConnectionCounters()
    let resubscribes = Counter()
    let messages = Counter()
    let batches = Counter()
    let subscribesFailed = Counter()
    let probesSent = Counter()
    let probesReceived = Counter()
    let probeFailures = Counter()
    let channels = Counter()
}

/// What a subscriber does with its channels, on its event loop.
protocol SubscriberCoreProtocol: AnyObject {
    func start(for subscriber: RedisSubscriber)
    func shutdown() -> EventLoopFuture<Void>
    func subscribe(_ channels: [String], promise: EventLoopPromise<Void>)
    func unsubscribe(_ channels: [String])
}

/// The part of ``RedisSubscriber`` that lives on the event loop: performs what ``SubscriptionLedger`` decides, and hands messages on.
final class SubscriberCore: SubscriberCoreProtocol, SupervisorClient {
    private let shared: SubscriberShared
    private let eventLoop: any EventLoop
    private let publisher: RedisClient
    private let logger: Logger
    private let probeChannel: String
    private let probeChannelBytes: ByteBuffer
    private weak var delegate: (any RedisSubscriberDelegate)?
    private weak var subscriber: RedisSubscriber?
    private var supervisor: Supervisor?
    private var connection: Connection?
    private var ledger: SubscriptionLedger
    private var promises: [SubscriptionLedger.Waiter: EventLoopPromise<Void>] = [:]
    private var lastWaiter: SubscriptionLedger.Waiter = 0
    private var sayingIsDue = false
    private var probeChannelIsConfirmed = false
    private var batch: [RedisMessage] = []

    init(
        source: any EndpointSource, configuration: RedisSubscriberConfiguration, eventLoop: any EventLoop, publisher: RedisClient, shared: SubscriberShared,
        logger: Logger, delegate: any RedisSubscriberDelegate
    ) {
        self.shared = shared
        self.eventLoop = eventLoop
        self.publisher = publisher
        self.logger = logger
        self.delegate = delegate
        // 128 random bits: no two subscribers of a cluster hear each other's probes.
        probeChannel = configuration.probeChannelPrefix + String(UInt64.random(in: .min ... .max), radix: 36) + String(UInt64.random(in: .min ... .max), radix: 36)
        probeChannelBytes = ByteBuffer(string: probeChannel)
        ledger = SubscriptionLedger(
            limits: .init(
                channelsPerCommand: configuration.channelsPerCommand, unconfirmed: configuration.maximumUnconfirmed, channels: configuration.maximumChannels
            )
        )
        supervisor = Supervisor(
            source: source, configuration: configuration.connection, purpose: .subscriptions, eventLoop: eventLoop, counters: shared.connection,
            logger: logger, client: self
        )
    }

    func start(for subscriber: RedisSubscriber) {
        self.subscriber = subscriber
        supervisor?.start()
    }

    func shutdown() -> EventLoopFuture<Void> {
        // None once it has finished.
        guard let supervisor else { return eventLoop.makeSucceededVoidFuture() }
        return supervisor.shutdown().assumeIsolated().map { self.supervisor = nil }.nonisolated()
    }

    func subscribe(_ channels: [String], promise: EventLoopPromise<Void>) {
        lastWaiter += 1
        let outcome = ledger.subscribe(channels, waiter: lastWaiter)
        shared.channels.set(ledger.wantedCount)
        switch outcome {
        case .confirmed: promise.succeed()
        case .waiting:
            promises[lastWaiter] = promise
            sayLater()
        case .disconnected: fail([promise], RedisError.unavailable)
        case .full: fail([promise], RedisError.queueFull)
        }
    }

    func unsubscribe(_ channels: [String]) {
        let cancelled = ledger.unsubscribe(channels)
        shared.channels.set(ledger.wantedCount)
        sayLater()
        fail(take(cancelled), .cancelled)
    }

    private func sayLater() {
        guard connection != nil, !sayingIsDue else { return }
        sayingIsDue = true
        eventLoop.assumeIsolated().execute {
            self.sayingIsDue = false
            self.say()
        }
    }

    private func say() {
        guard let connection else { return }
        for command in ledger.commands() {
            connection.write { buffer in
                buffer.writeArrayHeader(command.channels.count + 1)
                switch command.verb {
                case .subscribe: buffer.writeBulk("SUBSCRIBE")
                case .unsubscribe: buffer.writeBulk("UNSUBSCRIBE")
                }
                for channel in command.channels { buffer.writeBulk(channel) }
            }
        }
        announceIfRestored()
    }

    private func announceIfRestored() {
        guard probeChannelIsConfirmed, ledger.checkRestored() else { return }
        announceRestored()
    }

    private func announceRestored() {
        shared.isAvailable.store(true, ordering: .releasing)
        shared.resubscribes.add()
        logger.log(.info, "all Redis channels are subscribed", [.channels: String(ledger.wantedCount)])
        if let subscriber { delegate?.subscriberResubscribed(subscriber, channels: nil) }
    }

    private func take(_ waiters: [SubscriptionLedger.Waiter]) -> [EventLoopPromise<Void>] {
        waiters.map { waiter in
            guard let promise = promises.removeValue(forKey: waiter) else { preconditionFailure("the ledger named a waiter twice") }
            return promise
        }
    }

    private func fail(_ promises: [EventLoopPromise<Void>], _ error: RedisError) {
        shared.subscribesFailed.add(promises.count)
        for promise in promises { promise.fail(error) }
    }

    private func deliver() {
        guard !batch.isEmpty else { return }
        let messages = batch
        batch = []
        batch.reserveCapacity(messages.count)
        shared.messages.add(messages.count)
        shared.batches.add()
        if let subscriber { delegate?.subscriber(subscriber, received: messages) }
    }

    // MARK: The connection

    /// Always: the probes make the server speak.
    var awaitsReply: Bool { true }

    func up(_ connection: Connection) {
        self.connection = connection
        probeChannelIsConfirmed = false
        ledger.connected()
        connection.write(RedisCommand("SUBSCRIBE", .string(probeChannel)).encode)
        say()
    }

    func received(_ reply: ReplyView) throws(RedisError) {
        switch try reply.kind {
        case .array: try received(push: reply)
        // An answer to PING from before the server took the connection for a subscriber's.
        case .status where reply.equals("PONG"): break
        // SUBSCRIBE was refused (by an ACL), so its confirmations will never come.
        case .error: throw RedisError(code: .server, message: reply.text)
        case .status, .null, .integer, .bulk: throw .violation("an unexpected reply to a subscriber")
        }
    }

    private func received(push: ReplyView) throws(RedisError) {
        let kind = try push[0]
        if kind.equals("message") {
            let channel = try push[1], payload = try push[2]
            if channel.equals(probeChannelBytes) {
                received(probe: payload)
            } else {
                batch.append(RedisMessage(channel: channel, payload: payload))
            }
        } else if kind.equals("subscribe") {
            let channel = try push[1]
            if channel.equals(probeChannelBytes) {
                probeChannelIsConfirmed = true
                announceIfRestored()
            } else {
                try confirmed(.subscribe, channel)
            }
        } else if kind.equals("unsubscribe") {
            try confirmed(.unsubscribe, try push[1])
        } else if !kind.equals("pong") {
            throw .violation("an unexpected push to a subscriber")
        }
    }

    private func confirmed(_ verb: SubscriptionLedger.Verb, _ channel: ReplyView) throws(RedisError) {
        let confirmed = try ledger.confirmed(verb, channel.text)
        for promise in take(confirmed.waiters) { promise.succeed() }
        if confirmed.isRestored { announceRestored() }
        if ledger.hasCommands { sayLater() }
    }

    private func received(probe payload: ReplyView) {
        shared.probesReceived.add()
        // The payload is the time of sending, so a late one is measured rightly, too.
        guard let sent = UInt64(payload.text) else { return }
        let took = eventLoop.now.uptimeNanoseconds.subtractingReportingOverflow(sent)
        guard !took.overflow, let nanoseconds = Int64(exactly: took.partialValue), let subscriber else { return }
        delegate?.subscriber(subscriber, probeTook: nanoseconds)
    }

    func readComplete() {
        deliver()
    }

    func probe(_ connection: Connection) {
        guard publisher.isAvailable else {
            connection.write(RedisCommand("PING").encode)
            return
        }
        shared.probesSent.add()
        let shared = shared
        publisher.send(RedisCommand("PUBLISH", .string(probeChannel), .string(String(eventLoop.now.uptimeNanoseconds)))).whenFailure { _ in
            shared.probeFailures.add()
        }
    }

    func down(_ reason: RedisError) {
        connection = nil
        deliver()
        let wasAvailable = shared.isAvailable.exchange(false, ordering: .acquiringAndReleasing)
        fail(take(ledger.disconnected()), reason)
        if wasAvailable, let subscriber { delegate?.subscriberLost(subscriber) }
    }

    func finish(_ connection: Connection) {
        connection.end(.shutDown)
    }
}
