import NIOCore
import Testing

@testable import RedisClient

/// Always the same bits: all of them, or hardly any, give the ends of every random range. (None at all would be rejected for ever.)
struct FixedGenerator: RandomNumberGenerator {
    let bits: UInt64
    mutating func next() -> UInt64 { bits }
}

@Suite("Backoff")
struct BackoffTests {
    @Test("waits double from the first to the longest, each jittered from half to all of it")
    func growth() {
        let full: [Int64] = [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]
        for (bits, share) in [(2, 2), (UInt64.max, 1)] as [(UInt64, Int64)] {
            var generator = FixedGenerator(bits: bits)
            var backoff = Backoff(initial: .milliseconds(50), maximum: .seconds(2))
            for wait in full { #expect(backoff.next(using: &generator) == .milliseconds(wait / share)) }
        }
    }

    @Test("random waits stay within half and all of their step, and differ")
    func jitter() {
        var generator = SystemRandomNumberGenerator()
        var seen = Set<Int64>()
        for _ in 0..<1000 {
            var backoff = Backoff(initial: .milliseconds(50), maximum: .seconds(2))
            let wait = backoff.next(using: &generator)
            #expect((TimeAmount.milliseconds(25)...TimeAmount.milliseconds(50)).contains(wait))
            seen.insert(wait.nanoseconds)
        }
        #expect(seen.count > 900)
    }

    @Test("a reset starts over, and a slow step takes the longest wait at once")
    func resetAndSlow() {
        var generator = FixedGenerator(bits: .max)
        var backoff = Backoff(initial: .milliseconds(50), maximum: .seconds(2))
        #expect(backoff.next(slowly: true, using: &generator) == .seconds(2))
        backoff.reset()
        #expect(backoff.next(using: &generator) == .milliseconds(50))
    }

    @Test("no number of attempts overflows")
    func manyAttempts() {
        var generator = FixedGenerator(bits: .max)
        var backoff = Backoff(initial: .hours(1), maximum: .hours(24 * 365))
        for _ in 0..<1000 { #expect(backoff.next(using: &generator) <= .hours(24 * 365)) }
    }
}
