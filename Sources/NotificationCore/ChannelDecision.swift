/// Whether a channel gets a notification, and whose word that is.
public struct ChannelDecision: Sendable, Equatable {
    public enum Reason: String, Sendable, CaseIterable {
        /// The catalogue says that nobody can turn it off.
        case required
        case customerEvent = "customer_event"
        case event
        case customerType = "customer_type"
        case type
        case customerChannel = "customer_channel"
        case channel
        /// The user has said nothing.
        case catalogue
    }

    public var enabled: Bool
    public var reason: Reason

    public init(enabled: Bool, reason: Reason) {
        self.enabled = enabled
        self.reason = reason
    }

    /// The first word found wins, from the most particular to the least.
    ///
    /// - Parameters:
    ///   - own: what the user prefers in general.
    ///   - customer: what the user prefers as a member of the notification's customer.
    ///   - required: channels that nobody can turn off.
    ///   - byDefault: whether the channel gets it where the user says nothing.
    public init(
        _ channel: DeliveryChannel, type: String, event: String?, own: Preferences?, customer: Preferences?, required: Set<DeliveryChannel>, byDefault: Bool
    ) {
        func word(_ preferences: Preferences?, event: String) -> Bool? { preferences?.types[type]?.events[event]?[channel] }
        if required.contains(channel) {
            self.init(enabled: true, reason: .required)
        } else if let event, let word = word(customer, event: event) {
            self.init(enabled: word, reason: .customerEvent)
        } else if let event, let word = word(own, event: event) {
            self.init(enabled: word, reason: .event)
        } else if let word = customer?.types[type]?.channels[channel] {
            self.init(enabled: word, reason: .customerType)
        } else if let word = own?.types[type]?.channels[channel] {
            self.init(enabled: word, reason: .type)
        } else if let word = customer?.channels[channel] {
            self.init(enabled: word, reason: .customerChannel)
        } else if let word = own?.channels[channel] {
            self.init(enabled: word, reason: .channel)
        } else {
            self.init(enabled: byDefault, reason: .catalogue)
        }
    }
}
