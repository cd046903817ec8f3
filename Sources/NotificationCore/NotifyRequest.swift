/// What the application asks for: one notification, for these users. A value of this type is valid.
public struct NotifyRequest: Sendable {
    /// Bounds of the fields. Lengths are in Unicode scalars unless they say bytes.
    public struct Limits: Sendable {
        public var title = 200
        public var content = 4000
        public var link = 2000
        public var dataBytes = 8 * 1024
        public var users = 10_000
        public var name = 128

        public init() {}
    }

    /// Empty for a broadcast, and when they come apart.
    public var users: [UserID]
    /// Every connected client; only of a direct event.
    public var broadcast = false
    public var type: String
    public var event: String?
    public var level: Level
    public var priority: Priority
    public var title: String
    public var content: String?
    public var linkURL: String?
    public var linkText: String?
    public var customer: CustomerID?
    public var recType: String?
    public var recID: String?
    /// Compact JSON of an object.
    public var data: [UInt8]?
    public var channels: Set<DeliveryChannel>
    /// The request itself named them: no other channel is asked for, whatever a user prefers.
    public var namesChannels: Bool
    /// Channels that nobody can turn off, by the catalogue.
    public var required: Set<DeliveryChannel>
    public var deliverAt: Timestamp?
    public var expiresAt: Timestamp?
    public var collapseKey: String?
    public var templateData: JSONValue?

    /// What the templates made for locales of their own; empty when the text does not depend on its reader.
    private var translations: [LocaleTag: Wording] = [:]
    /// The event's, for the texts of e-mails and SMS.
    let templates: Templates
    /// When its e-mails go out, by the catalogue.
    public var emailPolicy: Catalogue.EmailPolicy
    /// How they are gathered for those who did not choose.
    public var emailDigest: Catalogue.Digest

    /// What is asked for: a stored notification, or an event that is sent now or never.
    public enum Kind: Sendable {
        case stored
        case direct
        /// A stored notification whose users come apart from it.
        case apart
    }

    private static let usual: Set<DeliveryChannel> = [.inApp]

