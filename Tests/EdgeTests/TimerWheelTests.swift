import Testing

@testable import Edge

@Suite struct TimerWheelTests {
    final class Thing: Timed {
        let id: Int
        var wheelPlace: TimerPlace?

        init(_ id: Int) {
            self.id = id
        }
    }

    @Test("everything scheduled comes up exactly once, never before its moment unless that lies beyond the wheel")
    func once() {
        var wheel = TimerWheel<Thing>(slots: 64)
        var random = SystemRandomNumberGenerator()
        _ = wheel.advance(to: 1000)
        var moments: [Int: Int64] = [:]
        for id in 0..<2000 {
            let moment = 1000 + Int64.random(in: 1...60, using: &random)
            moments[id] = moment
            wheel.schedule(Thing(id), at: moment, now: 1000)
        }
        var seen: [Int: Int64] = [:]
        for now in Int64(1001)...1064 {
            for thing in wheel.advance(to: now) {
                #expect(seen.updateValue(now, forKey: thing.id) == nil)
                #expect(moments[thing.id] == now)
            }
        }
        #expect(seen.count == 2000)
    }

    @Test("what is scheduled before the first advance comes up with it, however late that is")
    func early() {
        for delay in Int64(1)...70 {
            var wheel = TimerWheel<Thing>(slots: 64)
            wheel.schedule(Thing(1), at: 1001, now: 1000)
            #expect(wheel.advance(to: 1000 + delay).count == 1)
        }
    }

    @Test("what is removed is held no longer and does not come up; what is scheduled twice comes up at the later word; the others are not touched")
    func removed() {
        var wheel = TimerWheel<Thing>(slots: 64)
        var random = SystemRandomNumberGenerator()
        _ = wheel.advance(to: 1000)
        var moments: [Int: Int64] = [:]
        var things = (0..<500).map { Thing($0) }
        for _ in 0..<5000 {
            let thing = things.randomElement(using: &random)!
            if Bool.random(using: &random) {
                let moment = 1000 + Int64.random(in: 1...60, using: &random)
                wheel.schedule(thing, at: moment, now: 1000)
                moments[thing.id] = moment
            } else {
                wheel.remove(thing)
                moments[thing.id] = nil
            }
        }
        weak let gone = things[0]
        wheel.remove(things[0])
        moments[0] = nil
        things.remove(at: 0)
        #expect(gone == nil)
        for now in Int64(1001)...1064 {
            for thing in wheel.advance(to: now) { #expect(moments.removeValue(forKey: thing.id) == now) }
        }
        #expect(moments.isEmpty)
    }

    @Test("what lies beyond the wheel's length comes up early, to be scheduled again")
    func far() {
        var wheel = TimerWheel<Thing>(slots: 64)
        _ = wheel.advance(to: 0)
        wheel.schedule(Thing(1), at: 10_000, now: 0)
        var early: [Thing] = []
        for now in Int64(1)...63 { early += wheel.advance(to: now) }
        #expect(early.map(\.id) == [1])
    }

    @Test("a clock that jumps ahead or back loses nothing", arguments: [5000, 900] as [Int64])
    func jump(to moment: Int64) {
        var wheel = TimerWheel<Thing>(slots: 64)
        _ = wheel.advance(to: 1000)
        for id in 0..<100 { wheel.schedule(Thing(id), at: 1001 + Int64(id % 60), now: 1000) }
        #expect(Set(wheel.advance(to: moment).map(\.id)) == Set(0..<100))
        wheel.schedule(Thing(7), at: moment + 1, now: moment)
        #expect(wheel.advance(to: moment + 1).map(\.id) == [7])
    }

    @Test("a moment that has passed comes up with the next second")
    func late() {
        var wheel = TimerWheel<Thing>(slots: 64)
        _ = wheel.advance(to: 1000)
        wheel.schedule(Thing(1), at: 3, now: 1000)
        #expect(wheel.advance(to: 1001).map(\.id) == [1])
    }
}
