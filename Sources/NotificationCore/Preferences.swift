/// What one user wants to be told by which channel, in general or as a member of one customer.
///
/// It knows only what was said: where it is silent, the next less particular word counts (see ``ChannelDecision``).
public struct Preferences: Sendable, Equatable {
    /// The most bytes of its canonical JSON.
    public static let maximumBytes = 16 * 1024

    /// For channels, yes or no; others are left open.
    public struct Words: Sendable, Equatable {
        private var said: UInt8 = 0
        private var yes: UInt8 = 0

        public init() {}

        /// Nil: nothing was said of it.
        public subscript(channel: DeliveryChannel) -> Bool? {
            get { self.said & channel.bit == 0 ? nil : self.yes & channel.bit != 0 }
            set {
                self.said &= ~channel.bit
                self.yes &= ~channel.bit
                if let newValue {
                    self.said |= channel.bit
                    if newValue { self.yes |= channel.bit }
                }
            }
        }

        public var isEmpty: Bool { self.said == 0 }
    }

    public struct OfType: Sendable, Equatable {
        public var channels = Words()
        public var events: [String: Words] = [:]

        public init() {}

        public var isEmpty: Bool { self.channels.isEmpty && self.events.isEmpty }
    }

    public enum Digest: String, Sendable, CaseIterable {
        case immediate, hourly, daily
    }

    public var channels = Words()
    /// By the name that the catalogue had for the type.
    public var types: [String: OfType] = [:]
    public var quietHours: QuietHours?
    /// How e-mails are gathered.
    public var emailDigest: Digest?

    public init() {}

    public var isEmpty: Bool { self.channels.isEmpty && self.types.isEmpty && self.quietHours == nil && self.emailDigest == nil }

    /// What is stored and answered: names in full, nothing that says nothing, always in the same order.
    public var json: JSONValue {
        var members: [(name: String, value: JSONValue)] = []
        if !self.channels.isEmpty { members.append(("channels", self.channels.json)) }
        let types = self.types.filter { !$0.value.isEmpty }.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
        if !types.isEmpty { members.append(("types", .object(types.map { ($0.key, $0.value.json) }))) }
        if let quietHours { members.append(("quiet_hours", quietHours.json)) }
        if let emailDigest { members.append(("digest", .object([("email", .string(emailDigest.rawValue))]))) }
        return .object(members)
    }
}

extension DeliveryChannel {
    /// Those that a user decides about; webhooks belong to the application.
    public static let ofUsers: [DeliveryChannel] = [.inApp, .email, .sms, .telegram]

    fileprivate var bit: UInt8 {
        switch self {
        case .inApp: 1
        case .email: 2
        case .sms: 4
        case .webhook: 8
        case .telegram: 16
        }
    }
}

extension Preferences.Words {
    var json: JSONValue {
        .object(DeliveryChannel.ofUsers.compactMap { channel in self[channel].map { (channel.rawValue, .bool($0)) } })
    }
}

extension Preferences.OfType {
    var json: JSONValue {
        var members: [(name: String, value: JSONValue)] = []
        if !self.channels.isEmpty { members.append(("channels", self.channels.json)) }
        let events = self.events.filter { !$0.value.isEmpty }.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
        if !events.isEmpty { members.append(("events", .object(events.map { ($0.key, $0.value.json) }))) }
        return .object(members)
    }
}

extension QuietHours {
    var json: JSONValue {
        var members: [(name: String, value: JSONValue)] = [("start", .string(TimeOfDay.text(self.start))), ("end", .string(TimeOfDay.text(self.end)))]
        if let zone { members.append(("timezone", .string(zone.identifier))) }
        return .object(members)
    }
}