    /// - Throws: ``ValidationError`` that names every field that is wrong.
    public init(json: JSONValue, kind request: Kind = .stored, catalogue: Catalogue, now: Timestamp, limits: Limits = Limits()) throws(ValidationError) {
        guard case .object = json else { throw ValidationError("", "the body must be an object") }
        var reader = FieldReader(json)

        if request == .direct { self.broadcast = reader.flag("broadcast") ?? false }
        if self.broadcast {
            self.users = []
            reader.refuse(["user_ids", "user_id", "userId"], "a broadcast is for every connected client")
        } else if request == .apart {
            self.users = []
            reader.refuse(["user_ids", "user_id", "userId"], "the users come apart from this")
        } else {
            self.users = reader.users("user_ids", "user_id", "userId", limit: limits.users)
        }
        if request == .direct { reader.refuse(["deliver_at", "collapse_key"], "a direct event is sent at once and not stored") }
        let typeName = reader.name("type", limit: limits.name)
        self.event = reader.name("event", limit: limits.name)
        var level = reader.choice("level", Level.init(name:), Level.allCases.map(\.name))
        let priority = reader.choice("priority", Priority.init(name:), Priority.allCases.map(\.name))
        let given = Wording(
            title: reader.text("title", limit: limits.title, multiline: false),
            content: reader.text("content", "body", limit: limits.content, multiline: true),
            linkURL: reader.text("link_url", "link", limit: limits.link, multiline: false, cleaned: false),
            linkText: reader.text("link_text", limit: limits.title, multiline: false))
        self.customer = reader.identifier("customer_id")
        self.recType = reader.name("rec_type", limit: limits.name)
        self.recID = reader.name("rec_id", limit: limits.name)
        self.collapseKey = reader.name("collapse_key", limit: limits.name)
        self.data = reader.object("data", bytes: limits.dataBytes)
        _ = reader.object("template_data", bytes: limits.dataBytes)
        self.templateData = json["template_data"].flatMap { $0 == .null ? nil : $0 }
        self.deliverAt = reader.time("deliver_at")
        self.expiresAt = reader.time("expires_at")
        let channels = reader.channels("channels")

        if let link = given.linkURL, !TextRules.isAllowedLink(link) {
            reader.fail("link_url", "must be http, https, mailto or a path of the site")
        }
        if let expires = self.expiresAt, expires <= max(now, self.deliverAt ?? now) {
            reader.fail("expires_at", "must lie after now and after deliver_at")
        }

        // A level's name as type, that no type of the catalogue has, means that level.
        var kind = catalogue[typeName ?? Catalogue.fallbackType]
        if kind == nil, let typeName, let named = Level(name: typeName) {
            level = level ?? named
            kind = catalogue[Catalogue.fallbackType]
        }
        if reader.errors.isEmpty {
            guard let kind else { throw ValidationError("/type", "not in the catalogue", code: .invalidGroup) }
            if let event = self.event, kind.events[event] == nil {
                throw ValidationError("/event", "not an event of this type", code: .invalidEvent)
            }
        }
        let settings = kind?.settings(of: self.event) ?? Catalogue.Event()
        self.type = kind?.name ?? Catalogue.fallbackType
        self.level = level ?? settings.level ?? .info
        self.priority = priority ?? settings.priority ?? .medium
        self.channels = channels ?? settings.channels ?? Self.usual
        self.namesChannels = channels != nil
        self.required = settings.required
        self.templates = settings.templates
        self.emailPolicy = settings.email ?? Catalogue.EmailPolicy()
        self.emailDigest = settings.digest ?? .immediate
        var words = WordingRenderer(given: given, settings: settings, data: self.templateData ?? .object([]), limits: limits)
        // With other errors the data may be anything, and whether a template makes a title of them is not known.
        let isSound = reader.errors.isEmpty
        let standard = isSound ? words.render(nil) : given
        (self.title, self.content) = (standard.title ?? settings.title ?? "", standard.content)
        (self.linkURL, self.linkText) = (standard.linkURL, standard.linkText)
        // A direct event is one message for all.
        if isSound, request != .direct { self.translations = words.translations(of: standard) }
        for error in words.errors { reader.fail(error) }
        if self.title.isEmpty, words.errors.isEmpty, isSound || settings.templates[.title] == nil, !reader.failed("title") { reader.fail("title", "is required") }
        if !reader.errors.isEmpty { throw ValidationError(code: reader.code, errors: reader.errors) }
    }

    /// False when ``localized(_:)`` is the same for every reader, so that one encoded body serves all.
    public var isTranslated: Bool { !self.translations.isEmpty }

    /// Which of the texts a reader with this locale gets; nil is the standard one. Readers with the same answer get the same body.
    public func translation(for locale: String?) -> LocaleTag? {
        if self.translations.isEmpty { return nil }
        var next = locale.flatMap { LocaleTag($0) }
        while let tag = next {
            if self.translations[tag] != nil { return tag }
            next = tag.parent
        }
        return nil
    }

    /// The request with title, content and link for a reader with this locale: `pt-BR`, else `pt`, else the standard. Nothing is rendered here: all was,
    /// and checked, when the request was read.
    public func localized(_ locale: String?) -> NotifyRequest {
        guard let wording = self.translation(for: locale).flatMap({ self.translations[$0] }) else { return self }
        var request = self
        request.title = wording.title ?? self.title
        (request.content, request.linkURL, request.linkText) = (wording.content, wording.linkURL, wording.linkText)
        return request
    }

