/// The notification types that a product knows, and their events.
public struct Catalogue: Sendable {
    public struct Event: Sendable, Equatable {
        public var title: String?
        public var level: Level?
        public var priority: Priority?
        public var channels: Set<DeliveryChannel>?
        public var required: Set<DeliveryChannel> = []

        public init(title: String? = nil, level: Level? = nil, priority: Priority? = nil, channels: Set<DeliveryChannel>? = nil) {
            self.title = title
            self.level = level
            self.priority = priority
            self.channels = channels
        }
    }

    public struct Kind: Sendable, Equatable {
        public var name: String
        public var aliases: [String]
        /// What holds for the type where no event says otherwise.
        public var defaults: Event
        public var events: [String: Event]

        public init(name: String, aliases: [String] = [], defaults: Event = Event(), events: [String: Event] = [:]) {
            self.name = name
            self.aliases = aliases
            self.defaults = defaults
            self.events = events
        }
    }

    /// The type of notifications that name none.
    public static let fallbackType = "SYSTEM"

    private let kinds: [String: Kind]

    /// Aliases and names must be distinct: the first one that repeats is named in the error.
    public init(_ kinds: [Kind]) throws(ValidationError) {
        var table: [String: Kind] = [:]
        for kind in kinds {
            for name in [kind.name] + kind.aliases where table.updateValue(kind, forKey: name) != nil {
                throw ValidationError("/types/\(name)", "this name or alias stands twice")
            }
        }
        if table[Self.fallbackType] == nil { table[Self.fallbackType] = Kind(name: Self.fallbackType) }
        self.kinds = table
    }

    public subscript(name: String) -> Kind? { self.kinds[name] }

    public var types: [String] { Set(self.kinds.values.map(\.name)).sorted() }

    /// Channels of that type or event that nobody can turn off.
    public func required(type: String, event: String?) -> Set<DeliveryChannel> {
        guard let kind = self.kinds[type] else { return [] }
        return kind.defaults.required.union(event.flatMap { kind.events[$0]?.required } ?? [])
    }

    /// Channels by which it goes where neither the request nor the user says otherwise.
    public func channels(type: String, event: String?) -> Set<DeliveryChannel> {
        let kind = self.kinds[type]
        return event.flatMap { kind?.events[$0]?.channels } ?? kind?.defaults.channels ?? [.inApp]
    }
}
