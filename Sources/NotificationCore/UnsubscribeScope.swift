/// What somebody is rid of by one click (RFC 8058): messages of some types by a channel.
public struct UnsubscribeScope: Sendable, Equatable {
    public var user: UserID
    public var channel: DeliveryChannel
    /// None: of all types.
    public var types: [String]
    /// The messages'; what the user said for these customers alone is changed too.
    public var customers: [String]

    public init(user: UserID, channel: DeliveryChannel, types: [String], customers: [String]) {
        self.user = user
        self.channel = channel
        self.types = types
        self.customers = customers
    }

    /// All of these together, which are of one user and channel; nil of none.
    public init?(of scopes: [UnsubscribeScope]) {
        guard let first = scopes.first else { return nil }
        func sorted(_ names: [String]) -> [String] { Set(names.map { Array($0.utf8) }).sorted { $0.lexicographicallyPrecedes($1) }.map { String(decoding: $0, as: UTF8.self) } }
        self.init(
            user: first.user, channel: first.channel, types: scopes.contains { $0.types.isEmpty } ? [] : sorted(scopes.flatMap(\.types)),
            customers: sorted(scopes.flatMap(\.customers)))
    }

    /// The preferences with that turned off. What was said of single events would come before it, so that is taken back.
    public func applied(to preferences: Preferences) -> Preferences {
        var changed = preferences
        if self.types.isEmpty {
            changed.channels[self.channel] = false
            for name in changed.types.keys {
                changed.types[name]?.channels[self.channel] = nil
                self.clearEvents(of: name, &changed)
            }
            return changed
        }
        for type in self.types {
            changed.types[type, default: Preferences.OfType()].channels[self.channel] = false
            self.clearEvents(of: type, &changed)
        }
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
