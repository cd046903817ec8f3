/// What a client sends about preferences, checked against the catalogue and brought to the names under which it is stored. Null stays null, so that
/// it can be merged into what is there (RFC 7396); merged into nothing it is a whole new set.
///
/// Synonyms: `inApp` for `in_app`; channels at the top, beside or in place of `channels`; `categories` for `types`; a boolean for a type, an
/// event or `channels`: all channels; aliases of types.
public struct PreferencesPatch: Sendable {
    public let json: JSONValue

    /// - Throws: ``ValidationError``: every member that is wrong; its code is that of the first one.
    public init(_ json: JSONValue, catalogue: Catalogue) throws(ValidationError) {
        guard case .object(let members) = json else { throw ValidationError("", "the body must be an object") }
        var reader = Reader(catalogue: catalogue)
        self.json = reader.preferences(members)
        if !reader.errors.isEmpty { throw ValidationError(code: reader.code, errors: reader.errors) }
    }

    /// - Throws: ``ValidationError`` when what comes of it is no longer whole (quiet hours without an end), or too large.
    public func applied(to stored: Preferences) throws(ValidationError) -> Preferences {
        let preferences = try Preferences(normalised: stored.json.merging(self.json))
        if preferences.json.encoded.count > Preferences.maximumBytes {
            throw ValidationError("", "preferences may have at most \(Preferences.maximumBytes) bytes")
        }
        return preferences
    }
}

extension PreferencesPatch {
    private struct Reader {
        /// Enough to see what is wrong.
        private static let errorBound = 20

        let catalogue: Catalogue
        var errors: [FieldError] = []
        var code = ValidationError.Code.invalidBody

        mutating func fail(_ pointer: String, _ detail: String, _ code: ValidationError.Code = .invalidBody) {
            if self.errors.isEmpty { self.code = code }
            if self.errors.count < Self.errorBound { self.errors.append(FieldError(pointer: pointer, detail: detail)) }
        }

        mutating func preferences(_ members: [(name: String, value: JSONValue)]) -> JSONValue {
            var patch = JSONPatchBuilder()
            for (name, value) in members where self.errors.count < Self.errorBound {
                let pointer = "/" + Self.escape(name)
                switch name {
                case "channels": patch.add("channels", self.channels(value, pointer))
                case "types", "categories": patch.add("types", self.types(value, pointer))
                case "quiet_hours": patch.add(name, self.quietHours(value, pointer))
                case "digest": patch.add(name, self.digest(value, pointer))
                default:
                    guard let word = self.word(name, value, pointer) else { continue }
                    patch.add("channels", .object([word]))
                }
            }
            return patch.json
        }

        /// A channel's name and yes, no, or null.
        private mutating func word(_ name: String, _ value: JSONValue, _ pointer: String) -> (name: String, value: JSONValue)? {
            guard let channel = name == "inApp" ? .inApp : DeliveryChannel(rawValue: name), channel != .webhook else {
                let names = DeliveryChannel.ofUsers.map(\.rawValue).joined(separator: ", ")
                let detail = name == DeliveryChannel.webhook.rawValue ? "webhooks do not depend on what users prefer" : "must be one of " + names
                self.fail(pointer, detail, .invalidChannel)
                return nil
            }
            switch value {
            case .bool, .null: return (channel.rawValue, value)
            case .number, .string, .array, .object:
                self.fail(pointer, "must be true or false")
                return nil
            }
        }

        private mutating func channels(_ value: JSONValue, _ pointer: String) -> JSONValue {
            switch value {
            case .null: return .null
            case .bool: return .object(DeliveryChannel.ofUsers.map { ($0.rawValue, value) })
            case .object(let members):
                var patch = JSONPatchBuilder()
                for (name, value) in members where self.errors.count < Self.errorBound {
                    if let word = self.word(name, value, "\(pointer)/\(Self.escape(name))") { patch.add(word.name, word.value) }
                }
                return patch.json
            case .number, .string, .array:
                self.fail(pointer, "must be an object of channels, or one boolean for all of them")
                return .null
            }
        }

