import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// The body of a new webhook, or of a change of one: all of it is right, or nothing is done.
struct WebhookBody {
    private static let eventBound = 100
    private static let nameBound = 257
    private static let descriptionBound = 500
    /// In bytes.
    private static let secretBounds = 8...512

    var url: WebhookURL?
    var events: [String]?
    var secret: String?
    var customer: String?
    var description: String?
    var dropsDescription = false
    var status: Webhook.Status?

    init(_ body: ByteBuffer, isNew: Bool) throws(Problem) {
        var errors: [FieldError] = []
        for (member, value) in try JSONBody.object(body) {
            switch (member, value) {
            case ("url", .string(let text)):
                do { self.url = try WebhookURL(text) } catch { errors.add("/url", "\(error)") }
            case ("events", .array(let values)): self.events = Self.events(values, &errors)
            case ("secret", .string(let text)) where isNew: self.secret = Self.secret(text, &errors)
            case ("secret", .null) where isNew, ("customer_id", .null) where isNew: break
            case ("customer_id", .string(let text)) where isNew:
                self.customer = CustomerID(text)?.value
                if self.customer == nil { errors.add("/customer_id", "must have 1 to \(CustomerID.maximumLength) characters, none of them a control character") }
            case ("description", .null): self.dropsDescription = true
            case ("description", .string(let text)):
                self.description = TextRules.clean(text, multiline: false)
                if text.unicodeScalars.count > Self.descriptionBound { errors.add("/description", "must have at most \(Self.descriptionBound) characters") }
                if self.description?.isEmpty ?? true { (self.description, self.dropsDescription) = (nil, true) }
            case ("status", .string(let word)) where !isNew:
                self.status = Webhook.Status(rawValue: word)
                if self.status == nil || self.status == .failed { errors.add("/status", "must be ACTIVE or DISABLED") }
            case ("url", _), ("description", _): errors.add("/" + member, "must be a text")
            case ("events", _): errors.add("/events", "must be a list of texts")
            case ("secret", _) where isNew, ("customer_id", _) where isNew, ("status", _) where !isNew: errors.add("/" + member, "must be a text")
            case ("secret", _): errors.add("/secret", "is changed by POST /v1/webhooks/{id}/rotate")
            case ("customer_id", _): errors.add("/customer_id", "cannot be changed")
            // As an answer has them: a webhook that was read may be sent back.
            case ("id", _), ("status", _), ("failure_count", _), ("last_error", _), ("created_at", _): break
            default: errors.add("/" + String(member.prefix(OpaqueID.maximumLength)), "is not a field of a webhook")
            }
        }
        if isNew, self.url == nil, !errors.contains(where: { $0.pointer == "/url" }) { errors.add("/url", "is needed") }
        if isNew, self.events == nil, !errors.contains(where: { $0.pointer.hasPrefix("/events") }) { errors.add("/events", "is needed") }
        try Self.check(errors)
    }

    /// Of a rotation's body, which may be empty; nil: one is made.
    static func secret(_ body: ByteBuffer) throws(Problem) -> String? {
        if body.readableBytes == 0 { return nil }
        var errors: [FieldError] = []
        var secret: String?
        for (member, value) in try JSONBody.object(body) {
            switch (member, value) {
            case ("secret", .string(let text)): secret = self.secret(text, &errors)
            case ("secret", .null): break
            case ("secret", _): errors.add("/secret", "must be a text")
            default: errors.add("/" + String(member.prefix(OpaqueID.maximumLength)), "is not a field here")
            }
        }
        try self.check(errors)
        return secret
    }

    private static func secret(_ text: String, _ errors: inout [FieldError]) -> String? {
        guard self.secretBounds.contains(text.utf8.count), !text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else {
            errors.add("/secret", "must have \(self.secretBounds.lowerBound) to \(self.secretBounds.upperBound) bytes, none of them a control character")
            return nil
        }
        return text
    }

    private static func events(_ values: [JSONValue], _ errors: inout [FieldError]) -> [String]? {
        guard (1...self.eventBound).contains(values.count) else {
            errors.add("/events", "must have 1 to \(self.eventBound) entries: a type, an event, type.event, or *")
            return nil
        }
        var events: [String] = []
        for (index, value) in values.enumerated() {
            guard let text = value.string, (1...self.nameBound).contains(text.unicodeScalars.count),
                !text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control || $0.properties.isWhitespace })
            else {
                errors.add("/events/\(index)", "must be a type, an event, type.event, or *")
                continue
            }
            if !events.contains(where: { $0.utf8.elementsEqual(text.utf8) }) { events.append(text) }
        }
        return events
    }

    static func check(_ errors: [FieldError]) throws(Problem) {
        guard let first = errors.first else { return }
        throw Problem(.unprocessableEntity, "invalid_body", "\(first.pointer): \(first.detail)", errors: errors)
    }
}

/// What is to be sent again: of a time, what failed or all.
struct ReplayBody {
    var since: Timestamp
    var until: Timestamp
    var onlyFailed = true

    init(_ body: ByteBuffer, now: Timestamp = .now()) throws(Problem) {
        var errors: [FieldError] = []
        var (since, until): (Timestamp?, Timestamp?)
        for (member, value) in body.readableBytes == 0 ? [] : try JSONBody.object(body) {
            switch (member, value) {
            case ("since", .string(let text)):
                since = Timestamp(text)
                if since == nil { errors.add("/since", "must be an RFC 3339 time") }
            case ("until", .string(let text)):
                until = Timestamp(text)
                if until == nil { errors.add("/until", "must be an RFC 3339 time") }
            case ("only", .string("failed")): self.onlyFailed = true
            case ("only", .string("all")): self.onlyFailed = false
            case ("since", .null), ("until", .null), ("only", .null): break
            case ("since", _), ("until", _): errors.add("/" + member, "must be an RFC 3339 time")
            case ("only", _): errors.add("/only", "must be failed or all")
            default: errors.add("/" + String(member.prefix(OpaqueID.maximumLength)), "is not a field of a replay")
            }
        }
        self.since = since ?? Timestamp(seconds: 0)
        self.until = until ?? Timestamp(seconds: now.seconds + 60)
        if self.since >= self.until { errors.add("/until", "must be later than since") }
        try WebhookBody.check(errors)
    }
}
