import Delivery
import Foundation
import NotificationCore

/// The channels that have a sender here, by the settings.
struct Channels: Sendable {
    var senders: [DeliveryChannel: any ChannelSender] = [:]

    init(settings: Settings) throws {
        if let url = try settings.text("CARILLON_SMTP_URL") { self.senders[.email] = try Self.mail(url) }
    }

    /// Those by which something can be sent.
    var configured: Set<DeliveryChannel> { Set(self.senders.keys).union([.inApp]) }

    private static func mail(_ text: String) throws -> any ChannelSender {
        let name = "CARILLON_SMTP_URL"
        switch URL(string: text)?.scheme {
        case "file":
            guard let path = URL(string: text)?.path, path.hasPrefix("/"), path.count > 1 else {
                throw SettingError(name, "must name a folder: file:///var/mail/carillon")
            }
            return FileSender(path: path)
        case "discard": return DiscardingSender()
        default: throw SettingError(name, "must be file:///folder, or discard:")
        }
    }
}
