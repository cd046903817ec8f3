import NIOCore
import Testing

@testable import Edge

@Suite("a process that stood still")
struct SuspensionTests {
    private static func at(_ milliseconds: Int64) -> NIODeadline { .uptimeNanoseconds(UInt64(milliseconds + 1_000_000) * 1_000_000) }

    @Test("late ticks are no standstill, and neither is a Redis that is away", arguments: [500, 1000, 1500] as [Int64])
    func lateTicks(_ pause: Int64) {
        var suspension = Suspension()
        for turn in 0..<100 as Range<Int64> {
            let begins = suspension.begins(now: Self.at(turn * pause))
            #expect(!begins)
            suspension.awake(now: Self.at(turn * pause), lastBeat: Self.at(0))
        }
    }

    @Test("a standstill after which the heartbeat is still young loses no place")
    func young() {
        var suspension = Suspension()
        suspension.awake(now: Self.at(0), lastBeat: Self.at(0))
        let begins = suspension.begins(now: Self.at(2000))
        #expect(!begins)
        #expect(!suspension.isSuspended)
    }

    @Test("a long standstill suspends once, until the places are taken again")
    func long() {
        var suspension = Suspension()
        suspension.awake(now: Self.at(0), lastBeat: Self.at(-500))
        let begins = [10_000, 11_000].map { suspension.begins(now: Self.at($0)) }
        #expect(begins == [true, false])
        #expect(suspension.isSuspended)
        suspension.ended(now: Self.at(11_050), lastBeat: Self.at(11_040))
        #expect(!suspension.isSuspended)
        let again = [11_100, 20_000].map { suspension.begins(now: Self.at($0)) }
        #expect(again == [false, true])
    }

    @Test("a node that has not begun to beat has streams, too")
    func first() {
        var suspension = Suspension()
        let early = suspension.begins(now: Self.at(0))
        suspension.awake(now: Self.at(0), lastBeat: nil)
        let begins = [2000, 10_000].map { suspension.begins(now: Self.at($0)) }
        #expect(!early)
        #expect(begins == [false, true])
    }
}
