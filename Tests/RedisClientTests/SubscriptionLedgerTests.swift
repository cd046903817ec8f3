import Testing

@testable import RedisClient

/// A hundred thousand worlds are checked: the macro, which takes its expression apart each time, would take minutes.
private func verify(_ holds: Bool, _ what: String) {
    if !holds { Issue.record(Comment(rawValue: what)) }
}

/// A server that answers SUBSCRIBE and UNSUBSCRIBE channel by channel in order, and a caller who remembers what it was promised.
private struct World {
    var ledger: SubscriptionLedger
    /// What the server holds, when it answers.
    var held: Set<String> = []
    var unanswered: [(SubscriptionLedger.Verb, String)] = []
    var wanted: Set<String> = []
    var isConnected = false
    var wantedAtStart: Set<String> = []
    var restored = 0
    var nextWaiter: UInt64 = 0
    /// Waiter to the channels that it was promised.
    var waiting: [UInt64: [String]] = [:]

    enum Step: CaseIterable {
        case subscribeA, subscribeB, subscribeBoth, unsubscribeA, unsubscribeBoth, say, answer, connectionChange
    }

    init(limits: SubscriptionLedger.Limits) {
        ledger = SubscriptionLedger(limits: limits)
    }

    /// Returns false for a step that cannot be taken now.
    mutating func take(_ step: Step) throws -> Bool {
        switch step {
        case .subscribeA: subscribe(["A"])
        case .subscribeB: subscribe(["B"])
        case .subscribeBoth: subscribe(["A", "B"])
        case .unsubscribeA: unsubscribe(["A"])
        case .unsubscribeBoth: unsubscribe(["A", "B"])
        case .say: return say()
        case .answer:
            guard !unanswered.isEmpty else { return false }
            try answer()
        case .connectionChange:
            isConnected ? disconnect() : connect()
        }
        verify(ledger.wantedCount == wanted.count, "miscounted")
        return true
    }

    mutating func subscribe(_ names: [String]) {
        nextWaiter += 1
        wanted.formUnion(names)
        switch ledger.subscribe(names, waiter: nextWaiter) {
        case .confirmed: verify(isConnected && held.isSuperset(of: names), "confirmed without the server")
        case .waiting: waiting[nextWaiter] = names
        case .disconnected: verify(!isConnected, "disconnected while connected")
        case .full: Issue.record("full")
        }
    }

    mutating func unsubscribe(_ names: [String]) {
        wanted.subtract(names)
        // Wanted again later, they are no longer what the connection began with.
        wantedAtStart.subtract(names)
        let expected = waiting.filter { $0.value.contains { names.contains($0) } }
        for waiter in ledger.unsubscribe(names) {
            verify(expected[waiter] != nil, "cancelled without reason")
            verify(waiting.removeValue(forKey: waiter) != nil, "resolved twice")
        }
        // Who had these confirmed already still waits for the others.
        for waiter in waiting.keys { waiting[waiter]?.removeAll { names.contains($0) } }
    }

    mutating func say() -> Bool {
        let commands = ledger.commands()
        for command in commands {
            for channel in command.channels { unanswered.append((command.verb, channel)) }
        }
        if ledger.checkRestored() { noteRestored() }
        return !commands.isEmpty
    }

    mutating func answer() throws {
        let (verb, channel) = unanswered.removeFirst()
        switch verb {
        case .subscribe: held.insert(channel)
        case .unsubscribe: held.remove(channel)
        }
        let confirmed = try ledger.confirmed(verb, channel)
        for waiter in confirmed.waiters {
            let promised = waiting.removeValue(forKey: waiter)
            let names = promised ?? []
            verify(promised != nil, "resolved twice")
            verify(held.isSuperset(of: names), "confirmed too early")
            verify(!unanswered.contains { names.contains($0.1) }, "confirmed while an answer is still to come")
        }
        if confirmed.isRestored { noteRestored() }
    }

    mutating func noteRestored() {
        restored += 1
        verify(held.isSuperset(of: wantedAtStart), "restored too early")
    }

    mutating func connect() {
        isConnected = true
        wantedAtStart = wanted
        restored = 0
        ledger.connected()
    }

    mutating func disconnect() {
        isConnected = false
        held = []
        unanswered = []
        verify(ledger.disconnected() == waiting.keys.sorted(), "waiters forgotten")
        waiting = [:]
    }

    /// Lets everything happen that is due.
    mutating func settle() throws {
        if !isConnected { connect() }
        while say() || !unanswered.isEmpty {
            while !unanswered.isEmpty { try answer() }
        }
        verify(held == wanted, "the server holds something else than is wanted")
        verify(waiting.isEmpty, "a waiter was never told")
        verify(restored == 1, "restored is said once a connection")
    }
}

