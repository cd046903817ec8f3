import Testing

@testable import carillon_loadtest

@Suite("Open loop")
struct OpenLoopTests {
    private let millisecond: UInt64 = 1_000_000

    @Test("messages are due evenly, without drift")
    func due() {
        var schedule = OpenLoopSchedule(origin: 1_000, rate: 3, seconds: 1_000_000)
        #expect(schedule.count == 3_000_000)
        #expect(schedule.nextDue == 1_000)
        var last: UInt64 = 0
        while let due = schedule.takeDue(at: .max) { last = due }
        #expect(last == 1_000 + UInt64(2_999_999 * 1e9 / 3))
    }

    @Test("nothing is taken before it is due, and everything that is late at once")
    func late() {
        var schedule = OpenLoopSchedule(origin: 0, rate: 1_000, seconds: 1)
        #expect(schedule.takeDue(at: 0) == 0)
        #expect(schedule.takeDue(at: millisecond - 1) == nil)
        var taken: [UInt64] = []
        while let due = schedule.takeDue(at: 10 * millisecond) { taken.append(due) }
        #expect(taken == (1...10).map { UInt64($0) * millisecond })
    }

    @Test("the shares of several loops make up the whole", arguments: 1...5)
    func shares(loops: Int) {
        var all: [UInt64] = []
        for index in 0..<loops {
            var schedule = OpenLoopSchedule(origin: 7, rate: 100, seconds: 1.23, offset: index, stride: loops)
            while let due = schedule.takeDue(at: .max) { all.append(due) }
        }
        #expect(all.sorted() == (0..<123).map { 7 + UInt64($0) * 10 * millisecond })
    }

    @Test("a rate of zero has nothing due")
    func nothing() {
        #expect(OpenLoopSchedule(origin: 0, rate: 0, seconds: 10).nextDue == nil)
    }

    @Test("a window takes in order, and counts what is over its bound")
    func window() {
        var window = SendWindow<Int>(bound: 3)
        let accepted = (0..<5).map { window.offer($0) }
        #expect(accepted == [true, true, true, false, false])
        #expect(window.overruns == 2)
        let first = window.take()
        #expect(first == 0)
        #expect(window.outstanding == 3)
        let refused = window.offer(9)
        window.complete()
        let room = window.offer(10)
        let second = window.take()
        #expect(!refused)
        #expect(room)
        #expect(second == 1)
        window.abandon()
        #expect(window.overruns == 5)
        #expect(window.outstanding == 1)
    }

    /// A server that answers one request at a time in one millisecond, and stands still from `stall.lowerBound` to
    /// `stall.upperBound`, driven by a clock in steps of a millisecond.
    private func simulate(rate: Double, seconds: Double, stall: Range<UInt64>, bound: Int = 100_000) -> (LatencyRecorder, overruns: UInt64) {
        var schedule = OpenLoopSchedule(origin: 0, rate: rate, seconds: seconds)
        var window = SendWindow<UInt64>(bound: bound)
        var latency = LatencyRecorder(window: 0..<UInt64(seconds * 1e9))
        var inFlight: (due: UInt64, done: UInt64)?
        var now: UInt64 = 0
        while schedule.nextDue != nil || window.outstanding > 0 {
            while let due = schedule.takeDue(at: now) { _ = window.offer(due) }
            if let request = inFlight, now >= request.done, !stall.contains(now) {
                latency.record(due: request.due, at: now)
                window.complete()
                inFlight = nil
            }
            if inFlight == nil, let due = window.take() { inFlight = (due, now + millisecond) }
            now += millisecond
        }
        return (latency, window.overruns)
    }

    @Test("a stall of one second shows in the percentiles for everything that was due in it")
    func stall() {
        let second = 1_000 * millisecond
        let calm = simulate(rate: 100, seconds: 10, stall: 0..<0).0.percentiles
        #expect(calm.max < 1.1)
        let (latency, overruns) = simulate(rate: 100, seconds: 10, stall: 5 * second..<6 * second)
        #expect(overruns == 0)
        #expect(latency.count == 1_000)
        let percentiles = latency.percentiles
        // A hundred of a thousand were due while it stood still; their waits spread evenly from one second down.
        #expect(abs(percentiles.max - 1_000) < 5)
        #expect(abs(percentiles.p99 - 900) < 25)
        #expect(percentiles.p50 < 1.1)
    }

    @Test("what no longer fits while the server stands still is an overrun")
    func overrun() {
        let second = 1_000 * millisecond
        let (latency, overruns) = simulate(rate: 100, seconds: 2, stall: 1 * second..<2 * second, bound: 40)
        #expect(overruns > 50)
        #expect(latency.count + overruns == 200)
    }

    @Test("the warm-up stays out of the percentiles")
    func warmup() {
        var latency = LatencyRecorder(window: 100..<200)
        latency.record(due: 99, at: 5_000)
        latency.record(due: 200, at: 5_000)
        #expect(latency.count == 0)
        #expect(latency.percentiles == Percentiles(count: 0, p50: 0, p90: 0, p99: 0, p999: 0, max: 0, mean: 0))
        latency.record(due: 100, at: 5_000_100)
        #expect(latency.count == 1)
        #expect(abs(latency.percentiles.p50 - 5) < 0.01)
    }

    @Test("merged recorders are as one")
    func merge() {
        var one = LatencyRecorder(window: 0..<1_000)
        var two = one
        for value in 1...50 { one.record(due: 0, at: UInt64(value) * millisecond) }
        for value in 51...100 { two.record(due: 0, at: UInt64(value) * millisecond) }
        one.merge(two)
        #expect(one.count == 100)
        #expect(abs(one.percentiles.p50 - 50) < 0.1)
        #expect(abs(one.percentiles.max - 100) < 0.2)
        #expect(one.last == 100 * millisecond)
    }

    @Test("a server that falls behind shows less than the rate")
    func throughput() {
        var latency = LatencyRecorder(window: 0..<1_000 * millisecond)
        for index in 0..<100 { latency.record(due: UInt64(index) * 10 * millisecond, at: UInt64(index) * 20 * millisecond) }
        #expect(abs(latency.perSecond - 100 / 1.98) < 0.1)
    }

    @Test("operations are mostly reads, and the same for the same seed")
    func mix() {
        var one = OperationMix(seed: 1)
        var two = OperationMix(seed: 1)
        let kinds = (0..<1_000).map { _ in one.next() }
        #expect(kinds == (0..<1_000).map { _ in two.next() })
        #expect((550..<750).contains(kinds.count { $0 == .read }))
        #expect((10..<100).contains(kinds.count { $0 == .readAll }))
    }
}
