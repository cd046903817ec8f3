internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import Synchronization

/// The part of a cluster's ``RedisSubscriber`` that lives on the event loop: a connection to each master for its channels. Performs what
/// ``SubscriptionPlacement`` decides; the map of slots is the publisher's.
final class ClusterSubscriberCore: SubscriberCoreProtocol, ShardConnectionOwner {
    /// How long what was missed is gathered before it is told, so that slots that move one after the other are told of together.
    private static let gathering = TimeAmount.milliseconds(20)

    private let shared: SubscriberShared
    private let access: RedisEndpoint
    private let configuration: RedisSubscriberConfiguration
    private let eventLoop: any EventLoop
    private let publisher: RedisClient
    private let logger: Logger
    private weak var delegate: (any RedisSubscriberDelegate)?
    private weak var subscriber: RedisSubscriber?
    private var placement: SubscriptionPlacement
    private var shards: [RedisAddress: ShardConnection] = [:]
    private var promises: [SubscriptionLedger.Waiter: EventLoopPromise<Void>] = [:]
    private var lastWaiter: SubscriptionLedger.Waiter = 0
    private var batch: [RedisMessage] = []
    private var telling: Scheduled<Void>?
    private var isStarted = false
    private var isFinishing = false
    private var wasWhole = false
    /// Nobody has been told yet that anything is subscribed.
    private var isFirst = true

    init(
        _ cluster: RedisClusterDeployment, configuration: RedisSubscriberConfiguration, eventLoop: any EventLoop, publisher: RedisClient,
        shared: SubscriberShared, logger: Logger, delegate: any RedisSubscriberDelegate
    ) {
        guard let first = cluster.seeds.first else { preconditionFailure("a cluster without a node") }
        access = first
        self.configuration = configuration
        self.eventLoop = eventLoop
        self.publisher = publisher
        self.shared = shared
        self.logger = logger
        self.delegate = delegate
        placement = SubscriptionPlacement(maximumChannels: configuration.maximumChannels)
    }

    func start(for subscriber: RedisSubscriber) {
        guard !isStarted, !isFinishing else { return }
        isStarted = true
        self.subscriber = subscriber
        let bound = NIOLoopBound(WeakCore(core: self), eventLoop: eventLoop)
        publisher.observeSlots { [eventLoop] map in eventLoop.execute { bound.value.core?.mapChanged(map) } }
    }

    func shutdown() -> EventLoopFuture<Void> {
        isFinishing = true
        shared.isAvailable.store(false, ordering: .releasing)
        let waiters = promises.keys.sorted()
        fail(take(waiters), .shutDown)
        telling?.cancel()
        telling = nil
        let wasWhole = wasWhole
        self.wasWhole = false
        if wasWhole, let subscriber { delegate?.subscriberLost(subscriber) }
        return EventLoopFuture.andAllComplete(shards.values.map { $0.shutdown() }, on: eventLoop).assumeIsolated().map { self.shards = [:] }.nonisolated()
    }

    func subscribe(_ channels: [String], promise: EventLoopPromise<Void>) {
        guard !isFinishing else { return fail([promise], .unavailable) }
        lastWaiter += 1
        let (outcome, orders) = placement.subscribe(channels, waiter: lastWaiter)
        if outcome == .waiting { promises[lastWaiter] = promise }
        carryOut(orders)
        switch outcome {
        case .confirmed: promise.succeed()
        case .waiting: break
        case .disconnected: fail([promise], .unavailable)
        case .full: fail([promise], .queueFull)
        }
    }

    func unsubscribe(_ channels: [String]) {
        let (cancelled, orders) = placement.unsubscribe(channels)
        carryOut(orders)
        fail(take(cancelled), .cancelled)
    }

    private func carryOut(_ orders: [SubscriptionPlacement.Order]) {
        for order in orders { shards[order.master]?.carryOut(order) }
        shared.channels.set(placement.wantedCount)
        check()
    }

