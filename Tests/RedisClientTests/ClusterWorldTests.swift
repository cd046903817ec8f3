import NIOCore
import SeededRandom
import Testing

@testable import RedisClient

@Suite("Sharded subscriptions while slots move")
struct ClusterWorldTests {
    @Test("whatever happens, every channel ends up with its owner, nobody waits for ever, and who missed something is told", arguments: 0..<8)
    func worlds(part: Int) {
        for seed in UInt64(part) * 150..<UInt64(part + 1) * 150 {
            var world = ClusterWorld(seed: seed)
            // Most of them begin as a subscriber does.
            let steps = 20 + world.random.below(120)
            for _ in 0..<steps { world.take() }
            world.settle()
            var faults = world.faults
            for name in ClusterWorld.names.map({ ChannelName($0) }) {
                let owner = world.map.owner(of: HashSlot(key: name.string))
                for (place, session) in world.sessions where session.held.contains(name) != (world.wanted.contains(name) && place == owner) {
                    faults.append("\(name.string) is wrong on \(place)")
                }
            }
            if !world.waiting.isEmpty { faults.append("somebody waits for ever") }
            if !world.missed.isEmpty { faults.append("nobody was told of \(world.missed.map(\.string).sorted())") }
            if !world.placement.isWhole { faults.append("it does not know that it is whole") }
            if world.placement.wantedCount != world.wanted.count { faults.append("it wants something else") }
            if !faults.isEmpty {
                Issue.record("seed \(seed): \(faults)")
                return
            }
        }
    }
}

@Suite("Sharded subscriptions of one master")
struct ShardLedgerTests {
    private static let slot = HashSlot(key: "x")

    private static func ledger(_ names: String...) -> ShardLedger {
        var ledger = ShardLedger(channelsPerCommand: 10, maximumUnconfirmed: 100)
        for name in names { ledger.want(ChannelName(name), HashSlot(key: name)) }
        ledger.connected()
        return ledger
    }

    private static func command(_ verb: ShardLedger.Verb, _ names: String...) -> ShardLedger.Command {
        ShardLedger.Command(verb: verb, slot: HashSlot(key: names[0]), channels: names.map { ChannelName($0) })
    }

    @Test("a command names channels of one slot, and at most so many")
    func grouping() {
        var ledger = ShardLedger(channelsPerCommand: 2, maximumUnconfirmed: 4)
        for name in ["{x}1", "y", "{x}2", "{x}3", "{x}4"] { ledger.want(ChannelName(name), HashSlot(key: name)) }
        #expect(ledger.commands() == [])
        ledger.connected()
        let commands = ledger.commands()
        #expect(commands.flatMap(\.channels).count == 4 && ledger.hasCommands == false)
        #expect(commands.allSatisfy { command in command.channels.count <= 2 && command.channels.allSatisfy { HashSlot(key: $0.string) == command.slot } })
    }

    @Test("what the server ends by itself is asked for again; the refusal that follows is of that")
    func revoked() throws {
        var ledger = Self.ledger("x")
        #expect(ledger.commands() == [Self.command(.subscribe, "x")])
        #expect(try ledger.subscribed(ChannelName("x")))
        #expect(ledger.unsubscribed(ChannelName("x")) == .revoked(ChannelName("x")))
        #expect(ledger.commands() == [Self.command(.subscribe, "x")])
        #expect(try ledger.refused(slot: Self.slot) == [ChannelName("x")])
        #expect(ledger.commands() == [])
        #expect(ledger.hasRefused)
        ledger.retryRefused()
        #expect(ledger.commands() == [Self.command(.subscribe, "x")])
        #expect(try ledger.subscribed(ChannelName("x")))
        #expect(ledger.isConfirmed(ChannelName("x")))
    }

    @Test("the end of a subscription that comes unasked while it is being ended counts as the answer, and the refusal of the rest as nothing")
    func crossing() throws {
        var ledger = Self.ledger("x")
        _ = ledger.commands()
        _ = try ledger.subscribed(ChannelName("x"))
        ledger.unwant(ChannelName("x"))
        #expect(ledger.commands() == [Self.command(.unsubscribe, "x")])
        #expect(ledger.unsubscribed(ChannelName("x")) == .answered)
        ledger.want(ChannelName("y"), HashSlot(key: "y"))
        #expect(ledger.commands() == [Self.command(.subscribe, "y")])
        // Of SUNSUBSCRIBE x, which the server came to after it had ended it.
        #expect(try ledger.refused(slot: Self.slot) == [])
        #expect(try ledger.subscribed(ChannelName("y")))
    }

    @Test("what is wanted again before it was said to be unwanted is still confirmed")
    func again() throws {
        var ledger = Self.ledger("x")
        _ = ledger.commands()
        _ = try ledger.subscribed(ChannelName("x"))
        ledger.unwant(ChannelName("x"))
        #expect(!ledger.isConfirmed(ChannelName("x")))
        ledger.want(ChannelName("x"), Self.slot)
        #expect(ledger.isConfirmed(ChannelName("x")))
        #expect(ledger.commands() == [])
    }

    @Test("answers and refusals that nobody asked for are protocol violations")
    func violations() {
        var ledger = Self.ledger("x")
        #expect(throws: RedisError.self) { try ledger.subscribed(ChannelName("x")) }
        #expect(throws: RedisError.self) { try ledger.refused(slot: nil) }
        #expect(ledger.unsubscribed(ChannelName("never")) == .redundant)
    }
}

@Suite("Where a cluster's subscriptions belong")
struct SubscriptionPlacementTests {
    private static let place = RedisAddress(host: "h", port: 1)

