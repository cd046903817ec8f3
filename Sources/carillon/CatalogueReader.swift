import NotificationCore
import Yams

/// Makes a catalogue of a YAML text, and collects everything that is wrong with it. Nothing is left out in silence: a key that is not known is a
/// fault, and so is a value of another kind than the key takes.
struct CatalogueReader {
    private(set) var faults: [CatalogueError.Fault] = []

    /// Nil when nothing could be made of it; else without what is wrong.
    mutating func read(_ yaml: String) -> Catalogue? {
        let document = YAMLDocument(yaml)
        self.faults += document.faults
        guard let root = document.root, let fields = self.mapping(root, "") else { return nil }
        var kinds: [Catalogue.Kind] = []
        // Where each name or alias stands first. A name that repeats is told of by its mapping.
        var names: [String: Int] = [:]
        var aliases: [(text: String, node: Node, pointer: String)] = []
        for (name, value) in fields {
            guard name.text == "types" else {
                self.fail(name.node, Self.join("", name.text), "is not known; there is only: types")
                continue
            }
            for (name, value) in self.mapping(value, "/types") ?? [] {
                let pointer = Self.join("/types", name.text)
                guard self.isWord(name, pointer) else { continue }
                names[name.text] = Self.line(name.node)
                kinds.append(self.kind(name.text, value, pointer, &aliases))
            }
        }
        if !fields.contains(where: { $0.key.text == "types" }) { self.fail(root, "/types", "is missing") }
        for alias in aliases {
            if let line = names[alias.text] {
                self.fail(alias.node, alias.pointer, "is a name or alias already, in line \(line)")
            } else {
                names[alias.text] = Self.line(alias.node)
            }
        }
        if !self.faults.isEmpty { return nil }
        do {
            return try Catalogue(kinds)
        } catch {
            for error in error.errors { self.fail(root, error.pointer, error.detail) }
            return nil
        }
    }

    private mutating func kind(
        _ name: String, _ node: Node, _ pointer: String, _ aliases: inout [(text: String, node: Node, pointer: String)]
    ) -> Catalogue.Kind {
        var kind = Catalogue.Kind(name: name)
        let pairs = self.mapping(node, pointer, orNothing: true) ?? []
        for (key, value) in self.settings(pairs, pointer, &kind.defaults) {
            let pointer = Self.join(pointer, key.text)
            switch key.text {
            case "aliases":
                for (index, entry) in (self.sequence(value, pointer) ?? []).enumerated() {
                    let pointer = "\(pointer)/\(index)"
                    guard let alias = self.text(entry, pointer), self.isWord((alias, entry), pointer) else { continue }
                    kind.aliases.append(alias)
                    aliases.append((alias, entry, pointer))
                }
            case "events":
                for (name, value) in self.mapping(value, pointer, orNothing: true) ?? [] {
                    let pointer = Self.join(pointer, name.text)
                    guard self.isWord(name, pointer) else { continue }
                    kind.events[name.text] = self.event(value, pointer)
                }
            default: self.fail(key.node, pointer, "is no setting of a type; there are: aliases, events, \(Self.settingNames)")
            }
        }
        return kind
    }

    private mutating func event(_ node: Node, _ pointer: String) -> Catalogue.Event {
        var event = Catalogue.Event()
        let pairs = self.mapping(node, pointer, orNothing: true) ?? []
        for (key, _) in self.settings(pairs, pointer, &event) {
            self.fail(key.node, Self.join(pointer, key.text), "is no setting of an event; there are: \(Self.settingNames)")
        }
        return event
    }

    private static let settingNames = "title, level, priority, channels, required, templates, digest, email"

    /// Reads what types and events have in common, and answers the pairs that are none of it.
    private mutating func settings(_ pairs: [Pair], _ pointer: String, _ event: inout Catalogue.Event) -> [Pair] {
        var others: [Pair] = []
        for pair in pairs {
            let (node, pointer) = (pair.value, Self.join(pointer, pair.key.text))
            switch pair.key.text {
            case "title": event.title = self.title(node, pointer)
            case "level": event.level = self.choice(node, pointer, Level.init(name:), Level.allCases.map(\.name))
            case "priority": event.priority = self.choice(node, pointer, Priority.init(name:), Priority.allCases.map(\.name))
            case "channels": event.channels = self.channels(node, pointer)
            case "required": event.required = self.channels(node, pointer)
            case "templates": event.templates = self.templates(node, pointer, besideTitle: pairs.contains { $0.key.text == "title" })
            case "digest": event.digest = self.digest(node, pointer)
            case "email": event.email = self.emailPolicy(node, pointer)
            default: others.append(pair)
            }
        }
        return others
    }

