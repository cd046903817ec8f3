import NIOConcurrencyHelpers

/// A clock whose sleepers wake when the test says so. Each sleep is announced with its length.
final class StepClock: Clock, Sendable {
    struct Instant: InstantProtocol {
        var offset: Duration = .zero
        func advanced(by duration: Duration) -> Instant { Instant(offset: offset + duration) }
        func duration(to other: Instant) -> Duration { other.offset - offset }
        static func < (lhs: Instant, rhs: Instant) -> Bool { lhs.offset < rhs.offset }
    }

    private struct State {
        var now = Instant()
        var sleeper: (deadline: Instant, wake: AsyncStream<Void>.Continuation)?
    }

    private let state = NIOLockedValueBox(State())
    private let announce: AsyncStream<Duration>.Continuation
    /// The lengths of the sleeps, as they begin.
    let sleeps: AsyncStream<Duration>

    init() {
        (sleeps, announce) = AsyncStream.makeStream(of: Duration.self)
    }

    var now: Instant { state.withLockedValue { $0.now } }
    var minimumResolution: Duration { .zero }

    func sleep(until deadline: Instant, tolerance _: Duration?) async throws {
        let (woken, wake) = AsyncStream.makeStream(of: Void.self)
        let length = state.withLockedValue { state in
            state.sleeper = (deadline, wake)
            return state.now.duration(to: deadline)
        }
        announce.yield(length)
        for await _ in woken { return }
        throw CancellationError()
    }

    /// Wakes the sleeper at its time.
    func wake() {
        let sleeper = state.withLockedValue { state in
            if let sleeper = state.sleeper { state.now = sleeper.deadline }
            defer { state.sleeper = nil }
            return state.sleeper
        }
        sleeper?.wake.yield()
    }
}
