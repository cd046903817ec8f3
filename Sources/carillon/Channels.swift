import Delivery
import NotificationCore
import NotificationStore

/// The channels that have a sender here, by the settings.
struct Channels: Sendable {
    let settings: SenderSettings
    private let made: Senders

    init(settings: Settings) throws {
        self.settings = try SenderSettings(settings)
        self.made = try Senders(self.settings)
    }

    var senders: [DeliveryChannel: any ChannelSender] { self.made.channels }
    var webhooks: WebhookCaller { self.made.webhooks }
    /// Calls and mails under way, for the metrics.
    var transfers: Int { self.made.transfers }

    /// Links for one-click unsubscription, where it is known by what clients reach this service.
    func unsubscribeLinks(_ secret: [UInt8]) -> @Sendable (UnsubscribeScope) -> String? {
        guard let url = self.settings.publicURL else { return { _ in nil } }
        let signer = UnsubscribeSigner(secret: secret)
        return { url.text + "/v1/unsubscribe/" + signer.token(for: $0) }
    }

    /// Those by which something can be sent to a user.
    var configured: Set<DeliveryChannel> { Set(self.senders.keys).union([.inApp]) }
}
