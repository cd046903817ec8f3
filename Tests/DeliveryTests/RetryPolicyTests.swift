import NotificationStore
import Testing

@testable import Delivery

@Suite("what becomes of a task after an attempt")
struct RetryPolicyTests {
    private let policy = RetryPolicy(attempts: 5, base: .seconds(10), cap: .seconds(60))

    @Test("the bound of the wait doubles up to a cap", arguments: [(1, 10.0), (2, 20.0), (3, 40.0), (4, 60.0), (100, 60.0)])
    func bounds(attempts: Int, bound: Double) {
        #expect(self.policy.bound(attempts: attempts) == bound)
    }

    @Test("the wait is any part of it from a quarter on", arguments: [0.0, 0.25, 1.0])
    func jitter(part: Double) {
        let decision = self.policy.decide(.later("busy"), attempts: 3, jitter: part)
        #expect(decision.outcome == .again(after: 10 + 30 * part) && decision.reason == "busy")
    }

    @Test("what the provider asks for is waited for, up to a day")
    func asked() {
        #expect(self.policy.decide(.later("busy", after: .seconds(90)), attempts: 1, jitter: 1).outcome == .again(after: 90))
        #expect(self.policy.decide(.later("busy", after: .seconds(3)), attempts: 1, jitter: 0.5).outcome == .again(after: 6.25))
        #expect(self.policy.decide(.later("busy", after: .seconds(1_000_000)), attempts: 1, jitter: 1).outcome == .again(after: 86_400))
    }

    @Test("after the last attempt it is dead; what is over is over whenever; what was not attempted does not count")
    func ends() {
        #expect(self.policy.decide(.later("busy"), attempts: 4, jitter: 0).outcome == .again(after: 15))
        #expect(self.policy.decide(.later("busy"), attempts: 5, jitter: 0).outcome == .dead)
        for state in DeliveryState.allCases {
            let decision = self.policy.decide(.over(state, reason: "r", reference: "x"), attempts: 5, jitter: 0)
            #expect(decision.outcome == .over(state) && decision.reason == "r" && decision.reference == "x")
        }
        #expect(self.policy.decide(.notAttempted(after: .seconds(1)), attempts: 5, jitter: 0).outcome == .back(after: 1))
    }
}
