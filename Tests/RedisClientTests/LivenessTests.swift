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
}