    private mutating func title(_ node: Node, _ pointer: String) -> String? {
        guard let text = self.text(node, pointer) else { return nil }
        let limit = NotifyRequest.Limits().title
        guard (1...limit).contains(text.unicodeScalars.count), TextRules.clean(text, multiline: false).utf8.elementsEqual(text.utf8) else {
            self.fail(node, pointer, "must be one line of 1 to \(limit) characters, none of them a control character")
            return nil
        }
        return text
    }

    private mutating func digest(_ node: Node, _ pointer: String) -> Catalogue.Digest? {
        var digest: Catalogue.Digest?
        for (key, value) in self.mapping(node, pointer) ?? [] {
            let pointer = Self.join(pointer, key.text)
            if key.text == "email" {
                digest = self.choice(value, pointer, { Catalogue.Digest(rawValue: $0) }, Catalogue.Digest.allCases.map(\.rawValue))
            } else {
                self.fail(key.node, pointer, "is not known; there is only: email")
            }
        }
        return digest
    }

    private mutating func channels(_ node: Node, _ pointer: String) -> Set<DeliveryChannel> {
        var channels: Set<DeliveryChannel> = []
        for (index, entry) in (self.sequence(node, pointer) ?? []).enumerated() {
            let pointer = "\(pointer)/\(index)"
            guard let channel = self.choice(entry, pointer, { DeliveryChannel(rawValue: $0) }, DeliveryChannel.allCases.map(\.rawValue)) else { continue }
            if !channels.insert(channel).inserted { self.fail(entry, pointer, "stands twice") }
        }
        return channels
    }

    private mutating func emailPolicy(_ node: Node, _ pointer: String) -> Catalogue.EmailPolicy? {
        guard let fields = self.mapping(node, pointer) else { return nil }
        var policy = Catalogue.EmailPolicy()
        for (key, value) in fields {
            let pointer = Self.join(pointer, key.text)
            switch key.text {
            case "delay":
                guard case .scalar(let scalar) = value, scalar.string.last?.isLetter == true, let seconds = Token.seconds(scalar.string),
                    seconds <= 30 * 86_400
                else {
                    self.fail(value, pointer, "must be a time such as 90s, 10m, 2h or 1d, at most 30d")
                    continue
                }
                policy.delaySeconds = seconds
            case "unless":
                if self.choice(value, pointer, { $0 == "read" ? true : nil }, ["read"]) != nil { policy.unlessRead = true }
            default: self.fail(key.node, pointer, "is not known; there are: delay, unless")
            }
        }
        if policy.unlessRead, !fields.contains(where: { $0.key.text == "delay" }) {
            self.fail(node, pointer, "needs a delay: nobody has read a notification when it is made")
        }
        return policy
    }

    // MARK: - Templates

    private mutating func templates(_ node: Node, _ pointer: String, besideTitle: Bool) -> Templates {
        var templates = Templates()
        // The first translation of each part, which then needs a standard text.
        var translated: [Templates.Part: (node: Node, pointer: String)] = [:]
        var seen: [LocaleTag: Int] = [:]
        for (key, value) in self.mapping(node, pointer) ?? [] {
            let pointer = Self.join(pointer, key.text)
            var locale: LocaleTag?
            if key.text != "default" {
                guard let tag = LocaleTag(key.text) else {
                    self.fail(key.node, pointer, "is no locale: default, or such as en or pt-BR")
                    continue
                }
                if let line = seen.updateValue(Self.line(key.node), forKey: tag) { self.fail(key.node, pointer, "stands twice: also in line \(line)") }
                locale = tag
            }
            for (part, node, pointer) in self.parts(value, pointer) {
                guard let template = self.template(node, pointer, part.kind) else { continue }
                var all = templates[part] ?? LocalizedTemplate(standard: nil)
                if let locale {
                    all.translations[locale] = template
                    if translated[part] == nil { translated[part] = (node, pointer) }
                } else {
                    all.standard = template
                }
                templates[part] = all
            }
        }
        for (part, first) in translated where templates[part]?.standard == nil {
            if part == .title, besideTitle { continue }
            self.fail(first.node, first.pointer, "has no text under default, for readers of other languages")
        }
        return templates
    }

    private typealias FoundPart = (part: Templates.Part, node: Node, pointer: String)

