/// What an e-mail says, for one reader. A part that the event has no template for is nil.
public struct RenderedEmail: Sendable, Equatable {
    public var subject: String?
    /// Everything from the request is escaped in it.
    public var html: String?
    public var text: String?

    public init(subject: String? = nil, html: String? = nil, text: String? = nil) {
        self.subject = subject
        self.html = html
        self.text = text
    }

    /// In Unicode scalars.
    public static let maximumSubject = 200
    public static let maximumHTML = 256 * 1024
    public static let maximumText = 64 * 1024
    /// Of a text message: ten parts of one, the most that providers take.
    public static let maximumSMS = 1600
}

extension NotifyRequest {
    /// The e-mail for a reader with this locale. Beside `template_data`, the templates know the notification's own `title`, `content`, `link_url` and
    /// `link_text`, in that locale.
    ///
    /// - Throws: ``TextTemplate/TooLarge`` when a part would be longer than its bound.
    public func renderEmail(_ locale: String?) throws(TextTemplate.TooLarge) -> RenderedEmail {
        let (tag, data) = (locale.flatMap { LocaleTag($0) }, self.dataWithWording(locale))
        return RenderedEmail(
            subject: try self.templates[.emailSubject]?[tag]?.render(data, limit: RenderedEmail.maximumSubject),
            html: try self.templates[.emailHTML]?[tag]?.render(data, limit: RenderedEmail.maximumHTML),
            text: try self.templates[.emailText]?[tag]?.render(data, limit: RenderedEmail.maximumText))
    }

    /// The text message for a reader with this locale; nil without a template for it.
    ///
    /// - Throws: ``TextTemplate/TooLarge`` when it would be longer than ``RenderedEmail/maximumSMS``.
    public func renderSMS(_ locale: String?) throws(TextTemplate.TooLarge) -> String? {
        try self.templates[.sms]?[locale.flatMap { LocaleTag($0) }]?.render(self.dataWithWording(locale), limit: RenderedEmail.maximumSMS)
    }

    private func dataWithWording(_ locale: String?) -> JSONValue {
        let words = self.localized(locale)
        var members: [(name: String, value: JSONValue)] = [("title", .string(words.title))]
        for (name, text) in [("content", words.content), ("link_url", words.linkURL), ("link_text", words.linkText)] {
            if let text { members.append((name, .string(text))) }
        }
        if case .object(let given) = self.templateData { members += given }
        return .object(members)
    }
}
