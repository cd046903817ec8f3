public import Foundation

/// What a notification says. All but what you set is left to the service's catalogue.
public struct NotificationMessage: Sendable, Hashable, Encodable {
    public enum Level: String, Sendable, Hashable, Codable, CaseIterable {
        case info = "INFO"
        case success = "SUCCESS"
        case warning = "WARNING"
        case error = "ERROR"
    }

    public enum Priority: String, Sendable, Hashable, Codable, CaseIterable {
        case low = "LOW"
        case medium = "MEDIUM"
        case high = "HIGH"
        case urgent = "URGENT"
    }

    public enum Channel: String, Sendable, Hashable, Codable, CaseIterable {
        case inApp = "in_app"
        case email, sms, webhook, telegram
    }

    /// Up to 200 characters. Needed where neither the catalogue nor a template has one.
    public var title: String?
    /// Up to 4,000 characters.
    public var content: String?
    /// A type of the catalogue, or an alias; absent: `SYSTEM`.
    public var type: String?
    /// An event of that type.
    public var event: String?
    public var level: Level?
    public var priority: Priority?
    /// http, https, mailto, or relative to the site; up to 2,000 characters.
    public var link: String?
    public var linkText: String?
    public var customerID: String?
    /// With ``recordID``: what it is about, by which it can be corrected and taken back.
    public var recordType: String?
    public var recordID: String?
    /// Up to 8 KiB.
    public var data: [String: JSON]?
    /// Narrows; absent, the catalogue decides.
    public var channels: [Channel]?
    /// In the inbox from then on. Not of a direct event.
    public var deliverAt: Date?
    public var expiresAt: Date?
    /// Replaces an unread one of the same user with the same key. Not of a direct event.
    public var collapseKey: String?
    /// Up to 8 KiB.
    public var templateData: [String: JSON]?

    public init(
        title: String? = nil, content: String? = nil, type: String? = nil, event: String? = nil, level: Level? = nil, priority: Priority? = nil,
        link: String? = nil, linkText: String? = nil, customerID: String? = nil, recordType: String? = nil, recordID: String? = nil,
        data: [String: JSON]? = nil, channels: [Channel]? = nil, deliverAt: Date? = nil, expiresAt: Date? = nil, collapseKey: String? = nil,
        templateData: [String: JSON]? = nil
    ) {
        self.title = title
        self.content = content
        self.type = type
        self.event = event
        self.level = level
        self.priority = priority
        self.link = link
        self.linkText = linkText
        self.customerID = customerID
        self.recordType = recordType
        self.recordID = recordID
        self.data = data
        self.channels = channels
        self.deliverAt = deliverAt
        self.expiresAt = expiresAt
        self.collapseKey = collapseKey
        self.templateData = templateData
    }

    private enum CodingKeys: String, CodingKey {
        case title, content, type, event, level, priority, data, channels
        case link = "link_url"
        case linkText = "link_text"
        case customerID = "customer_id"
        case recordType = "rec_type"
        case recordID = "rec_id"
        case deliverAt = "deliver_at"
        case expiresAt = "expires_at"
        case collapseKey = "collapse_key"
        case templateData = "template_data"
    }
}

/// A message and who gets it, as it is sent.
struct AddressedMessage: Encodable {
    private enum Keys: String, CodingKey {
        case users = "user_ids"
        case broadcast
    }

    let message: NotificationMessage
    /// Nil: they come by another way.
    var users: [String]?
    var isBroadcast = false

    func encode(to encoder: any Encoder) throws {
        try self.message.encode(to: encoder)
        var container = encoder.container(keyedBy: Keys.self)
        try container.encodeIfPresent(self.users, forKey: .users)
        if self.isBroadcast { try container.encode(true, forKey: .broadcast) }
    }
}
