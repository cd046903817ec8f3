import Testing

@testable import CarillonClient

@Suite("Retries")
struct RetryTests {
    private static let outcomes: [RetryMachine.Outcome] =
        [200, 400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504].map { .status($0, retryAfter: nil) } + [.noConnection, .noAnswer]

    @Test("only what is safe is repeated", arguments: RetrySafety.allCases)
    func safety(safety: RetrySafety) {
        let repeated = Self.outcomes.filter { outcome in
            var machine = RetryMachine(safety, CarillonClient.Configuration())
            return machine.pause(after: outcome, random: 0) != nil
        }
        switch safety {
        case .always: #expect(repeated == [409, 429, 502, 503, 504].map { .status($0, retryAfter: nil) } + [.noConnection, .noAnswer])
        case .whenRefused: #expect(repeated == [429].map { .status($0, retryAfter: nil) } + [.noConnection])
        case .never: #expect(repeated == [])
        }
    }

    @Test("there are as many attempts as configured, with pauses that double up to the longest", arguments: [1, 2, 4, 40])
    func pauses(attempts: Int) {
        let configuration = CarillonClient.Configuration(attempts: attempts, firstPause: .milliseconds(100), longestPause: .seconds(1))
        var machine = RetryMachine(.always, configuration)
        var pauses: [Duration] = []
        while let pause = machine.pause(after: .noAnswer, random: 0) { pauses.append(pause) }
        #expect(machine.attempts == attempts)
        let expected: [Duration] = [.milliseconds(100), .milliseconds(200), .milliseconds(400), .milliseconds(800)]
        #expect(pauses == Array((expected + Array(repeating: .seconds(1), count: 100)).prefix(attempts - 1)))
    }

    @Test("chance shortens a pause by up to a half", arguments: [(0.0, 100), (0.5, 75), (1.0, 50)])
    func jitter(example: (random: Double, milliseconds: Int)) {
        var machine = RetryMachine(.always, CarillonClient.Configuration(firstPause: .milliseconds(100)))
        #expect(machine.pause(after: .noAnswer, random: example.random) == .milliseconds(example.milliseconds))
    }

    @Test("Retry-After is waited for, unless it is longer than the longest pause")
    func retryAfter() {
        let configuration = CarillonClient.Configuration(firstPause: .milliseconds(100), longestPause: .seconds(5))
        var machine = RetryMachine(.always, configuration)
        #expect(machine.pause(after: .status(503, retryAfter: .seconds(3)), random: 0) == .seconds(3))
        #expect(machine.pause(after: .status(429, retryAfter: .zero), random: 0) == .milliseconds(200))
        #expect(machine.pause(after: .status(429, retryAfter: .seconds(5)), random: 1) == .seconds(5))
        var other = RetryMachine(.always, configuration)
        #expect(other.pause(after: .status(429, retryAfter: .seconds(6)), random: 0) == nil)
    }
}
