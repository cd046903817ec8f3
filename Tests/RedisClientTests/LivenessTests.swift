import NIOCore
import Testing

@testable import RedisClient

@Suite("Liveness")
struct LivenessTests {
    static func at(_ milliseconds: Int64) -> NIODeadline { .uptimeNanoseconds(UInt64(milliseconds) * 1_000_000) }

    static func machine(_ probing: Liveness.Probing) -> Liveness {
        Liveness(silence: .seconds(3), interval: .seconds(1), probing: probing, now: at(0))
    }

    /// Ticks every 250 ms over the range; returns when something was asked for.
    static func run(
        _ liveness: inout Liveness, _ milliseconds: ClosedRange<Int64>, awaiting: (Int64) -> Bool, hears: (Int64) -> Bool = { _ in false }
    ) -> [Int64: Liveness.Action] {
        var actions: [Int64: Liveness.Action] = [:]
        for time in stride(from: milliseconds.lowerBound, through: milliseconds.upperBound, by: 250) {
            if hears(time) { liveness.read() }
            let action = liveness.tick(now: at(time), awaiting: awaiting(time))
            if action != .none { actions[time] = action }
            if action == .silent { break }
        }
        return actions
    }

    @Test("ticks come four times within the shorter of both bounds")
    func tick() {
        #expect(Self.machine(.always).tick == .milliseconds(250))
        #expect(Liveness(silence: .milliseconds(100), interval: .seconds(1), probing: .always, now: Self.at(0)).tick == .milliseconds(25))
    }

    @Test("an idle connection is probed at each interval and never silent")
    func idle() {
        var liveness = Self.machine(.whenIdle)
        #expect(Self.run(&liveness, 250...4000, awaiting: { _ in false }) == [1000: .probe, 2000: .probe, 3000: .probe, 4000: .probe])
    }

    @Test("a connection for commands that owes an answer is not probed, and is silent after the bound")
    func silent() {
        var liveness = Self.machine(.whenIdle)
        #expect(Self.run(&liveness, 250...10_000, awaiting: { $0 >= 500 }) == [3500: .silent])
    }

    @Test("anything that is read begins the bound anew")
    func read() {
        var liveness = Self.machine(.whenIdle)
        #expect(Self.run(&liveness, 250...20_000, awaiting: { _ in true }, hears: { $0 == 3000 || $0 == 5000 }) == [8000: .silent])
    }

    @Test("an answered probe leaves a connection in peace")
    func answered() {
        var liveness = Self.machine(.whenIdle)
        // Each probe is awaited for one tick and answered by the next.
        let actions = Self.run(&liveness, 250...60_000, awaiting: { $0 % 1000 == 250 && $0 > 1000 }, hears: { $0 % 1000 == 500 })
        #expect(actions.count == 60 && actions.values.allSatisfy { $0 == .probe })
    }

    @Test("a subscriber's connection is probed always and silent after the bound")
    func subscriber() {
        var liveness = Self.machine(.always)
        #expect(Self.run(&liveness, 250...10_000, awaiting: { _ in true }) == [1000: .probe, 2000: .probe, 3000: .probe, 3250: .silent])
        liveness = Self.machine(.always)
        #expect(Self.run(&liveness, 250...9000, awaiting: { _ in true }, hears: { _ in true }).values.allSatisfy { $0 == .probe })
    }

    @Test("time in which this process was stopped is not the peer's silence")
    func asleep() {
        var liveness = Self.machine(.whenIdle)
        #expect(Self.run(&liveness, 250...2000, awaiting: { _ in true }).isEmpty)
        #expect(liveness.tick(now: Self.at(60_000), awaiting: true) == .none)
        #expect(Self.run(&liveness, 60_250...70_000, awaiting: { _ in true }) == [61_000: .silent])
    }

