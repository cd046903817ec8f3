/// What a notification says outside of the application, to one reader: by the event's templates, else its own title, content and link.
public struct OutgoingText: Sendable, Equatable {
    /// Of an e-mail.
    public var subject: String?
    public var html: String?
    public var text: String
    /// It is not to go to somebody who has read the notification.
    public var unlessRead = false
    /// Of the notification.
    public var type: String
    public var event: String?
    /// Its reader cannot turn such messages off.
    public var isRequired = false

    /// - Parameters:
    ///   - stored: the members of the notification's JSON, in the reader's language, as ``NotifyRequest/encodeBody(createdAt:)`` made them, or corrected since.
    ///   - payload: what ``NotifyRequest/templatePayload`` was.
    /// - Throws: ``ValidationError`` when what is stored is no notification, or a template makes more of it than a message may hold.
    public init(_ channel: DeliveryChannel, stored: String, payload: String?, locale: String?, catalogue: Catalogue) throws {
        let json = try JSONParser.parse(Array(("{" + stored + "}").utf8))
        guard let title = json["title"]?.string else { throw ValidationError("/title", "is missing") }
        let lines = [title, json["content"]?.string, Self.link(json)].compactMap { $0 }.filter { !$0.isEmpty }
        self.text = lines.joined(separator: "\n\n")
        let request = Self.request(json, payload, catalogue)
        self.type = json["type"]?.string ?? Catalogue.fallbackType
        self.event = json["event"]?.string
        self.isRequired = request?.required.contains(channel) ?? false
        self.unlessRead = channel == .email && (request?.emailPolicy.unlessRead ?? false)
        do throws(TextTemplate.TooLarge) {
            switch channel {
            case .email:
                let mail = try request?.renderEmail(locale)
                self.subject = mail?.subject.flatMap { $0.isEmpty ? nil : $0 } ?? title
                self.html = mail?.html
                self.text = mail?.text ?? lines.dropFirst().joined(separator: "\n\n")
                if self.text.isEmpty { self.text = title }
            case .sms:
                self.text = try request?.renderSMS(locale) ?? Self.cut(self.text, RenderedEmail.maximumSMS)
            case .telegram, .webhook, .inApp: self.text = Self.cut(self.text, Self.maximumChat)
            }
        } catch {
            throw ValidationError("", "its template makes more of it than a message may hold")
        }
    }

    /// Unicode scalars of a chat's message, with a reserve below Telegram's 4,096.
    private static let maximumChat = 4000

    private static func cut(_ text: String, _ bound: Int) -> String {
        if text.unicodeScalars.count <= bound { return text }
        return String(String.UnicodeScalarView(text.unicodeScalars.prefix(bound - 1))) + "…"
    }

    private static func link(_ json: JSONValue) -> String? {
        guard let url = json["link_url"]?.string, !url.isEmpty else { return nil }
        return json["link_text"]?.string.flatMap { $0.isEmpty ? nil : $0 + ": " + url } ?? url
    }

    /// The request that it was stored for, as far as its templates need it. Nil when the catalogue has changed since in a way that it does not fit any more:
    /// then its own words are sent.
    private static func request(_ json: JSONValue, _ payload: String?, _ catalogue: Catalogue) -> NotifyRequest? {
        var members: [(name: String, value: JSONValue)] = []
        for name in ["type", "event", "title", "content", "link_url", "link_text"] {
            if let value = json[name], value != .null { members.append((name, value)) }
        }
        if let payload, let data = try? JSONParser.parse(Array(payload.utf8)) { members.append(("template_data", data)) }
        return try? NotifyRequest(json: .object(members), kind: .apart, catalogue: catalogue, now: .now())
    }
}

extension NotifyRequest {
    /// What templates of other channels are filled with when it is sent: JSON; nil when there are none, or nothing to fill them with.
    public var templatePayload: String? {
        guard let templateData, [.emailSubject, .emailHTML, .emailText, .sms].contains(where: { self.templates[$0] != nil }) else { return nil }
        return String(decoding: templateData.encoded, as: UTF8.self)
    }
}
