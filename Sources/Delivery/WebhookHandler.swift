public import Logging
public import NotificationCore
public import NotificationStore

/// Calls webhooks for the queue, and notes each call.
public struct WebhookHandler: TaskHandler {
    /// Bytes of large events that are in memory at once; each is there three times for a moment.
    private static let largeBytes = 32 << 20
    /// Until one whose secret cannot be read is looked at again.
    private static let withoutKey: Duration = .seconds(30)

    private let deliveries: WebhookDeliveries
    private let budget = ByteBudget(Self.largeBytes)
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
        // What came of it was noted, and not that the task is over: to send it again would be to send it twice.
        if let ended = material.ended { return .over(ended) }
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
        // Somebody with the right key has it next, or it waits until there is one.
        guard !material.secrets.isEmpty else {
            self.logger.error("a webhook's secret cannot be read: CARILLON_SECRETS_KEY is another one than when it was made", metadata: ["webhook": "\(material.webhook)"])
            return .notAttempted(after: Self.withoutKey)
        }
        let event = material.event
        let name = WebhookEvent.name(type: event.type, event: event.event)
        let held = await self.budget.take(material.bytes)
        defer { self.budget.give(held) }
        let data: String
        do throws(StoreError) {
            guard let read = try await self.deliveries.data(of: material) else { return .over(.failed, reason: "the event is gone") }
            data = read
        } catch {
            return .notAttempted(after: .seconds(1))
        }
        let attempt = await self.caller.call(
            WebhookCall(id: task.id.description, url: material.url, secrets: material.secrets, type: name, timestamp: event.at, data: Array(data.utf8), trace: task.trace))
        if case .notMade(let reason) = attempt.verdict {
            self.logger.debug("webhook not called", metadata: ["webhook": "\(material.webhook)", "error": "\(reason)"])
            return .notAttempted(after: .seconds(1))
        }
        let (verdict, error, result) = self.judge(attempt, task.attempts)
        let record = WebhookAttemptRecord(
            delivery: task.id, type: name, number: task.attempts, status: attempt.status, milliseconds: attempt.duration.milliseconds, error: error, answer: attempt.answer)
        do throws(StoreError) {
            let was = try await self.deliveries.note(record, of: material.webhook, verdict)
            if was == .active, verdict == .failedForGood || verdict == .gone {
                self.logger.warning("webhook failed", metadata: task.trace.logged.merging(["webhook": "\(material.webhook)", "error": "\(error ?? "")"]) { $1 })
                await self.onFailed(material.webhook, material.url, error ?? "")
            }
        } catch {
            self.logger.warning("attempt of a webhook not noted", metadata: task.trace.logged.merging(["webhook": "\(material.webhook)", "error": "\(error)"]) { $1 })
            // What the endpoint has accepted is not sent again for that. A failure that nobody knows of would be the event's end.
            if verdict != .accepted { return .notAttempted(after: .seconds(1)) }
        }
        return result
    }

    private func judge(_ attempt: WebhookAttempt, _ number: Int) -> (verdict: WebhookDeliveries.Verdict, error: String?, result: AttemptResult) {
        switch attempt.verdict {
        case .accepted: (.accepted, nil, .over(.delivered))
        case .gone: (.gone, "answered 410: it wants no more", .over(.failed, reason: "answered 410"))
        case .notMade(let error): (.failed, error, .notAttempted(after: .seconds(1)))
        case .failed(let error, let after):
            if number < self.attempts { (.failed, error, .later(error, after: after)) } else { (.failedForGood, error, .over(.failed, reason: error)) }
        }
    }
}
