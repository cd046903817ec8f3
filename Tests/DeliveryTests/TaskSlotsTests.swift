import Testing

@testable import Delivery

@Suite("when a runner claims, and how much")
struct TaskSlotsTests {
    private func slots(total: Int = 8, perKey: Int = .max, batch: Int = 4) -> TaskSlots {
        TaskSlots(TaskSlots.Bounds(total: total, perKey: perKey, batch: batch))
    }

    @Test("it claims for as long as claims bring something, within its places; then it waits for a word")
    func claims() {
        var slots = self.slots()
        #expect(slots.next() == .claim(limit: 4, perKey: .max, after: "", busy: []))
        #expect(slots.next() == .wait)
        slots.claimed(["a", "b", "c", "c"])
        #expect(slots.next() == .claim(limit: 4, perKey: .max, after: "c", busy: []).with(perKey: .max - 2))
        slots.claimed(["a", "a", "a", "a"])
        #expect(slots.underWay == 8)
        #expect(slots.next() == .wait)
        // One place alone is not worth a statement, before the time for a look.
        slots.finished("a")
        #expect(slots.next() == .wait)
        slots.finished("a")
        #expect(slots.next() != .wait)
        slots.claimed([])
        #expect(slots.next() == .wait)
        slots.poke()
        #expect(slots.next() != .wait)
    }

    @Test("a word that comes while a claim is under way is not lost")
    func poked() {
        var slots = self.slots()
        _ = slots.next()
        slots.poke()
        slots.claimed([])
        #expect(slots.next() != .wait)
        slots.claimed([])
        #expect(slots.next() == .wait)
        slots.poke()
        _ = slots.next()
        slots.claimFailed()
        #expect(slots.next() == .wait)
    }

    @Test("of one key no more than its share is under way, and its end is a word for what waits of it")
    func keys() {
        var slots = self.slots(perKey: 2)
        _ = slots.next()
        slots.claimed(["slow", "slow", "other"])
        #expect(slots.next() == .claim(limit: 4, perKey: 1, after: "slow", busy: ["slow"]))
        slots.claimed([])
        #expect(slots.next() == .wait)
        slots.finished("slow")
        #expect(slots.next() == .claim(limit: 4, perKey: 1, after: "slow", busy: []))
    }

    @Test("a look claims whatever is free")
    func looks() {
        var slots = self.slots()
        _ = slots.next()
        slots.claimed(["a", "b", "c", "d"])
        _ = slots.next()
        slots.claimed(["e", "f", "g"])
        #expect(slots.next() == .wait)
        slots.look()
        #expect(slots.next() == .claim(limit: 1, perKey: .max, after: "g", busy: []).with(perKey: .max - 1))
    }

    @Test("slow keys have half of the places together, and take turns; one that is quick again is none")
    func slowKeys() {
        var slots = self.slots(total: 8, perKey: 2, batch: 8)
        _ = slots.next()
        slots.claimed(["a", "b", "c", "d", "e"])
        for key in ["c", "b", "a", "d"] { slots.finished(key, isSlow: true) }
        // Places of two of them are left.
        guard case .claim(_, _, _, let busy) = slots.next() else { return #expect(Bool(false)) }
        #expect(busy == ["a", "d"])
        slots.claimed(["c", "c", "b", "b", "x"])
        slots.look()
        guard case .claim(_, _, _, let busy) = slots.next() else { return #expect(Bool(false)) }
        #expect(busy == ["c", "b", "a", "d"])
        slots.claimed([])
        slots.finished("c", isSlow: true)
        slots.finished("b")
        guard case .claim(_, _, _, let busy) = slots.next() else { return #expect(Bool(false)) }
        #expect(busy == ["c"])
    }

    @Test("no more slow keys are remembered than the bound")
    func manySlowKeys() {
        var slots = self.slots(total: 4000, perKey: 2, batch: 4000)
        _ = slots.next()
        let keys = (0..<1200).map { "k\($0)" }
        slots.claimed(keys)
        for key in keys { slots.finished(key, isSlow: true) }
        guard case .claim(_, _, _, let busy) = slots.next() else { return #expect(Bool(false)) }
        #expect(busy.isEmpty)
        slots.claimed(Array(keys.suffix(1000)) + keys.suffix(1000))
        guard case .claim(_, _, _, let full) = slots.next() else { return #expect(Bool(false)) }
        #expect(full == Array(keys.suffix(1000)))
    }

    @Test("where all of a key are one piece of work, each key takes one place")
    func wholes() {
        var slots = TaskSlots(TaskSlots.Bounds(total: 4, perKey: .max, batch: 2, countsKeys: true))
        _ = slots.next()
        slots.claimed(Array(repeating: "a", count: 1000) + ["b"])
        guard case .claim(let limit, _, _, _) = slots.next() else { return #expect(Bool(false)) }
        #expect(limit == 2)
    }

    @Test("a claim that went round goes on behind the last key that it came to")
    func round() {
        var slots = self.slots(total: 100)
        _ = slots.next()
        slots.claimed(["k", "m", "z"])
        #expect(slots.next().after == "z")
        slots.claimed(["a", "b"])
        #expect(slots.next().after == "b")
        slots.claimed(["c", "x", "a"])
        #expect(slots.next().after == "a")
    }

    @Test("a drain claims nothing more, and is over when all that is under way is")
    func drains() {
        var slots = self.slots()
        _ = slots.next()
        slots.drain()
        // It was on its way: what it brings is under way until it is given back.
        slots.claimed(["a"])
        slots.poke()
        #expect(slots.next() == .wait)
        slots.finished("a")
        #expect(slots.next() == .stop)
    }
}

extension TaskSlots.Action {
    fileprivate func with(perKey: Int) -> Self {
        guard case .claim(let limit, _, let after, let busy) = self else { return self }
        return .claim(limit: limit, perKey: perKey, after: after, busy: busy)
    }

    fileprivate var after: String? {
        guard case .claim(_, _, let after, _) = self else { return nil }
        return after
    }
}