    @Test("while nothing is awaited it rests until the next probe")
    func rests() {
        var liveness = Self.machine(.whenIdle)
        #expect(liveness.rest == .milliseconds(250) && !liveness.isResting)
        // The greeting is awaited, and answered.
        #expect(liveness.tick(now: Self.at(250), awaiting: true) == .none)
        #expect(liveness.rest == .milliseconds(250) && !liveness.isResting)
        liveness.read()
        #expect(liveness.tick(now: Self.at(500), awaiting: false) == .none)
        #expect(liveness.rest == .milliseconds(500) && liveness.isResting)
        #expect(liveness.tick(now: Self.at(1000), awaiting: false) == .probe)
        #expect(liveness.rest == .milliseconds(250) && !liveness.isResting)
        liveness.read()
        #expect(liveness.tick(now: Self.at(1250), awaiting: false) == .none)
        #expect(liveness.rest == .milliseconds(750) && liveness.isResting)
    }

    @Test("it rests no longer than the bound on silence")
    func restsBriefly() {
        var liveness = Liveness(silence: .milliseconds(400), interval: .seconds(10), probing: .whenIdle, now: Self.at(0))
        #expect(liveness.tick(now: Self.at(100), awaiting: false) == .none)
        #expect(liveness.rest == .milliseconds(400))
    }

    @Test("what is asked for while it rests counts from then, whatever was read before")
    func askedWhileResting() {
        var liveness = Self.machine(.whenIdle)
        #expect(liveness.tick(now: Self.at(250), awaiting: false) == .none)
        #expect(liveness.rest == .milliseconds(750))
        liveness.read()
        liveness.asked(now: Self.at(400))
        // A second question changes nothing.
        liveness.asked(now: Self.at(900))
        #expect(Self.run(&liveness, 1000...10_000, awaiting: { _ in true }) == [3500: .silent])
    }

    @Test("an answer ends what was asked for while it rested")
    func answeredWhileResting() {
        var liveness = Self.machine(.whenIdle)
        #expect(liveness.tick(now: Self.at(250), awaiting: false) == .none)
        liveness.asked(now: Self.at(400))
        liveness.read()
        #expect(Self.run(&liveness, 1000...10_000, awaiting: { _ in true }) == [4000: .silent])
    }

    @Test("time in which this process was stopped while it rested is not the peer's silence")
    func asleepWhileResting() {
        var liveness = Self.machine(.whenIdle)
        #expect(liveness.tick(now: Self.at(250), awaiting: false) == .none)
        liveness.asked(now: Self.at(900))
        #expect(liveness.tick(now: Self.at(60_000), awaiting: true) == .none)
        #expect(Self.run(&liveness, 60_250...70_000, awaiting: { _ in true }) == [63_000: .silent])
        // Asked first thing after the stop, before the tick that is overdue.
        liveness = Self.machine(.whenIdle)
        #expect(liveness.tick(now: Self.at(250), awaiting: false) == .none)
        liveness.asked(now: Self.at(60_000))
        #expect(liveness.tick(now: Self.at(60_000), awaiting: true) == .none)
        #expect(Self.run(&liveness, 60_250...70_000, awaiting: { _ in true }) == [63_000: .silent])
    }

    @Test("a subscriber's connection that has spoken rests until the next probe, and is silent no later for it")
    func subscriberRests() {
        var liveness = Self.machine(.always)
        #expect(liveness.tick(now: Self.at(250), awaiting: true) == .none)
        #expect(liveness.rest == .milliseconds(250) && !liveness.isResting)
        liveness.read()
        #expect(liveness.tick(now: Self.at(500), awaiting: true) == .none)
        #expect(liveness.rest == .milliseconds(500) && liveness.isResting)
        #expect(Self.run(&liveness, 1000...10_000, awaiting: { _ in true }) == [1000: .probe, 2000: .probe, 3000: .probe, 3500: .silent])
    }

    @Test("probes come at whole multiples of the interval, whenever a connection was made and however late a tick is")
    func together() {
        var liveness = Liveness(silence: .seconds(3), interval: .seconds(1), probing: .whenIdle, now: Self.at(10_700))
        #expect(liveness.tick(now: Self.at(10_950), awaiting: false) == .none)
        #expect(liveness.rest == .milliseconds(250))
        #expect(liveness.tick(now: Self.at(11_200), awaiting: false) == .probe)
        #expect(liveness.tick(now: Self.at(11_450), awaiting: false) == .none)
        #expect(liveness.rest == .milliseconds(550))
        #expect(liveness.tick(now: Self.at(13_900), awaiting: false) == .probe)
        #expect(liveness.tick(now: Self.at(14_000), awaiting: false) == .probe)
    }
}
