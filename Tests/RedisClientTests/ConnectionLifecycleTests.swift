import NIOCore
import Testing

@testable import RedisClient

@Suite("The life of a connection")
struct ConnectionLifecycleTests {
    var lifecycle = ConnectionLifecycle(backoff: Backoff(initial: .milliseconds(50), maximum: .seconds(2)))
    var generator = FixedGenerator(bits: .max)

    static func at(_ seconds: Int64) -> NIODeadline { .uptimeNanoseconds(UInt64(seconds) * 1_000_000_000) }

    @Test("it connects, is lost, waits and connects again")
    mutating func cycle() {
        #expect(lifecycle.start() == .connect)
        #expect(lifecycle.start() == .none)
        #expect(lifecycle.opened(now: Self.at(0)) == .announceOpen)
        #expect(lifecycle.ended(now: Self.at(10), slowly: false, using: &generator) == .announceLostAndRetry(after: .milliseconds(50)))
        #expect(lifecycle.retryDue() == .connect)
        #expect(lifecycle.ended(now: Self.at(10), slowly: false, using: &generator) == .retry(after: .milliseconds(100)))
        #expect(lifecycle.retryDue() == .connect)
        #expect(lifecycle.opened(now: Self.at(11)) == .announceOpen)
    }

    @Test("a connection that does not last does not start the backoff over")
    mutating func flapping() {
        _ = lifecycle.start()
        var waits: [TimeAmount] = []
        for _ in 0..<7 {
            _ = lifecycle.opened(now: Self.at(0))
            guard case .announceLostAndRetry(let wait) = lifecycle.ended(now: Self.at(1), slowly: false, using: &generator) else {
                Issue.record("not lost")
                return
            }
            waits.append(wait)
            _ = lifecycle.retryDue()
        }
        #expect(waits == [50, 100, 200, 400, 800, 1600, 2000].map { .milliseconds($0) })
        _ = lifecycle.opened(now: Self.at(0))
        #expect(lifecycle.ended(now: Self.at(3), slowly: false, using: &generator) == .announceLostAndRetry(after: .milliseconds(50)))
    }

    @Test("what only an operator can mend is tried slowly from the first time on")
    mutating func slowly() {
        _ = lifecycle.start()
        #expect(lifecycle.ended(now: Self.at(0), slowly: true, using: &generator) == .retry(after: .seconds(2)))
    }

    @Test("every state can be shut down, and stays so")
    mutating func shutdown() {
        var idle = lifecycle
        #expect(idle.shutdown() == .finish)
        #expect(idle.start() == .none)

        _ = lifecycle.start()
        var connecting = lifecycle
        #expect(connecting.shutdown() == .discard)
        #expect(connecting.shutdown() == .none)
        var opens = connecting
        #expect(opens.opened(now: Self.at(0)) == .discard)
        #expect(opens.ended(now: Self.at(0), slowly: false, using: &generator) == .finish)
        #expect(connecting.ended(now: Self.at(0), slowly: false, using: &generator) == .finish)
        #expect(connecting.retryDue() == .none)
        #expect(connecting.shutdown() == .finish)

        _ = lifecycle.opened(now: Self.at(0))
        var open = lifecycle
        #expect(open.shutdown() == .close)
        #expect(open.ended(now: Self.at(0), slowly: false, using: &generator) == .announceLostAndFinish)

        _ = lifecycle.ended(now: Self.at(0), slowly: false, using: &generator)
        #expect(lifecycle.shutdown() == .cancelRetryAndFinish)
        #expect(lifecycle.retryDue() == .none)
        #expect(lifecycle.state == .stopped)
    }
}
