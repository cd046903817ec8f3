/// What somebody is rid of by one click (RFC 8058): messages of a type by a channel.
public struct UnsubscribeScope: Sendable, Equatable {
    public var user: UserID
    public var channel: DeliveryChannel
    /// Nil: of all types.
    public var type: String?
    /// The message's; what the user said for this customer alone is changed too.
    public var customer: String?

    public init(user: UserID, channel: DeliveryChannel, type: String?, customer: String?) {
        self.user = user
        self.channel = channel
        self.type = type
        self.customer = customer
    }

    /// The preferences with that turned off. What was said of single events would come before it, so that is taken back.
    public func applied(to preferences: Preferences) -> Preferences {
        var changed = preferences
        guard let type else {
            changed.channels[self.channel] = false
            for name in changed.types.keys {
                changed.types[name]?.channels[self.channel] = nil
                self.clearEvents(of: name, &changed)
            }
            return changed
        }
        changed.types[type, default: Preferences.OfType()].channels[self.channel] = false
        self.clearEvents(of: type, &changed)
        return changed
    }

    private func clearEvents(of type: String, _ preferences: inout Preferences) {
        for event in preferences.types[type]?.events.keys.map({ $0 }) ?? [] {
            preferences.types[type]?.events[event]?[self.channel] = nil
            if preferences.types[type]?.events[event]?.isEmpty ?? false { preferences.types[type]?.events[event] = nil }
        }
        if preferences.types[type]?.isEmpty ?? false { preferences.types[type] = nil }
    }
}
