/// Which channels a subscriber of a cluster wants, on which master each of them belongs, who waits for them, and what was missed on the way. No I/O.
///
/// A channel must be told of when messages on it may have been missed by somebody who does not know: its confirmed subscription was lost
/// (with a connection, or as its slot moved), or a `subscribe` that asked for it failed while the channel stayed wanted.
struct SubscriptionPlacement: Sendable {
    typealias Waiter = SubscriptionLedger.Waiter

    /// What to tell a master's ``ShardLedger``.
    struct Order: Sendable, Equatable {
        let isWanted: Bool
        let channel: ChannelName
        let slot: HashSlot
        let master: RedisAddress
    }

    struct Told: Sendable, Equatable {
        var channels: [String]
        /// These are all that are wanted.
        var isAll: Bool
    }

    private struct Entry {
        let slot: HashSlot
        var isConfirmed = false
        var mustTell = false
        var waiters: [Waiter] = []
    }

    private let maximumChannels: Int
    private var entries: [ChannelName: Entry] = [:]
    private var bySlot: [HashSlot: Set<ChannelName>] = [:]
    /// What each waiter still waits for.
    private var waiting: [Waiter: Set<ChannelName>] = [:]
    private var toTell: Set<ChannelName> = []
    private var connected: Set<RedisAddress> = []
    private var map = SlotMap()
    /// Of the map, which takes a while to look through.
    private var masters: Set<RedisAddress> = []
    private var isMapComplete = false
    /// Channels whose loss is not made good yet.
    private(set) var missing = 0

    init(maximumChannels: Int) {
        self.maximumChannels = maximumChannels
    }

    var wantedCount: Int { entries.count }
    var isTelling: Bool { !toTell.isEmpty }

    /// Whether messages of all slots arrive.
    var isWhole: Bool { missing == 0 && isMapComplete && masters.isSubset(of: connected) }

    mutating func subscribe(_ names: [String], waiter: Waiter) -> (SubscriptionLedger.Subscribed, [Order]) {
        precondition(waiting[waiter] == nil, "a waiter's number is used once")
        let names = Set(names.map { ChannelName($0) })
        guard entries.count + names.count(where: { entries[$0] == nil }) <= maximumChannels else { return (.full, []) }
        var orders: [Order] = []
        var open: Set<ChannelName> = []
        var isServed = true
        for name in names {
            var entry: Entry
            if let known = entries[name] {
                entry = known
            } else {
                entry = Entry(slot: HashSlot(key: name.string))
                bySlot[entry.slot, default: []].insert(name)
                if let master = map.owner(of: entry.slot) { orders.append(Order(isWanted: true, channel: name, slot: entry.slot, master: master)) }
            }
            if !entry.isConfirmed {
                open.insert(name)
                entry.waiters.append(waiter)
                if map.owner(of: entry.slot).map({ connected.contains($0) }) != true { isServed = false }
            }
            entries[name] = entry
        }
        guard !open.isEmpty else { return (.confirmed, orders) }
        waiting[waiter] = open
        // It minds the others, too: they may be lost before it is done.
        for name in names.subtracting(open) {
            entries[name]?.waiters.removeAll { waiting[$0] == nil }
            entries[name]?.waiters.append(waiter)
        }
        if isServed { return (.waiting, orders) }
        fail(waiter)
        return (.disconnected, orders)
    }

    /// Returns the waiters that now wait in vain.
    mutating func unsubscribe(_ names: [String]) -> ([Waiter], [Order]) {
        var orders: [Order] = []
        var cancelled: [Waiter] = []
        for name in names {
            let name = ChannelName(name)
            guard let entry = entries.removeValue(forKey: name) else { continue }
            bySlot[entry.slot]?.remove(name)
            if bySlot[entry.slot]?.isEmpty == true { bySlot[entry.slot] = nil }
            toTell.remove(name)
            if entry.mustTell, !entry.isConfirmed { missing -= 1 }
            if let master = map.owner(of: entry.slot) { orders.append(Order(isWanted: false, channel: name, slot: entry.slot, master: master)) }
            for waiter in entry.waiters where waiting[waiter] != nil {
                cancelled.append(waiter)
                // It gets no answer for its other channels either.
                fail(waiter)
            }
        }
        return (cancelled, orders)
    }

