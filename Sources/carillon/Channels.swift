import Delivery
import NotificationCore
import NotificationStore

/// The channels that have a sender here, by the settings.
struct Channels: Sendable {
    let settings: SenderSettings
    let senders: [DeliveryChannel: any ChannelSender]
    let webhooks: WebhookCaller

    init(settings: Settings) throws {
        self.settings = try SenderSettings(settings)
        let made = try Senders(self.settings)
        self.senders = made.channels
        self.webhooks = made.webhooks
    }

    /// Links for one-click unsubscription, where it is known by what clients reach this service.
    func unsubscribeLinks(_ secret: [UInt8]) -> @Sendable (UnsubscribeScope) -> String? {
        guard let url = self.settings.publicURL else { return { _ in nil } }
        let signer = UnsubscribeSigner(secret: secret)
        return { url.text + "/v1/unsubscribe/" + signer.token(for: $0) }
    }

    /// Those by which something can be sent to a user.
    var configured: Set<DeliveryChannel> { Set(self.senders.keys).union([.inApp]) }
}