    /// The members of the notification's JSON that never change, without braces: encoded once for all recipients, stored as it is, and
    /// spliced into every frame and answer.
    public func encodeBody(createdAt: Timestamp) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(self.typicalBytes)
        self.appendBody(createdAt: createdAt, to: &bytes)
        return bytes
    }

    /// More than most bodies have, and not much more.
    public var typicalBytes: Int { 400 + self.title.utf8.count + (self.content?.utf8.count ?? 0) + (self.data?.count ?? 0) }

    func appendBody(createdAt: Timestamp, to bytes: inout [UInt8]) {
        bytes.append(ascii: "\"type\":")
        bytes.append(json: self.type)
        bytes.append(ascii: ",\"event\":")
        bytes.append(json: self.event)
        bytes.append(ascii: ",\"level\":\"")
        bytes.append(contentsOf: self.level.name.utf8)
        bytes.append(ascii: "\",\"priority\":\"")
        bytes.append(contentsOf: self.priority.name.utf8)
        bytes.append(ascii: "\",\"title\":")
        bytes.append(json: self.title)
        bytes.append(ascii: ",\"content\":")
        bytes.append(json: self.content)
        bytes.append(ascii: ",\"link_url\":")
        bytes.append(json: self.linkURL)
        bytes.append(ascii: ",\"link_text\":")
        bytes.append(json: self.linkText)
        bytes.append(ascii: ",\"customer_id\":")
        bytes.append(json: self.customer?.value)
        bytes.append(ascii: ",\"rec_type\":")
        bytes.append(json: self.recType)
        bytes.append(ascii: ",\"rec_id\":")
        bytes.append(json: self.recID)
        bytes.append(ascii: ",\"data\":")
        if let data { bytes.append(contentsOf: data) } else { bytes.append(ascii: "null") }
        bytes.append(ascii: ",\"created_at\":\"")
        createdAt.append(to: &bytes)
        bytes.append(ascii: "\",\"expires_at\":")
        if let expiresAt {
            bytes.append(UInt8(ascii: "\""))
            expiresAt.append(to: &bytes)
            bytes.append(UInt8(ascii: "\""))
        } else {
            bytes.append(ascii: "null")
        }
    }
}

/// Takes fields out of a JSON object and collects what is wrong with them.
struct FieldReader {
    private let json: JSONValue
    private(set) var errors: [FieldError] = []
    private(set) var code = ValidationError.Code.invalidBody

    init(_ json: JSONValue) {
        self.json = json
    }

    mutating func fail(_ name: String, _ detail: String) {
        self.fail(FieldError(pointer: "/" + name, detail: detail))
    }

    /// Enough to see what is wrong: an answer is not larger than its request.
    private static let errorBound = 20

    mutating func fail(_ error: FieldError) {
        if self.errors.count < Self.errorBound { self.errors.append(error) }
    }

    func failed(_ name: String) -> Bool {
        self.errors.contains { $0.pointer == "/" + name }
    }

    private func find(_ name: String) -> JSONValue? {
        guard let value = self.json[name] else { return nil }
        if case .null = value { return nil }
        return value
    }

    /// The first of the names that is there and not null.
    private func find(_ name: String, _ other: String?) -> (name: String, value: JSONValue)? {
        if let value = self.find(name) { return (name, value) }
        guard let other, let value = self.find(other) else { return nil }
        return (other, value)
    }

    private mutating func string(_ name: String, _ other: String? = nil) -> (name: String, value: String)? {
        guard let (name, value) = self.find(name, other) else { return nil }
        guard case .string(let string) = value else {
            self.fail(name, "must be a string")
            return nil
        }
        return (name, string)
    }

    mutating func text(_ name: String, _ other: String? = nil, limit: Int, multiline: Bool, cleaned: Bool = true) -> String? {
        guard let (name, raw) = self.string(name, other) else { return nil }
        let text = cleaned ? TextRules.clean(raw, multiline: multiline) : raw
        if text.utf8.count > limit, text.unicodeScalars.count > limit {
            self.fail(name, "must have at most \(limit) characters")
            return nil
        }
        return text
    }