        private mutating func types(_ value: JSONValue, _ pointer: String) -> JSONValue {
            guard case .object(let members) = value else {
                if value != .null { self.fail(pointer, "must be an object of types") }
                return .null
            }
            var patch = JSONPatchBuilder()
            for (name, value) in members where self.errors.count < Self.errorBound {
                let pointer = "\(pointer)/\(Self.escape(name))"
                guard let kind = self.catalogue[name] else {
                    self.fail(pointer, "not in the catalogue", .invalidGroup)
                    continue
                }
                patch.add(kind.name, self.type(kind, value, pointer))
            }
            return patch.json
        }

        private mutating func type(_ kind: Catalogue.Kind, _ value: JSONValue, _ pointer: String) -> JSONValue {
            switch value {
            case .null: return .null
            case .bool: return .object([("channels", self.channels(value, pointer))])
            case .number, .string, .array:
                self.fail(pointer, "must be an object with channels and events, or one boolean for all channels")
                return .null
            case .object(let members):
                var patch = JSONPatchBuilder()
                for (name, value) in members where self.errors.count < Self.errorBound {
                    let pointer = "\(pointer)/\(Self.escape(name))"
                    switch name {
                    case "channels": patch.add(name, self.channels(value, pointer))
                    case "events": patch.add(name, self.events(kind, value, pointer))
                    default:
                        if let word = self.word(name, value, pointer) { patch.add("channels", .object([word])) }
                    }
                }
                return patch.json
            }
        }

        private mutating func events(_ kind: Catalogue.Kind, _ value: JSONValue, _ pointer: String) -> JSONValue {
            guard case .object(let members) = value else {
                if value != .null { self.fail(pointer, "must be an object of events") }
                return .null
            }
            var patch = JSONPatchBuilder()
            for (name, value) in members where self.errors.count < Self.errorBound {
                let pointer = "\(pointer)/\(Self.escape(name))"
                guard kind.events[name] != nil else {
                    self.fail(pointer, "not an event of this type", .invalidEvent)
                    continue
                }
                // As for types, the channels may stand in a member of their own.
                if case .object(let own) = value, own.count == 1, own[0].name == "channels" {
                    patch.add(name, self.channels(own[0].value, "\(pointer)/channels"))
                } else {
                    patch.add(name, self.channels(value, pointer))
                }
            }
            return patch.json
        }

        private mutating func quietHours(_ value: JSONValue, _ pointer: String) -> JSONValue {
            guard case .object(let members) = value else {
                if value != .null { self.fail(pointer, "must be an object with start, end and timezone") }
                return .null
            }
            for (name, value) in members where self.errors.count < Self.errorBound {
                let pointer = "\(pointer)/\(Self.escape(name))"
                switch (name, value) {
                case ("start", .null), ("end", .null), ("timezone", .null): break
                case ("start", .string(let text)), ("end", .string(let text)):
                    if TimeOfDay.parse(text) == nil { self.fail(pointer, "must be a time from 00:00 to 23:59") }
                case ("timezone", .string(let text)):
                    if TimeZoneName(text) == nil { self.fail(pointer, "must be the name of a time zone, such as Europe/Paris") }
                case ("start", _), ("end", _), ("timezone", _): self.fail(pointer, "must be a string")
                default: self.fail(pointer, "must be start, end or timezone")
                }
            }
            return value
        }

        private mutating func digest(_ value: JSONValue, _ pointer: String) -> JSONValue {
            guard case .object(let members) = value else {
                if value != .null { self.fail(pointer, "must be an object") }
                return .null
            }
            for (name, value) in members where self.errors.count < Self.errorBound {
                let pointer = "\(pointer)/\(Self.escape(name))"
                if name != DeliveryChannel.email.rawValue {
                    self.fail(pointer, "only e-mails are gathered", .invalidChannel)
                } else if value != .null, value.string.flatMap(Preferences.Digest.init(rawValue:)) == nil {
                    self.fail(pointer, "must be one of " + Preferences.Digest.allCases.map(\.rawValue).joined(separator: ", "))
                }
            }
            return value
        }

