import Testing

@testable import NotificationCore

@Suite("Cadence")
struct CadenceTests {
    @Test("a pause ends at the next whole multiple")
    func pause() {
        let period = Duration.seconds(1)
        #expect(Cadence.pause(after: .zero, period: period) == .seconds(1))
        #expect(Cadence.pause(after: .milliseconds(1), period: period) == .milliseconds(999))
        #expect(Cadence.pause(after: .milliseconds(2999), period: period) == .milliseconds(1))
        #expect(Cadence.pause(after: .seconds(7) + .milliseconds(1), period: .seconds(2)) == .milliseconds(999))
    }

    @Test("whatever else happens, all meet at the same moments", arguments: [Duration.milliseconds(20), .milliseconds(250), .seconds(1), .seconds(5)])
    func meeting(period: Duration) {
        for elapsed in stride(from: 0, to: 20_000, by: 7) {
            let since = Duration.milliseconds(elapsed)
            let pause = Cadence.pause(after: since, period: period)
            let end = since + pause
            #expect(period * (end / period).rounded() == end)
            #expect(pause > .zero && pause <= period)
        }
    }

    @Test("a cancelled task does not sleep on")
    func cancelled() async {
        let task = Task { try await Cadence.sleep(.seconds(3600)) }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
    }
}
