internal import Logging
internal import NIOCore

/// What the connections of a cluster's subscriber tell it, on the event loop.
protocol ShardConnectionOwner: AnyObject {
    func shardIsUp(_ shard: ShardConnection)
    func shardIsDown(_ shard: ShardConnection, _ reason: RedisError)
    func shard(_ shard: ShardConnection, confirmed channel: ChannelName)
    func shard(_ shard: ShardConnection, revoked channel: ChannelName)
    func shard(_ shard: ShardConnection, redirected redirection: Redirection)
    /// They are asked for again in time; nobody says where else they could be.
    func shard(_ shard: ShardConnection, refused channels: [ChannelName])
    func shard(_ shard: ShardConnection, received message: RedisMessage)
    func shard(_ shard: ShardConnection, probeTook nanoseconds: Int64)
    func shardReadComplete(_ shard: ShardConnection)
    /// Publishes a probe. Completes with false where it did not get to a server.
    func shard(_ shard: ShardConnection, publish channel: ChannelName, _ payload: String) -> EventLoopFuture<Bool>
}

/// One connection for subscriptions to one master of a cluster: performs what ``ShardLedger`` decides. Bound to its event loop.
final class ShardConnection: SupervisorClient {
    let address: RedisAddress
    private let eventLoop: any EventLoop
    private let prefix: String
    private weak var owner: (any ShardConnectionOwner)?
    private var supervisor: Supervisor?
    private var connection: Connection?
    private var ledger: ShardLedger
    private var probeChannel: (name: ChannelName, bytes: ByteBuffer, slot: HashSlot)?
    private var sayingIsDue = false
    private var retry: Scheduled<Void>?
    private var backoff: Backoff
    private var random = SystemRandomNumberGenerator()

    init(
        endpoint: RedisEndpoint, configuration: RedisSubscriberConfiguration, eventLoop: any EventLoop, counters: ConnectionCounters, logger: Logger,
        owner: any ShardConnectionOwner
    ) {
        address = endpoint.address
        self.eventLoop = eventLoop
        self.owner = owner
        prefix = configuration.probeChannelPrefix
        ledger = ShardLedger(channelsPerCommand: configuration.channelsPerCommand, maximumUnconfirmed: configuration.maximumUnconfirmed)
        backoff = Backoff(initial: configuration.connection.backoffInitial, maximum: configuration.connection.backoffMaximum)
        supervisor = Supervisor(
            source: FixedSource(endpoint, eventLoop: eventLoop), configuration: configuration.connection, purpose: .subscriptions, eventLoop: eventLoop,
            counters: counters, logger: logger, client: self
        )
    }

    func start() {
        supervisor?.start()
    }

    func shutdown() -> EventLoopFuture<Void> {
        guard let supervisor else { return eventLoop.makeSucceededVoidFuture() }
        return supervisor.shutdown().assumeIsolated().map { self.supervisor = nil }.nonisolated()
    }

    func carryOut(_ order: SubscriptionPlacement.Order) {
        if order.isWanted {
            ledger.want(order.channel, order.slot)
            // It was given up a moment ago, and the server has not been told yet.
            if ledger.isConfirmed(order.channel) { owner?.shard(self, confirmed: order.channel) }
        } else {
            ledger.unwant(order.channel)
        }
        sayLater()
    }

