import Delivery
import NotificationCore

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

    /// Those by which something can be sent to a user.
    var configured: Set<DeliveryChannel> { Set(self.senders.keys).union([.inApp]) }
}