    private static func whole() -> SlotMap {
        var map = SlotMap()
        for number in 0..<HashSlot.count { map.assign(HashSlot(number)!, to: place) }
        return map
    }

    @Test("without a map, or a connection, a subscription fails at once and is remembered")
    func disconnected() {
        var placement = SubscriptionPlacement(maximumChannels: 10)
        let answer1 = placement.subscribe(["a"], waiter: 1)
        #expect(answer1.0 == .disconnected)
        let answer6 = placement.mapChanged(Self.whole())
        #expect(answer6.1.map(\.channel) == [ChannelName("a")])
        let (outcome, orders) = placement.subscribe(["b"], waiter: 2)
        #expect(outcome == .disconnected && orders.map(\.channel) == [ChannelName("b")])
        placement.connected(Self.place)
        #expect(!placement.isWhole)
        for name in ["a", "b"] { #expect(placement.confirmed(ChannelName(name), by: Self.place) == []) }
        #expect(placement.isWhole)
        let told = placement.takeToTell()
        #expect(told.isAll && told.channels.sorted() == ["a", "b"])
        #expect(!placement.isTelling)
    }

    @Test("who waited for its confirmation has nothing to be told of")
    func waited() {
        var placement = SubscriptionPlacement(maximumChannels: 10)
        _ = placement.mapChanged(Self.whole())
        placement.connected(Self.place)
        let answer2 = placement.subscribe(["a", "b"], waiter: 1)
        #expect(answer2.0 == .waiting)
        #expect(placement.isWhole)
        #expect(placement.confirmed(ChannelName("a"), by: Self.place) == [])
        #expect(placement.confirmed(ChannelName("b"), by: Self.place) == [1])
        let answer3 = placement.subscribe(["b", "a"], waiter: 2)
        #expect(answer3.0 == .confirmed)
        #expect(!placement.isTelling)
    }

    @Test("beyond the bound nothing is remembered")
    func bound() {
        var placement = SubscriptionPlacement(maximumChannels: 2)
        _ = placement.subscribe(["a"], waiter: 1)
        let answer4 = placement.subscribe(["b", "c"], waiter: 2)
        #expect(answer4.0 == .full)
        let answer5 = placement.subscribe(["a", "b", "b"], waiter: 3)
        #expect(answer5.0 == .disconnected)
        #expect(placement.wantedCount == 2)
    }

    @Test("a confirmation by a master that has lost the slot since does not count")
    func late() {
        var placement = SubscriptionPlacement(maximumChannels: 2)
        _ = placement.mapChanged(Self.whole())
        placement.connected(Self.place)
        _ = placement.subscribe(["a"], waiter: 1)
        var map = Self.whole()
        let other = RedisAddress(host: "h", port: 2)
        map.assign(HashSlot(key: "a"), to: other)
        let answer7 = placement.mapChanged(map)
        #expect(answer7.1.map(\.master) == [Self.place, other])
        #expect(placement.confirmed(ChannelName("a"), by: Self.place) == [])
        #expect(placement.confirmed(ChannelName("a"), by: other) == [1])
    }

    @Test("who waits for a channel that its master refuses, or that nobody serves any more, waits in vain, and the channel is told of in time")
    func inVain() throws {
        for isRefused in [true, false] {
            var placement = SubscriptionPlacement(maximumChannels: 10)
            _ = placement.mapChanged(Self.whole())
            placement.connected(Self.place)
            _ = placement.subscribe(["a", "b"], waiter: 1)
            _ = placement.subscribe(["b"], waiter: 2)
            // Minds `b`, should that be lost before it is done.
            _ = placement.confirmed(ChannelName("b"), by: Self.place)
            _ = placement.subscribe(["b", "c"], waiter: 3)
            let failed: [SubscriptionLedger.Waiter]
            if isRefused {
                let elsewhere = placement.refused([ChannelName("a")], by: RedisAddress(host: "h", port: 2))
                #expect(elsewhere == [])
                failed = placement.refused([ChannelName("a"), ChannelName("unknown")], by: Self.place)
            } else {
                let slot = Int64(HashSlot(key: "a").number)
                let node: RedisValue = .array([.bulk(ByteBuffer(string: "h")), .integer(1)])
                let ranges: [RedisValue] = [.array([.integer(0), .integer(slot - 1), node]), .array([.integer(slot + 1), .integer(16383), node])]
                failed = placement.mapChanged(try SlotMap.read(.array(ranges), asked: Self.place).get()).0
                _ = placement.mapChanged(Self.whole())
            }
            #expect(failed == [1])
            #expect(!placement.isWhole)
            let answer11 = placement.confirmed(ChannelName("c"), by: Self.place)
            #expect(answer11 == [3])
            let answer12 = placement.confirmed(ChannelName("a"), by: Self.place)
            #expect(answer12 == [])
            #expect(placement.isWhole)
            let told = placement.takeToTell()
            #expect(told.channels == ["a"])
        }
    }

    @Test("those who have stopped waiting are not kept in mind")
    func forgotten() {
        var placement = SubscriptionPlacement(maximumChannels: 10)
        placement.connected(Self.place)
        _ = placement.mapChanged(Self.whole())
        _ = placement.subscribe(["busy"], waiter: 1)
        _ = placement.confirmed(ChannelName("busy"), by: Self.place)
        var lines: [Int] = []
        for waiter in UInt64(2)...20 {
            _ = placement.subscribe(["busy", "new"], waiter: waiter)
            _ = placement.confirmed(ChannelName("new"), by: Self.place)
            _ = placement.unsubscribe(["new"])
            var everything = ""
            dump(Mirror(reflecting: placement).descendant("entries"), to: &everything)
            lines.append(everything.split(separator: "\n").count)
        }
        #expect(Set(lines).count == 1)
    }
}
