/// The notification types that a product knows, and their events.
public struct Catalogue: Sendable {
    /// How often e-mails go out to those who did not choose.
    public enum Digest: String, Sendable, CaseIterable {
        case immediate, hourly, daily
    }

    /// When an e-mail goes out.
    public struct EmailPolicy: Sendable, Equatable {
        /// After the notification. 0 to 30 days.
        public var delaySeconds: Int
        /// Not sent to those who have read the notification by then.
        public var unlessRead: Bool

        public init(delaySeconds: Int = 0, unlessRead: Bool = false) {
            self.delaySeconds = delaySeconds
            self.unlessRead = unlessRead
        }
    }

    /// The settings of an event, or of a type. In a catalogue an event's are complete: what it did not say, its type said.
    public struct Event: Sendable, Equatable {
        /// Where neither the request nor a template has one.
        public var title: String?
        public var level: Level?
        public var priority: Priority?
        /// For users without a preference.
        public var channels: Set<DeliveryChannel>?
        /// Those that nobody can turn off. An event's and its type's together.
        public var required: Set<DeliveryChannel>
        public var templates: Templates
        public var digest: Digest?
        public var email: EmailPolicy?

        public init(
            title: String? = nil, level: Level? = nil, priority: Priority? = nil, channels: Set<DeliveryChannel>? = nil,
            required: Set<DeliveryChannel> = [], templates: Templates = Templates(), digest: Digest? = nil, email: EmailPolicy? = nil
        ) {
            self.title = title
            self.level = level
            self.priority = priority
            self.channels = channels
            self.required = required
            self.templates = templates
            self.digest = digest
            self.email = email
        }

        /// What this does not say, `type` says. A text is taken whole, in all its locales: an event's own title, also without templates, goes
        /// before its type's templates for it.
        func completed(by type: Event) -> Event {
            var templates = self.templates
            for part in Templates.Part.allCases where templates[part] == nil {
                if part == .title, self.title != nil { continue }
                templates[part] = type.templates[part]
            }
            return Event(
                title: self.title ?? type.title, level: self.level ?? type.level, priority: self.priority ?? type.priority,
                channels: self.channels ?? type.channels, required: self.required.union(type.required), templates: templates,
                digest: self.digest ?? type.digest, email: self.email ?? type.email)
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

        /// The event's settings, complete; the type's where there is none.
        public func settings(of event: String?) -> Event {
            event.flatMap { self.events[$0] } ?? self.defaults
        }
    }

    /// The type of notifications that name none.
    public static let fallbackType = "SYSTEM"

    private let kinds: [String: Kind]

    /// Aliases and names must be distinct: the first one that repeats is named in the error.
    public init(_ kinds: [Kind]) throws(ValidationError) {
        var table: [String: Kind] = [:]
        for var kind in kinds {
            kind.events = kind.events.mapValues { $0.completed(by: kind.defaults) }
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
        self.kinds[type]?.settings(of: event).required ?? []
    }

    /// Channels by which it goes where neither the request nor the user says otherwise.
    public func channels(type: String, event: String?) -> Set<DeliveryChannel> {
        self.kinds[type]?.settings(of: event).channels ?? [.inApp]
    }

    /// How many events its types have.
    public var eventCount: Int { self.types.reduce(0) { $0 + (self.kinds[$1]?.events.count ?? 0) } }

    /// The locales that templates have texts for, besides the standard ones, in order.
    public var locales: [LocaleTag] {
        let all = self.kinds.values.flatMap { [$0.defaults] + $0.events.values }.flatMap { $0.templates.locales() }
        return Set(all).sorted { $0.description < $1.description }
    }
}
