import Foundation
import NotificationCore

/// Writes each e-mail into a folder, for development: one JSON file a message, named by time and delivery. A repetition of a delivery takes the place of the
/// one before.
public struct FileSender: ChannelSender {
    private let folder: URL

    /// - Parameter path: of the folder; it is made when the first message comes.
    public init(path: String) {
        self.folder = URL(fileURLWithPath: path, isDirectory: true)
    }

    private struct Message: Encodable {
        var id: String
        var channel: String
        var to: String
        var user_id: String
        var notification_id: String
        var customer_id: String?
        var subject: String?
        var text: String?
        var html: String?
        var unsubscribe_url: String?
        var urgent: Bool
        var at: String
    }

    public func send(_ message: OutgoingMessage) async -> SendResult {
        let content = Message(
            id: message.deliveryID, channel: message.channel.rawValue, to: message.address, user_id: message.userID.value,
            notification_id: message.notificationID.description, customer_id: message.customerID, subject: message.subject, text: message.text,
            html: message.html, unsubscribe_url: message.unsubscribeURL, urgent: message.urgent, at: Timestamp.now().description)
        do {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
            // Ids of version 7 sort by time. Written beside and moved: whoever reads the folder never sees half of one.
            try encoder.encode(content).write(to: self.folder.appendingPathComponent(message.deliveryID + ".json"), options: .atomic)
            return .sent(reference: nil)
        } catch {
            return .later("the file cannot be written: \(error.localizedDescription)", after: nil)
        }
    }
}

/// Takes every message and forgets it, for measuring.
public struct DiscardingSender: ChannelSender {
    public init() {}

    public func send(_ message: OutgoingMessage) async -> SendResult { .sent(reference: nil) }
}
