public import Foundation

/// Which notifications are meant, of those that were sent.
public struct NotificationSelector: Sendable, Hashable, Encodable {
    enum Mark: Sendable, Hashable {
        case id(UUID)
        case collapseKey(String)
        case record(type: String, id: String)
    }

    let mark: Mark
    /// One notification, whatever else is created meanwhile: it can be asked for again.
    var isOne: Bool {
        if case .id = self.mark { return true }
        return false
    }
    /// Only these users'; nil: all of them.
    public var users: [String]?
    /// Only this customer's.
    public var customerID: String?

    public static func id(_ id: UUID) -> Self { Self(mark: .id(id)) }
    public static func collapseKey(_ key: String) -> Self { Self(mark: .collapseKey(key)) }
    public static func record(type: String, id: String) -> Self { Self(mark: .record(type: type, id: id)) }

    private enum CodingKeys: String, CodingKey {
        case id
        case collapseKey = "collapse_key"
        case recordType = "rec_type"
        case recordID = "rec_id"
        case users = "user_ids"
        case customerID = "customer_id"
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        switch self.mark {
        case .id(let id): try container.encode(id.uuidString.lowercased(), forKey: .id)
        case .collapseKey(let key): try container.encode(key, forKey: .collapseKey)
        case .record(let type, let id):
            try container.encode(type, forKey: .recordType)
            try container.encode(id, forKey: .recordID)
        }
        try container.encodeIfPresent(self.users, forKey: .users)
        try container.encodeIfPresent(self.customerID, forKey: .customerID)
    }
}

/// What changes of notifications that were sent. What is ``Change/keep`` stays as it is.
public struct NotificationCorrection: Sendable, Hashable {
    /// Of a field that may be taken away.
    public enum Change<Value: Sendable & Hashable & Encodable>: Sendable, Hashable {
        case keep
        case set(Value)
        case remove
    }

    public var title: String?
    public var level: NotificationMessage.Level?
    public var priority: NotificationMessage.Priority?
    public var content: Change<String>
    public var link: Change<String>
    public var linkText: Change<String>
    public var data: Change<[String: JSON]>
    public var expiresAt: Change<Date>

    public init(
        title: String? = nil, content: Change<String> = .keep, level: NotificationMessage.Level? = nil, priority: NotificationMessage.Priority? = nil,
        link: Change<String> = .keep, linkText: Change<String> = .keep, data: Change<[String: JSON]> = .keep, expiresAt: Change<Date> = .keep
    ) {
        self.title = title
        self.content = content
        self.level = level
        self.priority = priority
        self.link = link
        self.linkText = linkText
        self.data = data
        self.expiresAt = expiresAt
    }
}

/// A selector and a correction, as they are sent.
struct CorrectionRequest: Encodable {
    private enum Keys: String, CodingKey {
        case title, content, level, priority, data
        case link = "link_url"
        case linkText = "link_text"
        case expiresAt = "expires_at"
    }

    let selector: NotificationSelector
    let correction: NotificationCorrection

    func encode(to encoder: any Encoder) throws {
        try self.selector.encode(to: encoder)
        var container = encoder.container(keyedBy: Keys.self)
        try container.encodeIfPresent(self.correction.title, forKey: .title)
        try container.encodeIfPresent(self.correction.level, forKey: .level)
        try container.encodeIfPresent(self.correction.priority, forKey: .priority)
        try Self.encode(self.correction.content, .content, &container)
        try Self.encode(self.correction.link, .link, &container)
        try Self.encode(self.correction.linkText, .linkText, &container)
        try Self.encode(self.correction.data, .data, &container)
        try Self.encode(self.correction.expiresAt, .expiresAt, &container)
    }

    private static func encode(
        _ change: NotificationCorrection.Change<some Encodable>, _ key: Keys, _ container: inout KeyedEncodingContainer<Keys>
    ) throws {
        switch change {
        case .keep: break
        case .set(let value): try container.encode(value, forKey: key)
        case .remove: try container.encodeNil(forKey: key)
        }
    }
}