        /// A reference token of a JSON pointer (RFC 6901, 3). Of a name that nobody would give, the beginning.
        private static func escape(_ name: String) -> String {
            String(name.prefix(OpaqueID.maximumLength)).split(separator: "~", omittingEmptySubsequences: false).joined(separator: "~0")
                .split(separator: "/", omittingEmptySubsequences: false).joined(separator: "~1")
        }
    }

    /// Members that may come by several names: what comes later is merged into what came before, null included.
    private struct JSONPatchBuilder {
        private var members: [(name: String, value: JSONValue)] = []

        var json: JSONValue { .object(self.members) }

        mutating func add(_ name: String, _ value: JSONValue) {
            guard let index = self.members.firstIndex(where: { $0.name.utf8.elementsEqual(name.utf8) }) else {
                self.members.append((name, value))
                return
            }
            self.members[index].value = Self.composed(self.members[index].value, value)
        }

        /// One patch that does what the two do one after the other, as far as objects go.
        private static func composed(_ first: JSONValue, _ second: JSONValue) -> JSONValue {
            guard case .object = first, case .object(let later) = second else { return second }
            var builder = JSONPatchBuilder()
            if case .object(let earlier) = first { builder.members = earlier }
            for (name, value) in later { builder.add(name, value) }
            return builder.json
        }
    }
}

extension Preferences {
    /// As they are stored. Types and events that the catalogue has lost since are kept.
    public init(stored text: String) throws(ValidationError) {
        let parsed = Result { () throws(JSONError) in try JSONParser.parse(Array(text.utf8)) }
        guard case .success(let json) = parsed else { throw ValidationError("", "stored preferences are not JSON") }
        try self.init(normalised: json, isStored: true)
    }

    /// - Parameter isStored: what another version of the service has written, and this one does not know, is left out: it must not cost the user all
    ///   the rest.
    /// - Throws: ``ValidationError`` where a member is not as ``json`` would have it, or quiet hours are not whole.
    fileprivate init(normalised json: JSONValue, isStored: Bool = false) throws(ValidationError) {
        self.init()
        self.channels = try Self.words(json["channels"], "/channels", isStored)
        for (name, value) in Self.members(json["types"]) {
            var type = OfType()
            type.channels = try Self.words(value["channels"], "/types/channels", isStored)
            for (event, value) in Self.members(value["events"]) {
                let words = try Self.words(value, "/types/events", isStored)
                if !words.isEmpty { type.events[event] = words }
            }
            if !type.isEmpty { self.types[name] = type }
        }
        if let hours = json["quiet_hours"], hours != .null { self.quietHours = try Self.quietHours(hours, isStored) }
        if let digest = json["digest"]?["email"]?.string { self.emailDigest = Digest(rawValue: digest) }
    }

    private static func members(_ json: JSONValue?) -> [(name: String, value: JSONValue)] {
        guard case .object(let members)? = json else { return [] }
        return members
    }

    private static func words(_ json: JSONValue?, _ pointer: String, _ isStored: Bool) throws(ValidationError) -> Words {
        var words = Words()
        for (name, value) in self.members(json) where value != .null {
            let known = DeliveryChannel(rawValue: name)
            if known == nil, isStored { continue }
            guard let channel = known, case .bool(let yes) = value else {
                throw ValidationError(pointer, "must be channels with true or false")
            }
            words[channel] = yes
        }
        return words
    }

    private static func quietHours(_ json: JSONValue, _ isStored: Bool) throws(ValidationError) -> QuietHours? {
        let members = self.members(json).filter { $0.value != .null }
        if members.isEmpty { return nil }
        guard let start = json["start"]?.string.flatMap(TimeOfDay.parse) else { throw ValidationError("/quiet_hours/start", "is required") }
        guard let end = json["end"]?.string.flatMap(TimeOfDay.parse) else { throw ValidationError("/quiet_hours/end", "is required") }
        var zone: TimeZoneName?
        if let name = json["timezone"]?.string {
            zone = TimeZoneName(name)
            if zone == nil, !isStored { throw ValidationError("/quiet_hours/timezone", "must be the name of a time zone, such as Europe/Paris") }
        }
        guard let hours = QuietHours(start: start, end: end, zone: zone) else { throw ValidationError("/quiet_hours/end", "must differ from start") }
        return hours
    }
}