    private mutating func parts(_ node: Node, _ pointer: String) -> [FoundPart] {
        var found: [FoundPart] = []
        for (key, value) in self.mapping(node, pointer) ?? [] {
            let pointer = Self.join(pointer, key.text)
            switch key.text {
            case "title": found.append((.title, value, pointer))
            case "content": found.append((.content, value, pointer))
            case "link_url": found.append((.linkURL, value, pointer))
            case "link_text": found.append((.linkText, value, pointer))
            case "sms": found.append((.sms, value, pointer))
            case "email":
                for (key, value) in self.mapping(value, pointer) ?? [] {
                    let pointer = Self.join(pointer, key.text)
                    switch key.text {
                    case "subject": found.append((.emailSubject, value, pointer))
                    case "html": found.append((.emailHTML, value, pointer))
                    case "text": found.append((.emailText, value, pointer))
                    default: self.fail(key.node, pointer, "is not known; there are: subject, html, text")
                    }
                }
            default: self.fail(key.node, pointer, "is not known; there are: title, content, link_url, link_text, email, sms")
            }
        }
        return found
    }

    private mutating func template(_ node: Node, _ pointer: String, _ kind: TextTemplate.Kind) -> TextTemplate? {
        guard let text = self.text(node, pointer) else { return nil }
        let line = Self.line(node)
        if text.allSatisfy(\.isWhitespace) {
            self.fail(node, pointer, "is empty")
            return nil
        }
        do throws(TextTemplate.SyntaxError) {
            return try TextTemplate(text, kind: kind)
        } catch {
            // In a literal block the text begins in the line below the bar. In other multi-line styles lines are joined: only the first is known.
            let within = node.scalar?.style == .literal ? error.line : 0
            self.faults.append(.init(line: line + within, pointer: pointer, detail: error.detail))
            return nil
        }
    }

    // MARK: - Values

    private typealias Key = (text: String, node: Node)
    private typealias Pair = (key: Key, value: Node)

    /// The pairs, in order. A key that stands twice is a fault.
    private mutating func mapping(_ node: Node, _ pointer: String, orNothing: Bool = false) -> [Pair]? {
        guard case .mapping(let mapping) = node else {
            if orNothing, case .scalar(let scalar) = node, scalar.string.isEmpty, scalar.style == .plain { return [] }
            self.fail(node, pointer, "must be a mapping")
            return nil
        }
        var pairs: [Pair] = []
        var lines: [String: Int] = [:]
        for (key, value) in mapping {
            guard case .scalar(let scalar) = key else {
                self.fail(key, pointer, "has a key that is not a word")
                continue
            }
            let name = YAMLDocument.original(scalar.string)
            if let line = lines.updateValue(Self.line(key), forKey: name) {
                self.fail(key, Self.join(pointer, name), "stands twice: also in line \(line)")
            }
            pairs.append(((name, key), value))
        }
        return pairs
    }

    private mutating func sequence(_ node: Node, _ pointer: String) -> [Node]? {
        guard case .sequence(let sequence) = node else {
            self.fail(node, pointer, "must be a list")
            return nil
        }
        return Array(sequence)
    }

    private mutating func text(_ node: Node, _ pointer: String) -> String? {
        guard case .scalar(let scalar) = node else {
            self.fail(node, pointer, "must be text")
            return nil
        }
        guard node.tag.rawValue == Tag.Name.str.rawValue else {
            self.fail(node, pointer, scalar.string.isEmpty ? "must be text" : "must be text: put \(scalar.string.prefix(40)) in quotes")
            return nil
        }
        return scalar.string
    }

    private mutating func choice<Value>(_ node: Node, _ pointer: String, _ parse: (String) -> Value?, _ all: [String]) -> Value? {
        if case .scalar(let scalar) = node, let value = parse(scalar.string) { return value }
        self.fail(node, pointer, "must be one of \(all.joined(separator: ", "))")
        return nil
    }

    /// What requests can name, and what webhooks can tell apart from `*`.
    private mutating func isWord(_ key: Key, _ pointer: String) -> Bool {
        let scalars = key.text.unicodeScalars
        let fits = (1...NotifyRequest.Limits().name).contains(scalars.count) && !scalars.contains { $0.properties.isWhitespace || $0 == "*" }
            && TextRules.clean(key.text, multiline: false).utf8.elementsEqual(key.text.utf8)
        if !fits {
            self.fail(key.node, pointer, "is no name: 1 to \(NotifyRequest.Limits().name) characters, none of them white space, a control character or *")
            return false
        }
        if key.node.tag.rawValue != Tag.Name.str.rawValue {
            self.fail(key.node, pointer, "is no name for YAML: put \(key.text) in quotes")
            return false
        }
        return true
    }

    private mutating func fail(_ node: Node, _ pointer: String, _ detail: String) {
        self.faults.append(.init(line: Self.line(node), pointer: pointer, detail: detail))
    }

    private static func line(_ node: Node) -> Int { node.mark?.line ?? 0 }

    private static func join(_ pointer: String, _ name: String) -> String {
        pointer + "/" + name.replacing("~", with: "~0").replacing("/", with: "~1")
    }
}
