import Foundation
import NotificationCore
import Yams

/// Reads a catalogue from YAML. Errors name the file and the place.
enum CatalogueFile {
    static func load(_ path: String?) throws -> Catalogue {
        let file: URL
        if let path {
            file = URL(fileURLWithPath: path)
        } else if let shipped = Bundle.module.url(forResource: "notifications", withExtension: "yaml") {
            file = shipped
        } else {
            throw SettingError("CARILLON_CATALOGUE", "the shipped catalogue is not beside the program: install its .resources folder with it")
        }
        do {
            return try self.parse(String(contentsOf: file, encoding: .utf8))
        } catch let error as ValidationError {
            throw SettingError("CARILLON_CATALOGUE", "\(file.path): " + error.errors.map { "\($0.pointer): \($0.detail)" }.joined(separator: "; "))
        } catch {
            throw SettingError("CARILLON_CATALOGUE", "\(file.path): \(error)")
        }
    }

    static func parse(_ yaml: String) throws -> Catalogue {
        guard let root = try Yams.compose(yaml: yaml), let types = root.mapping?["types"]?.mapping else {
            throw ValidationError("/types", "is missing")
        }
        var kinds: [Catalogue.Kind] = []
        for (key, value) in types {
            guard let name = key.string else { throw ValidationError("/types", "a name is not a word\(self.place(key))") }
            guard let fields = value.mapping else { throw ValidationError("/types/\(name)", "must be a mapping\(self.place(value))") }
            var kind = Catalogue.Kind(name: name, defaults: try self.event(fields, "/types/\(name)", also: ["aliases", "events"]))
            for alias in fields["aliases"]?.sequence ?? [] {
                guard let text = alias.string else { throw ValidationError("/types/\(name)/aliases", "must be words\(self.place(alias))") }
                kind.aliases.append(text)
            }
            for (key, value) in fields["events"]?.mapping ?? [:] {
                guard let event = key.string else { throw ValidationError("/types/\(name)/events", "a name is not a word\(self.place(key))") }
                kind.events[event] = try self.event(value.mapping ?? [:], "/types/\(name)/events/\(event)", also: [])
            }
            kinds.append(kind)
        }
        return try Catalogue(kinds)
    }

    private static func event(_ fields: Node.Mapping, _ pointer: String, also: Set<String>) throws -> Catalogue.Event {
        var event = Catalogue.Event()
        for (key, value) in fields {
            let name = key.string ?? ""
            switch name {
            case "title": event.title = value.string
            case "level":
                guard let level = value.string.flatMap({ Level(name: $0) }) else { throw ValidationError("\(pointer)/level", "no such level\(self.place(value))") }
                event.level = level
            case "priority":
                guard let priority = value.string.flatMap({ Priority(name: $0) }) else {
                    throw ValidationError("\(pointer)/priority", "no such priority\(self.place(value))")
                }
                event.priority = priority
            case "channels":
                var channels: Set<DeliveryChannel> = []
                for entry in value.sequence ?? [] {
                    guard let channel = entry.string.flatMap({ DeliveryChannel(rawValue: $0) }) else {
                        throw ValidationError("\(pointer)/channels", "no such channel\(self.place(entry))")
                    }
                    channels.insert(channel)
                }
                event.channels = channels
            default:
                if !also.contains(name) { throw ValidationError("\(pointer)/\(name)", "no such setting\(self.place(key))") }
            }
        }
        return event
    }

    private static func place(_ node: Node) -> String {
        node.mark.map { " (line \($0.line))" } ?? ""
    }
}
