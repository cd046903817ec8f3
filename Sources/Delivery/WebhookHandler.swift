public import Logging
public import NotificationCore
public import NotificationStore

/// Calls webhooks for the queue, and notes each call.
public struct WebhookHandler: TaskHandler {
    private let deliveries: WebhookDeliveries
    private let caller: WebhookCaller
    private let attempts: Int
    private let onFailed: @Sendable (NotificationID, String, String) async -> Void
    private let logger: Logger

    /// - Parameters:
    ///   - attempts: of one delivery, the first included; after the last its webhook has failed.
    ///   - onFailed: told which webhook has failed, its URL, and why.
    public init(
        deliveries: WebhookDeliveries, caller: WebhookCaller, attempts: Int, logger: Logger,
        onFailed: @escaping @Sendable (NotificationID, String, String) async -> Void = { _, _, _ in }
    ) {
        self.deliveries = deliveries
        self.caller = caller
        self.attempts = attempts
        self.onFailed = onFailed
        self.logger = logger
    }

    public func materials(for tasks: [QueuedTask]) async throws(StoreError) -> [WebhookMaterial?] {
        try await self.deliveries.read(tasks)
    }

    public func attempt(_ task: QueuedTask, _ material: WebhookMaterial?) async -> AttemptResult {
        guard let material else { return .over(.failed, reason: "the webhook is gone") }
        switch material.status {
        case .active: break
        case .failed, .disabled:
            do throws(StoreError) {
                try await self.deliveries.hold(task.id)
                return .notAttempted(after: .zero)
            } catch {
                return .notAttempted(after: .seconds(1))
            }
        }
        let event = material.event
        let name = WebhookEvent.name(type: event.type, event: event.event)
        let attempt: WebhookAttempt
        if material.secrets.isEmpty {
            attempt = WebhookAttempt(
                verdict: .failed("its secret cannot be read: CARILLON_SECRETS_KEY is another one than when it was made", after: nil), status: nil, duration: .zero, answer: [])
        } else {
            attempt = await self.caller.call(
                WebhookCall(
                    id: task.id.description, url: material.url, secrets: material.secrets, type: name, timestamp: event.at, data: Array(event.data.utf8)))
        }
        let (verdict, error, result) = self.judge(attempt, task.attempts)
        let record = WebhookAttemptRecord(
            delivery: task.id, type: name, number: task.attempts, status: attempt.status, milliseconds: attempt.duration.milliseconds, error: error, answer: attempt.answer)
        do throws(StoreError) {
            let was = try await self.deliveries.note(record, of: material.webhook, verdict)
            if was == .active, verdict == .failedForGood || verdict == .gone {
                self.logger.warning("webhook failed", metadata: ["webhook": "\(material.webhook)", "error": "\(error ?? "")"])
                await self.onFailed(material.webhook, material.url, error ?? "")
            }
        } catch {
            self.logger.warning("attempt of a webhook not noted", metadata: ["webhook": "\(material.webhook)", "error": "\(error)"])
            // What the endpoint has accepted is not sent again for that. A failure that nobody knows of would be the event's end.
            if verdict != .accepted { return .notAttempted(after: .seconds(1)) }
        }
        return result
    }

    private func judge(_ attempt: WebhookAttempt, _ number: Int) -> (verdict: WebhookDeliveries.Verdict, error: String?, result: AttemptResult) {
        switch attempt.verdict {
        case .accepted: (.accepted, nil, .over(.delivered))
        case .gone: (.gone, "answered 410: it wants no more", .over(.failed, reason: "answered 410"))
        case .failed(let error, let after):
            if number < self.attempts { (.failed, error, .later(error, after: after)) } else { (.failedForGood, error, .over(.failed, reason: error)) }
        }
    }
}