    /// Channels of slots that have another master now move there. Returns the waiters that wait in vain, for a slot that nobody serves.
    mutating func mapChanged(_ new: SlotMap) -> ([Waiter], [Order]) {
        let old = map
        map = new
        masters = new.masters
        isMapComplete = new.isComplete
        var orders: [Order] = []
        var unserved: Set<ChannelName> = []
        for (slot, names) in bySlot {
            let (from, to) = (old.owner(of: slot), new.owner(of: slot))
            guard from != to else { continue }
            if to == nil { unserved.formUnion(names) }
            for name in names {
                lost(name)
                if let from { orders.append(Order(isWanted: false, channel: name, slot: slot, master: from)) }
                if let to { orders.append(Order(isWanted: true, channel: name, slot: slot, master: to)) }
            }
        }
        return (fail(waiters { unserved.contains($0) }), orders)
    }

    mutating func connected(_ master: RedisAddress) {
        connected.insert(master)
    }

    /// The connection to that master is gone, or could not be made. Returns the waiters whose confirmation will not come.
    mutating func disconnected(_ master: RedisAddress) -> [Waiter] {
        if connected.remove(master) != nil {
            for (slot, names) in bySlot where map.owner(of: slot) == master {
                for name in names { lost(name) }
            }
        }
        return fail(waiters { name in entries[name].map { map.owner(of: $0.slot) == master } == true })
    }

    /// That master does not serve them at the moment, and is asked again in time. Returns the waiters whose confirmation may be long in coming.
    mutating func refused(_ names: [ChannelName], by master: RedisAddress) -> [Waiter] {
        let concerned = Set(names.filter { name in entries[name].map { map.owner(of: $0.slot) == master } == true })
        return fail(waiters { concerned.contains($0) })
    }

    /// Returns the waiters whose channels are now all confirmed.
    mutating func confirmed(_ name: ChannelName, by master: RedisAddress) -> [Waiter] {
        // From a master that has lost it since: the new one's word counts.
        guard var entry = entries[name], map.owner(of: entry.slot) == master, !entry.isConfirmed else { return [] }
        entry.isConfirmed = true
        if entry.mustTell {
            entry.mustTell = false
            missing -= 1
            toTell.insert(name)
        }
        var done: [Waiter] = []
        for waiter in entry.waiters {
            guard waiting[waiter]?.remove(name) != nil, waiting[waiter]?.isEmpty == true else { continue }
            waiting[waiter] = nil
            done.append(waiter)
        }
        // Those that wait for other channels still mind this one: it may be lost again before they are done.
        entry.waiters.removeAll { waiting[$0] == nil }
        entries[name] = entry
        return done
    }

    /// That master ended the subscription by itself.
    mutating func revoked(_ name: ChannelName, by master: RedisAddress) {
        guard let entry = entries[name], map.owner(of: entry.slot) == master else { return }
        lost(name)
    }

    /// What was missed and is confirmed again, said once.
    mutating func takeToTell() -> Told {
        let told = Told(channels: toTell.map(\.string), isAll: !toTell.isEmpty && toTell.count == entries.count)
        toTell = []
        return told
    }

    private mutating func lost(_ name: ChannelName) {
        guard var entry = entries[name], entry.isConfirmed else { return }
        entry.isConfirmed = false
        entry.waiters.removeAll { waiting[$0] == nil }
        for waiter in entry.waiters { waiting[waiter]?.insert(name) }
        entries[name] = entry
        markMissing(name)
    }

    /// Those who wait for such a channel.
    private func waiters(for isConcerned: (ChannelName) -> Bool) -> [Waiter] {
        waiting.filter { $0.value.contains(where: isConcerned) }.keys.sorted()
    }

    private mutating func fail(_ waiters: [Waiter]) -> [Waiter] {
        for waiter in waiters { fail(waiter) }
        return waiters
    }

    /// The channels that it waited for stay wanted, and whoever asked believes in none of them.
    private mutating func fail(_ waiter: Waiter) {
        guard let open = waiting.removeValue(forKey: waiter) else { return }
        for name in open {
            entries[name]?.waiters.removeAll { $0 == waiter }
            markMissing(name)
        }
    }

    private mutating func markMissing(_ name: ChannelName) {
        guard let entry = entries[name], !entry.mustTell else { return }
        entries[name]?.mustTell = true
        missing += 1
    }
}