@Suite("The ledger of subscriptions")
struct SubscriptionLedgerTests {
    static let wide = SubscriptionLedger.Limits(channelsPerCommand: 500, unconfirmed: 10_000, channels: 10)
    static let narrow = SubscriptionLedger.Limits(channelsPerCommand: 1, unconfirmed: 1, channels: 10)

    @Test("every interleaving of calls, answers and reconnects ends with the server holding what is wanted and every waiter told once", arguments: [true, false])
    func exhaustive(isWide: Bool) throws {
        var count = 0
        func explore(_ world: World, depth: Int) throws {
            count += 1
            var settled = world
            try settled.settle()
            guard depth > 0 else { return }
            for step in World.Step.allCases {
                var next = world
                let isPossible = try next.take(step)
                if isPossible { try explore(next, depth: depth - 1) }
            }
        }
        try explore(World(limits: isWide ? Self.wide : Self.narrow), depth: 6)
        #expect(count > 50_000)
    }

    @Test("what is asked for and taken back before it was said is never said")
    func takenBack() {
        var ledger = SubscriptionLedger(limits: Self.wide)
        ledger.connected()
        #expect(ledger.subscribe(["A"], waiter: 1) == .waiting)
        #expect(ledger.unsubscribe(["A"]) == [1])
        #expect(ledger.commands() == [])
    }

    @Test("a subscription while an UNSUBSCRIBE is in flight counts once both are answered")
    func race() throws {
        var ledger = SubscriptionLedger(limits: Self.wide)
        ledger.connected()
        _ = ledger.checkRestored()
        #expect(ledger.subscribe(["A"], waiter: 1) == .waiting)
        #expect(ledger.commands() == [.init(verb: .subscribe, channels: ["A"])])
        #expect(try ledger.confirmed(.subscribe, "A").waiters == [1])
        #expect(ledger.unsubscribe(["A"]) == [])
        #expect(ledger.commands() == [.init(verb: .unsubscribe, channels: ["A"])])
        #expect(ledger.subscribe(["A"], waiter: 2) == .waiting)
        #expect(ledger.commands() == [.init(verb: .subscribe, channels: ["A"])])
        #expect(try ledger.confirmed(.unsubscribe, "A").waiters == [])
        #expect(try ledger.confirmed(.subscribe, "A").waiters == [2])
        #expect(ledger.subscribe(["A"], waiter: 3) == .confirmed)
    }

    @Test("many channels are said in batches, and no more of them at a time than may be unconfirmed")
    func batches() throws {
        var ledger = SubscriptionLedger(limits: .init(channelsPerCommand: 500, unconfirmed: 1200, channels: 10_000))
        #expect(ledger.subscribe((0..<2000).map(String.init), waiter: 1) == .disconnected)
        ledger.connected()
        let first = ledger.commands()
        #expect(first.map(\.channels.count) == [500, 500, 200])
        #expect(ledger.commands() == [])
        var restored = 0
        for name in first.flatMap(\.channels) { if try ledger.confirmed(.subscribe, name).isRestored { restored += 1 } }
        #expect(restored == 0)
        let second = ledger.commands()
        #expect(second.map(\.channels.count) == [500, 300])
        for name in second.flatMap(\.channels) { if try ledger.confirmed(.subscribe, name).isRestored { restored += 1 } }
        #expect(restored == 1)
    }

    @Test("beyond the bound on channels nothing is changed")
    func full() {
        var ledger = SubscriptionLedger(limits: Self.wide)
        #expect(ledger.subscribe((0..<10).map(String.init), waiter: 1) == .disconnected)
        #expect(ledger.subscribe(["9", "10"], waiter: 2) == .full)
        #expect(ledger.wantedCount == 10)
        #expect(ledger.subscribe(["9", "0", "0"], waiter: 3) == .disconnected)
    }

    @Test("an answer that nobody asked for is a protocol violation")
    func violations() throws {
        var ledger = SubscriptionLedger(limits: Self.wide)
        ledger.connected()
        #expect(throws: RedisError.self) { try ledger.confirmed(.subscribe, "A") }
        _ = ledger.subscribe(["A"], waiter: 1)
        #expect(throws: RedisError.self) { try ledger.confirmed(.subscribe, "A") }
        _ = ledger.commands()
        #expect(throws: RedisError.self) { try ledger.confirmed(.unsubscribe, "A") }
    }

    @Test("names are compared byte by byte, not by how they look")
    func names() throws {
        var ledger = SubscriptionLedger(limits: Self.wide)
        ledger.connected()
        #expect(ledger.subscribe(["caf\u{e9}", "cafe\u{301}"], waiter: 1) == .waiting)
        #expect(ledger.wantedCount == 2)
        #expect(ledger.commands().map(\.channels.count) == [2])
        #expect(try ledger.confirmed(.subscribe, "caf\u{e9}").waiters == [])
        #expect(try ledger.confirmed(.subscribe, "cafe\u{301}").waiters == [1])
    }
}
