import API
import Delivery
import NotificationCore
import NotificationStore

/// Tests of webhooks, made by the node that was asked for one.
struct DirectWebhookTester: WebhookTester {
    let deliveries: WebhookDeliveries
    let caller: WebhookCaller

    func test(_ id: NotificationID, scope: [String]?) async throws -> WebhookTestResult? {
        guard let target = try await self.deliveries.target(id, scope: scope) else { return nil }
        let message = NotificationID.make()
        let data = JSONValue.object([("webhook_id", .string(id.description))]).encoded
        guard !target.secrets.isEmpty else {
            return WebhookTestResult(status: nil, milliseconds: 0, error: "its secret cannot be read: CARILLON_SECRETS_KEY is another one than when it was made")
        }
        let attempt = await self.caller.call(
            WebhookCall(id: message.description, url: target.url, secrets: target.secrets, type: "webhook.test", timestamp: .now(), data: data))
        let error: String? =
            switch attempt.verdict {
            case .accepted: nil
            case .gone: "answered 410"
            case .failed(let reason, _): reason
            }
        let milliseconds = Int(attempt.duration / .milliseconds(1))
        try await self.deliveries.note(
            test: WebhookAttemptRecord(
                delivery: message, type: "webhook.test", number: 0, status: attempt.status, milliseconds: milliseconds, error: error, answer: attempt.answer),
            of: id)
        return WebhookTestResult(status: attempt.status, milliseconds: milliseconds, error: error)
    }
}
