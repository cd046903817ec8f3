import Testing

@testable import Edge

@Suite struct TimerWheelTests {
    @Test("everything scheduled comes up exactly once, never before its moment unless that lies beyond the wheel")
    func once() {
        var wheel = TimerWheel<Int>(slots: 64)
        var random = SystemRandomNumberGenerator()
        _ = wheel.advance(to: 1000)
        var moments: [Int: Int64] = [:]
        for id in 0..<2000 {
            let moment = 1000 + Int64.random(in: 1...60, using: &random)
            moments[id] = moment
            wheel.schedule(id, at: moment, now: 1000)
        }
        var seen: [Int: Int64] = [:]
        for now in Int64(1001)...1064 {
            for id in wheel.advance(to: now) {
                #expect(seen.updateValue(now, forKey: id) == nil)
                #expect(moments[id] == now)
            }
        }
        #expect(seen.count == 2000)
    }

    @Test("what lies beyond the wheel's length comes up early, to be scheduled again")
    func far() {
        var wheel = TimerWheel<String>(slots: 64)
        _ = wheel.advance(to: 0)
        wheel.schedule("far", at: 10_000, now: 0)
        var early: [String] = []
        for now in Int64(1)...63 { early += wheel.advance(to: now) }
        #expect(early == ["far"])
    }

    @Test("a clock that jumps ahead or back loses nothing", arguments: [5000, 900] as [Int64])
    func jump(to moment: Int64) {
        var wheel = TimerWheel<Int>(slots: 64)
        _ = wheel.advance(to: 1000)
        for id in 0..<100 { wheel.schedule(id, at: 1001 + Int64(id % 60), now: 1000) }
        #expect(Set(wheel.advance(to: moment)) == Set(0..<100))
        wheel.schedule(7, at: moment + 1, now: moment)
        #expect(wheel.advance(to: moment + 1) == [7])
    }

    @Test("a moment that has passed comes up with the next second")
    func late() {
        var wheel = TimerWheel<Int>(slots: 64)
        _ = wheel.advance(to: 1000)
        wheel.schedule(1, at: 3, now: 1000)
        #expect(wheel.advance(to: 1001) == [1])
    }
}