    private func mapChanged(_ map: SlotMap) {
        guard !isFinishing else { return }
        let masters = map.masters
        for address in masters where shards[address] == nil {
            let shard = ShardConnection(
                endpoint: access.at(address), configuration: configuration, eventLoop: eventLoop, counters: ConnectionCounters(partOf: shared.connection),
                logger: logger, owner: self
            )
            shards[address] = shard
            shard.start()
        }
        let (inVain, orders) = placement.mapChanged(map)
        carryOut(orders)
        fail(take(inVain), .unavailable)
        for (address, shard) in shards {
            if masters.contains(address) {
                shard.mapChanged(map)
            } else {
                shards[address] = nil
                _ = placement.disconnected(address)
                shard.shutdown().assumeIsolated().whenComplete { _ in _ = shard }
            }
        }
        check()
    }

    /// Says what has changed for all of it.
    private func check() {
        guard !isFinishing else { return }
        let isWhole = placement.isWhole
        if isWhole != wasWhole {
            wasWhole = isWhole
            shared.isAvailable.store(isWhole, ordering: .releasing)
            if isWhole {
                shared.connection.reason.withLockedValue { $0 = nil }
                tellLater()
            } else if let subscriber {
                delegate?.subscriberLost(subscriber)
            }
        }
        if placement.isTelling { tellLater() }
    }

    private func tellLater() {
        guard telling == nil else { return }
        telling = eventLoop.assumeIsolated().scheduleTask(in: Self.gathering) {
            self.telling = nil
            self.tell()
        }
    }

    private func tell() {
        let told = placement.takeToTell()
        guard !told.channels.isEmpty || placement.isWhole else { return }
        let isAll = told.isAll || (isFirst && told.channels.isEmpty)
        isFirst = false
        shared.resubscribes.add()
        logger.log(.info, "Redis channels are subscribed", [.channels: String(isAll ? placement.wantedCount : told.channels.count)])
        if let subscriber { delegate?.subscriberResubscribed(subscriber, channels: isAll ? nil : told.channels) }
    }

    private func take(_ waiters: [SubscriptionLedger.Waiter]) -> [EventLoopPromise<Void>] {
        waiters.compactMap { promises.removeValue(forKey: $0) }
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

    // MARK: The connections

    /// One that was given up may still speak.
    private func isCurrent(_ shard: ShardConnection) -> Bool { !isFinishing && shards[shard.address] === shard }

    func shardIsUp(_ shard: ShardConnection) {
        guard isCurrent(shard) else { return }
        placement.connected(shard.address)
        check()
    }

    func shardIsDown(_ shard: ShardConnection, _ reason: RedisError) {
        deliver()
        guard isCurrent(shard) else { return }
        shared.connection.reason.withLockedValue { $0 = reason }
        fail(take(placement.disconnected(shard.address)), reason)
        publisher.refreshSlots()
        check()
    }

    func shard(_ shard: ShardConnection, confirmed channel: ChannelName) {
        guard isCurrent(shard) else { return }
        for promise in take(placement.confirmed(channel, by: shard.address)) { promise.succeed() }
        check()
    }

    func shard(_ shard: ShardConnection, revoked channel: ChannelName) {
        guard isCurrent(shard) else { return }
        placement.revoked(channel, by: shard.address)
        check()
    }

    func shard(_ shard: ShardConnection, redirected redirection: Redirection) {
        guard isCurrent(shard) else { return }
        if case .moved(let slot, let address) = redirection { publisher.slotMoved(slot, to: address) } else { publisher.refreshSlots() }
    }

    func shard(_ shard: ShardConnection, refused channels: [ChannelName]) {
        guard isCurrent(shard) else { return }
        fail(take(placement.refused(channels, by: shard.address)), .unavailable)
        check()
    }

    func shard(_ shard: ShardConnection, received message: RedisMessage) {
        batch.append(message)
    }

    func shard(_ shard: ShardConnection, probeTook nanoseconds: Int64) {
        shared.probesReceived.add()
        if let subscriber { delegate?.subscriber(subscriber, probeTook: nanoseconds) }
    }

    func shardReadComplete(_ shard: ShardConnection) {
        deliver()
    }

    func shard(_ shard: ShardConnection, publish channel: ChannelName, _ payload: String) -> EventLoopFuture<Bool> {
        shared.probesSent.add()
        return publisher.send(RedisCommand("PUBLISH", .string(channel.string), .string(payload))).map { _ in true }.flatMapErrorThrowing { [shared] _ in
            shared.probeFailures.add()
            return false
        }.hop(to: eventLoop)
    }
}

/// So that the publisher's map does not keep a subscriber alive.
private struct WeakCore {
    weak var core: ClusterSubscriberCore?
}
