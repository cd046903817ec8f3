import FoundationEssentials
import Logging
import NotificationCore
import NotificationStore
import Synchronization

/// Tells administrators of a webhook that has failed: a notification of the type `SYSTEM`, one for each webhook until it is read. It names the endpoint's host and
/// the webhook's id: a path may hold a secret, and webhooks of no customer are told of this notification as of any other.
final class WebhookAlarm: Sendable {
    private let admins: [UserID]
    private let catalogue: @Sendable () -> Catalogue
    private let logger: Logger
    private let notifier = Mutex<Notifier?>(nil)

    init(admins: [UserID], catalogue: @escaping @Sendable () -> Catalogue, logger: Logger) {
        self.admins = admins
        self.catalogue = catalogue
        self.logger = logger
    }

    func tell(through notifier: Notifier) { self.notifier.withLock { $0 = notifier } }

    func tell(_ webhook: NotificationID, url: String, _ error: String) async {
        guard !self.admins.isEmpty, let notifier = self.notifier.withLock({ $0 }) else { return }
        let body = JSONValue.object([
            ("type", .string(Catalogue.fallbackType)), ("level", .string("ERROR")), ("priority", .string("HIGH")), ("title", .string("A webhook has failed")),
            ("content", .string("\(URLComponents(string: url)?.host ?? "an endpoint"): \(error.prefix(1000))")), ("rec_type", .string("webhook")), ("rec_id", .string(webhook.description)),
            ("collapse_key", .string("webhook-\(webhook)")), ("user_ids", .array(self.admins.map { .string($0.value) })),
        ])
        let now = Timestamp.now()
        do {
            let request = try NotifyRequest(json: body, catalogue: self.catalogue(), now: now)
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                notifier.notify(request, now: now) { continuation.resume(with: $0.map { _ in }.mapError { $0 }) }
            }
        } catch {
            self.logger.warning("administrators not told of a failed webhook", metadata: ["webhook": "\(webhook)", "error": "\(error)"])
        }
    }
}
