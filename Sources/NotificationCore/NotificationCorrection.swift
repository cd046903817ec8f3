/// What the application changes of notifications that it has sent. A value of this type is valid, and changes at least one member.
public struct NotificationCorrection: Sendable, Equatable {
    /// The members that change, as they stand in a notification's JSON: a compact object.
    public let members: String
    public let level: Level?
    public let priority: Priority?
    /// `.some(nil)`: it does not expire any more.
    public let expiresAt: Timestamp??

    /// The fields that are no part of a correction, so that a selector may stand beside it.
    public static func isField(_ name: String) -> Bool { Self.fields.contains(name) }

    private static let fields: Set<String> = [
        "title", "content", "body", "link_url", "link", "link_text", "level", "priority", "data", "expires_at",
    ]
    /// What null takes away.
    private static let nullable: Set<String> = ["content", "body", "link_url", "link", "link_text", "data", "expires_at"]

    /// Reads the fields of ``isField(_:)``; others are not looked at.
    ///
    /// - Throws: ``ValidationError`` that names every field that is wrong.
    public init(json: JSONValue, now: Timestamp, limits: NotifyRequest.Limits = NotifyRequest.Limits()) throws(ValidationError) {
        guard case .object(let members) = json else { throw ValidationError("", "the body must be an object") }
        var reader = FieldReader(json)
        var changed: [(name: String, value: JSONValue)] = []
        for (name, value) in members where value == .null && Self.fields.contains(name) {
            let canonical = name == "body" ? "content" : name == "link" ? "link_url" : name
            if Self.nullable.contains(name) { changed.append((canonical, .null)) } else { reader.fail(name, "cannot be null") }
        }
        func change(_ name: String, _ value: String?) {
            guard let value else { return }
            changed.removeAll { $0.name == name }
            changed.append((name, .string(value)))
        }
        let title = reader.text("title", limit: limits.title, multiline: false)
        if title?.isEmpty == true { reader.fail("title", "must not be empty") }
        change("title", title)
        change("content", reader.text("content", "body", limit: limits.content, multiline: true))
        let link = reader.text("link_url", "link", limit: limits.link, multiline: false, cleaned: false)
        if let link, !TextRules.isAllowedLink(link) { reader.fail("link_url", "must be http, https, mailto or a path of the site") }
        change("link_url", link)
        change("link_text", reader.text("link_text", limit: limits.title, multiline: false))
        self.level = reader.choice("level", Level.init(name:), Level.allCases.map(\.name))
        change("level", self.level?.name)
        self.priority = reader.choice("priority", Priority.init(name:), Priority.allCases.map(\.name))
        change("priority", self.priority?.name)
        if reader.object("data", bytes: limits.dataBytes) != nil, let data = json["data"] { changed.append(("data", data)) }
        let expires = reader.time("expires_at")
        if let expires, expires <= now { reader.fail("expires_at", "must lie after now") }
        if let expires {
            var text: [UInt8] = []
            expires.append(to: &text)
            change("expires_at", String(decoding: text, as: UTF8.self))
        }
        self.expiresAt = changed.contains { $0.name == "expires_at" } ? .some(expires) : nil
        if !reader.errors.isEmpty { throw ValidationError(code: reader.code, errors: reader.errors) }
        if changed.isEmpty { throw ValidationError("", "needs at least one of " + Self.names.joined(separator: ", ")) }
        self.members = String(decoding: JSONValue.object(changed).encoded, as: UTF8.self)
    }

    private static let names = ["title", "content", "link_url", "link_text", "level", "priority", "data", "expires_at"]
}