    /// Chooses a probe channel in a slot that this master serves, unless it has one.
    func mapChanged(_ map: SlotMap) {
        if let probeChannel {
            if map.owner(of: probeChannel.slot) == address { return }
            ledger.unwant(probeChannel.name)
            self.probeChannel = nil
        }
        sayLater()
        guard let slot = map.someSlot(of: address, using: &random) else { return }
        // 128 random bits: no two subscribers of a cluster hear each other's probes.
        let name = "\(prefix){\(slot.tag)}\(String(UInt64.random(in: .min ... .max), radix: 36))\(String(UInt64.random(in: .min ... .max), radix: 36))"
        // A prefix with a hash tag of its own decides the slot of all its names; then PING has to do.
        guard HashSlot(key: name) == slot else { return }
        probeChannel = (ChannelName(name), ByteBuffer(string: name), slot)
        ledger.want(ChannelName(name), slot)
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
                case .subscribe: buffer.writeBulk("SSUBSCRIBE")
                case .unsubscribe: buffer.writeBulk("SUNSUBSCRIBE")
                }
                for channel in command.channels { buffer.writeBulk(channel.string) }
            }
        }
    }

    // MARK: The connection

    /// Always: the probes make the server speak.
    var awaitsReply: Bool { true }

    func up(_ connection: Connection) {
        self.connection = connection
        ledger.connected()
        owner?.shardIsUp(self)
        say()
    }

    func received(_ reply: ReplyView) throws(RedisError) {
        switch try reply.kind {
        case .array: try received(push: reply)
        // An answer to PING while nothing is subscribed.
        case .status where reply.equals("PONG"): break
        case .error: try refused(RedisError(code: .server, message: reply.text))
        case .status, .null, .integer, .bulk: throw .violation("an unexpected reply to a subscriber")
        }
    }

    private func received(push: ReplyView) throws(RedisError) {
        let kind = try push[0]
        if kind.equals("smessage") {
            let channel = try push[1], payload = try push[2]
            if let probeChannel, channel.equals(probeChannel.bytes) {
                received(probe: payload)
            } else {
                owner?.shard(self, received: RedisMessage(channel: channel, payload: payload))
            }
        } else if kind.equals("ssubscribe") {
            backoff.reset()
            let name = ChannelName(try push[1].text)
            if try ledger.subscribed(name), name != probeChannel?.name { owner?.shard(self, confirmed: name) }
            if ledger.hasCommands { sayLater() }
        } else if kind.equals("sunsubscribe") {
            switch ledger.unsubscribed(ChannelName(try push[1].text)) {
            case .revoked(let name) where name != probeChannel?.name: owner?.shard(self, revoked: name)
            case .revoked, .answered, .redundant: break
            }
            if ledger.hasCommands { sayLater() }
        } else if !kind.equals("pong") {
            throw .violation("an unexpected push to a subscriber")
        }
    }

    private func refused(_ error: RedisError) throws(RedisError) {
        // An ACL's refusal, for one: nothing on this connection can be relied upon.
        guard let redirection = Redirection(error, from: address) else { throw error }
        switch redirection {
        case .moved(let slot, _): _ = try ledger.refused(slot: slot)
        case .ask, .tryAgain, .down: owner?.shard(self, refused: try ledger.refused(slot: nil))
        }
        owner?.shard(self, redirected: redirection)
        if ledger.hasCommands { sayLater() }
        // A new map takes away what belongs elsewhere; until then, and where there is none, it is asked for again here.
        guard ledger.hasRefused, retry == nil else { return }
        retry = eventLoop.assumeIsolated().scheduleTask(in: backoff.next(using: &random)) {
            self.retry = nil
            self.ledger.retryRefused()
            self.sayLater()
        }
    }

    private func received(probe payload: ReplyView) {
        // The payload is the time of sending, so a late one is measured rightly, too.
        guard let sent = UInt64(payload.text) else { return }
        let took = eventLoop.now.uptimeNanoseconds.subtractingReportingOverflow(sent)
        guard !took.overflow, let nanoseconds = Int64(exactly: took.partialValue) else { return }
        owner?.shard(self, probeTook: nanoseconds)
    }

    func readComplete() {
        owner?.shardReadComplete(self)
    }

    func probe(_ connection: Connection) {
        guard let owner, let probeChannel, ledger.isConfirmed(probeChannel.name) else {
            connection.write(RedisCommand("PING").encode)
            return
        }
        owner.shard(self, publish: probeChannel.name, String(eventLoop.now.uptimeNanoseconds)).assumeIsolated().whenSuccess { wasSent in
            // The publisher has no connection to this master: then the server's own answer has to do.
            if !wasSent { self.connection?.write(RedisCommand("PING").encode) }
        }
    }

    func attemptFailed(_ reason: RedisError) {
        owner?.shardIsDown(self, reason)
    }

    func down(_ reason: RedisError) {
        connection = nil
        retry?.cancel()
        retry = nil
        ledger.disconnected()
        owner?.shardIsDown(self, reason)
    }

    func finish(_ connection: Connection) {
        connection.end(.shutDown)
    }
}