    /// A short word for machines: no control characters, not empty.
    mutating func name(_ name: String, limit: Int) -> String? {
        guard let (_, text) = self.string(name) else { return nil }
        if text.isPrintable, (1...limit).contains(text.utf8.count) { return text }
        if text.isEmpty || text.unicodeScalars.count > limit || text.unicodeScalars.contains(where: \.isControl) {
            self.fail(name, "must have 1 to \(limit) characters, none of them a control character")
            return nil
        }
        return text
    }

    mutating func identifier(_ name: String) -> OpaqueID? {
        guard let (_, text) = self.string(name) else { return nil }
        guard let id = OpaqueID(text) else {
            self.fail(name, "must have 1 to \(OpaqueID.maximumLength) characters, none of them a control character")
            return nil
        }
        return id
    }

    mutating func choice<Value>(_ name: String, _ parse: (String) -> Value?, _ all: [String]) -> Value? {
        guard let (_, text) = self.string(name) else { return nil }
        guard let value = parse(text) else {
            self.fail(name, "must be one of " + all.joined(separator: ", "))
            return nil
        }
        return value
    }

    mutating func time(_ name: String) -> Timestamp? {
        guard let (_, text) = self.string(name) else { return nil }
        guard let time = Timestamp(text) else {
            self.fail(name, "must be an RFC 3339 time")
            return nil
        }
        return time
    }

    mutating func flag(_ name: String) -> Bool? {
        guard let value = self.find(name) else { return nil }
        guard case .bool(let flag) = value else {
            self.fail(name, "must be true or false")
            return nil
        }
        return flag
    }

    mutating func refuse(_ names: [String], _ detail: String) {
        for name in names where self.find(name) != nil { self.fail(name, detail) }
    }

    mutating func object(_ name: String, bytes limit: Int) -> [UInt8]? {
        guard let value = self.find(name) else { return nil }
        guard case .object = value else {
            self.fail(name, "must be an object")
            return nil
        }
        let encoded = value.encoded
        if encoded.count > limit {
            self.fail(name, "must have at most \(limit) bytes")
            return nil
        }
        return encoded
    }

    mutating func channels(_ name: String) -> Set<DeliveryChannel>? {
        guard let value = self.find(name) else { return nil }
        guard case .array(let values) = value, !values.isEmpty, values.count <= 100 else {
            self.fail(name, "must be an array of 1 to 100 channels")
            return nil
        }
        var channels: Set<DeliveryChannel> = []
        for (index, value) in values.enumerated() {
            guard case .string(let text) = value, let channel = DeliveryChannel(rawValue: text) else {
                if self.errors.isEmpty { self.code = .invalidChannel }
                self.fail("\(name)/\(index)", "must be one of " + DeliveryChannel.allCases.map(\.rawValue).joined(separator: ", "))
                continue
            }
            channels.insert(channel)
        }
        return channels
    }

    /// One id or many; doubles count once. In the order of the request.
    mutating func users(_ many: String, _ one: String, _ other: String, limit: Int) -> [UserID] {
        var list: [JSONValue] = []
        if let value = self.find(many) {
            guard case .array(let values) = value else {
                self.fail(many, "must be an array")
                return []
            }
            list = values
        }
        let single = self.find(one, other)
        if list.isEmpty, single == nil {
            self.fail(many, "needs at least one user")
            return []
        }
        var seen: Set<UserID> = []
        var users: [UserID] = []
        users.reserveCapacity(min(list.count + 1, limit))
        for index in 0..<list.count + (single == nil ? 0 : 1) {
            guard case .string(let text) = index < list.count ? list[index] : single?.value, let user = UserID(text) else {
                let pointer = index < list.count ? "\(many)/\(index)" : single?.name ?? many
                self.fail(pointer, "must be a string of 1 to \(OpaqueID.maximumLength) characters, none of them a control character")
                if self.errors.count > 20 { return [] }
                continue
            }
            // One alone has no double.
            if list.count + (single == nil ? 0 : 1) > 1, !seen.insert(user).inserted { continue }
            if users.count == limit {
                self.fail(many, "must have at most \(limit) users")
                return []
            }
            users.append(user)
        }
        return users
    }
}
