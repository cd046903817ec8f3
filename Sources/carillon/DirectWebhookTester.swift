import API
import Delivery
import Gateway
import NotificationCore
import NotificationStore
import Synchronization

/// Tests of webhooks, made by the node that was asked for one: a few at once, since an endpoint that does not answer holds each for its whole time.
final class DirectWebhookTester: WebhookTester {
    /// Under way at once: here, and of one webhook.
    private static let bounds = (all: 16, each: 2)

    private let deliveries: WebhookDeliveries
    private let caller: WebhookCaller
    private let underWay = Mutex<[NotificationID: Int]>([:])

    init(deliveries: WebhookDeliveries, caller: WebhookCaller) {
        self.deliveries = deliveries
        self.caller = caller
    }

    func test(_ id: NotificationID, scope: [String]?, trace: TraceContext?) async throws -> WebhookTestResult? {
        let isFree = self.underWay.withLock { tests in
            guard tests.values.reduce(0, +) < Self.bounds.all, tests[id, default: 0] < Self.bounds.each else { return false }
            tests[id, default: 0] += 1
            return true
        }
        guard isFree else { throw Problem.rateLimited(seconds: 1) }
        defer {
            self.underWay.withLock { tests in
                let left = tests[id, default: 1] - 1
                tests[id] = left == 0 ? nil : left
            }
        }
        return try await self.make(id, scope, trace)
    }

    private func make(_ id: NotificationID, _ scope: [String]?, _ trace: TraceContext?) async throws -> WebhookTestResult? {
        guard let target = try await self.deliveries.target(id, scope: scope) else { return nil }
        let message = NotificationID.make()
        let data = JSONValue.object([("webhook_id", .string(id.description))]).encoded
        guard !target.secrets.isEmpty else {
            return WebhookTestResult(status: nil, milliseconds: 0, error: "its secret cannot be read: CARILLON_SECRETS_KEY is another one than when it was made")
        }
        let attempt = await self.caller.call(
            WebhookCall(id: message.description, url: target.url, secrets: target.secrets, type: "webhook.test", timestamp: .now(), data: data, trace: trace))
        let error: String? =
            switch attempt.verdict {
            case .accepted: nil
            case .gone: "answered 410"
            case .failed(let reason, _), .notMade(let reason): reason
            }
        let milliseconds = Int(attempt.duration / .milliseconds(1))
        try await self.deliveries.note(
            test: WebhookAttemptRecord(
                delivery: message, type: "webhook.test", number: 0, status: attempt.status, milliseconds: milliseconds, error: error, answer: attempt.answer),
            of: id)
        return WebhookTestResult(status: attempt.status, milliseconds: milliseconds, error: error)
    }
}
