import SeededRandom

@testable import RedisClient

/// Three masters whose slots move about, connections that come and go, maps that are late, and a subscriber in the midst of it: the state
/// machines of the module, joined as the module joins them, without sockets. The world knows what the subscriber's user believes and what
/// that user has missed.
struct ClusterWorld {
    enum Reply {
        case subscribed(ChannelName)
        case unsubscribed(ChannelName)
        case moved(HashSlot, RedisAddress)
        case down
    }

    /// A connection, as the server has it.
    struct Session {
        var held: Set<ChannelName> = []
        var asked: [ShardLedger.Command] = []
        var replies: [Reply] = []
    }

    static let places = (1...3).map { RedisAddress(host: "h", port: $0) }
    static let names = ["{one}a", "{one}b", "{two}a", "{three}a", "{three}b", "{four}a"]
    static let slots = Set(names.map { HashSlot(key: $0) }).sorted { $0.number < $1.number }

    var random: SeededGenerator
    var map: SlotMap
    /// Maps of the past, which a node may still have.
    var oldMaps: [SlotMap] = []
    var hints: [(HashSlot, RedisAddress)] = []
    var sessions: [RedisAddress: Session] = [:]
    /// Nodes that say CLUSTERDOWN now and then.
    var isUncertain = true

    var placement = SubscriptionPlacement(maximumChannels: 100)
    var ledgers: [RedisAddress: ShardLedger]
    var known = SlotMap()

    var nextWaiter: UInt64 = 0
    var waiting: [UInt64: Set<ChannelName>] = [:]
    var wanted: Set<ChannelName> = []
    /// Channels whose messages the user takes for complete, as far as nobody says otherwise.
    var believed: Set<ChannelName> = []
    /// Those of them of which something did not arrive.
    var missed: Set<ChannelName> = []
    var faults: [String] = []

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
        var map = SlotMap()
        for number in 0..<HashSlot.count { map.assign(HashSlot(number)!, to: Self.places[number % 3]) }
        self.map = map
        oldMaps = [map]
        ledgers = Dictionary(uniqueKeysWithValues: Self.places.map { ($0, ShardLedger(channelsPerCommand: 2, maximumUnconfirmed: 3)) })
    }

    mutating func take() {
        let place = Self.places[random.below(3)]
        switch random.below(16) {
        case 0, 1: subscribe((0...random.below(2)).map { _ in Self.names[random.below(Self.names.count)] })
        case 2: unsubscribe([Self.names[random.below(Self.names.count)]])
        case 3: move(Self.slots[random.below(Self.slots.count)], to: place)
        case 4: learn(random.below(3) == 0 ? oldMaps[random.below(oldMaps.count)] : map)
        case 5: hint()
        case 6: retry(place)
        case 7: if random.below(4) == 0 { disconnect(place) } else { connect(place) }
        case 8: tell()
        case 9, 10: say(place)
        case 11, 12: serve(place)
        default: hear(place)
        }
        look()
    }

    /// The network mends, the map is known, and all that is on its way arrives.
    mutating func settle() {
        hints = []
        isUncertain = false
        for place in Self.places { connect(place) }
        learn(map)
        var rounds = 0
        while rounds < 200, rounds == 0 || isBusy {
            rounds += 1
            for place in Self.places {
                retry(place)
                say(place)
                while sessions[place]?.asked.isEmpty == false { serve(place) }
                while sessions[place]?.replies.isEmpty == false { hear(place) }
                if sessions[place] == nil { connect(place) }
            }
            look()
        }
        tell()
        look()
    }

    private var isBusy: Bool {
        sessions.count < 3 || sessions.values.contains { !$0.asked.isEmpty || !$0.replies.isEmpty }
            || ledgers.values.contains { $0.hasCommands || $0.hasRefused }
    }

    // MARK: The user

    mutating func subscribe(_ names: [String]) {
        nextWaiter += 1
        let channels = Set(names.map { ChannelName($0) })
        wanted.formUnion(channels)
        let (outcome, orders) = placement.subscribe(names, waiter: nextWaiter)
        if outcome == .waiting { waiting[nextWaiter] = channels }
        if outcome == .confirmed { believe(channels) }
        carryOut(orders)
        if outcome == .disconnected { failed(channels) }
    }

    mutating func unsubscribe(_ names: [String]) {
        let channels = Set(names.map { ChannelName($0) })
        wanted.subtract(channels)
        let (cancelled, orders) = placement.unsubscribe(names)
        for waiter in cancelled { failed(waiting.removeValue(forKey: waiter) ?? []) }
        carryOut(orders)
        believed.formIntersection(wanted)
        missed.formIntersection(wanted)
    }

    private mutating func believe(_ channels: Set<ChannelName>) {
        for channel in channels.intersection(wanted) {
            believed.insert(channel)
            // Nothing that was published before is of interest to who has just subscribed; who did so earlier waits to be told.
            let isHeld = sessions.values.contains { $0.held.contains(channel) }
            let isLeaving = sessions.values.contains { $0.replies.contains { if case .unsubscribed(channel) = $0 { true } else { false } } }
            if !isHeld, !isLeaving { faults.append("\(channel.string) was promised and is subscribed nowhere") }
        }
    }

    /// It goes on without waiting, and so misses what is published until there is a subscription.
    private mutating func failed(_ channels: Set<ChannelName>) {
        believed.formUnion(channels.intersection(wanted))
        look()
    }

    private mutating func tell() {
        let told = placement.takeToTell()
        if told.isAll, Set(told.channels.map { ChannelName($0) }) != wanted { faults.append("not all of them are told of") }
        for channel in told.channels { missed.remove(ChannelName(channel)) }
    }

    /// What is published now arrives only where the owner has the subscription.
    private mutating func look() {
        for channel in believed where sessions[owner(HashSlot(key: channel.string))]?.held.contains(channel) != true { missed.insert(channel) }
    }

    // MARK: The module

    private mutating func carryOut(_ orders: [SubscriptionPlacement.Order]) {
        for order in orders {
            if order.isWanted {
                ledgers[order.master]?.want(order.channel, order.slot)
                if ledgers[order.master]?.isConfirmed(order.channel) == true { confirmed(order.channel, order.master) }
            } else {
                ledgers[order.master]?.unwant(order.channel)
            }
        }
    }

    private mutating func confirmed(_ channel: ChannelName, _ place: RedisAddress) {
        for waiter in placement.confirmed(channel, by: place) { believe(waiting.removeValue(forKey: waiter) ?? []) }
    }

    private mutating func learn(_ map: SlotMap) {
        known = map
        let (inVain, orders) = placement.mapChanged(map)
        carryOut(orders)
        for waiter in inVain { failed(waiting.removeValue(forKey: waiter) ?? []) }
    }

    private mutating func hint() {
        guard !hints.isEmpty else { return }
        let (slot, place) = hints.removeFirst()
        var map = known
        map.assign(slot, to: place)
        learn(map)
    }

    private mutating func retry(_ place: RedisAddress) {
        ledgers[place]?.retryRefused()
    }

    private mutating func say(_ place: RedisAddress) {
        guard sessions[place] != nil, let commands = ledgers[place]?.commands() else { return }
        for command in commands where command.channels.isEmpty || command.channels.contains(where: { HashSlot(key: $0.string) != command.slot }) {
            faults.append("a command over two slots")
        }
        sessions[place]?.asked += commands
    }

    private mutating func hear(_ place: RedisAddress) {
        guard let session = sessions[place], let reply = session.replies.first else { return }
        sessions[place]?.replies.removeFirst()
        do {
            switch reply {
            case .subscribed(let channel):
                if try ledgers[place]?.subscribed(channel) == true { confirmed(channel, place) }
            case .unsubscribed(let channel):
                if case .revoked(let channel) = ledgers[place]?.unsubscribed(channel) { placement.revoked(channel, by: place) }
            case .moved(let slot, let elsewhere):
                _ = try ledgers[place]?.refused(slot: slot)
                hints.append((slot, elsewhere))
            case .down:
                let names = try ledgers[place]?.refused(slot: nil) ?? []
                for waiter in placement.refused(names, by: place) { failed(waiting.removeValue(forKey: waiter) ?? []) }
            }
        } catch {
            // Once in some thousand worlds: a refusal was taken for another command's. A new connection sets it right.
            disconnect(place)
        }
    }

    private mutating func connect(_ place: RedisAddress) {
        guard sessions[place] == nil else { return }
        sessions[place] = Session()
        ledgers[place]?.connected()
        placement.connected(place)
    }

    private mutating func disconnect(_ place: RedisAddress) {
        guard sessions.removeValue(forKey: place) != nil else { return }
        ledgers[place]?.disconnected()
        for waiter in placement.disconnected(place) { failed(waiting.removeValue(forKey: waiter) ?? []) }
    }

    // MARK: The servers

    private func owner(_ slot: HashSlot) -> RedisAddress { map.owner(of: slot)! }

    private mutating func move(_ slot: HashSlot, to place: RedisAddress) {
        let from = owner(slot)
        guard from != place else { return }
        let leaving = (sessions[from]?.held ?? []).filter { HashSlot(key: $0.string) == slot }
        for channel in leaving {
            sessions[from]?.held.remove(channel)
            sessions[from]?.replies.append(.unsubscribed(channel))
        }
        map.assign(slot, to: place)
        oldMaps = Array((oldMaps + [map]).suffix(4))
    }

    private mutating func serve(_ place: RedisAddress) {
        guard let command = sessions[place]?.asked.first else { return }
        sessions[place]?.asked.removeFirst()
        if isUncertain, random.below(12) == 0 {
            sessions[place]?.replies.append(.down)
            return
        }
        guard owner(command.slot) == place else {
            let there = owner(command.slot)
            sessions[place]?.replies.append(.moved(command.slot, there))
            return
        }
        for channel in command.channels {
            switch command.verb {
            case .subscribe:
                sessions[place]?.held.insert(channel)
                sessions[place]?.replies.append(.subscribed(channel))
            case .unsubscribe:
                sessions[place]?.held.remove(channel)
                sessions[place]?.replies.append(.unsubscribed(channel))
            }
        }
    }
}
