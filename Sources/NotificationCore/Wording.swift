/// What a notification says, in one language.
struct Wording: Sendable, Equatable {
    var title: String?
    var content: String?
    var linkURL: String?
    var linkText: String?
}

/// Makes the words of a request: what it gives, else what the event's templates make of its data. Collects what is wrong.
struct WordingRenderer {
    let given: Wording
    let settings: Catalogue.Event
    let data: JSONValue
    let limits: NotifyRequest.Limits
    private(set) var errors: [FieldError] = []

    init(given: Wording, settings: Catalogue.Event, data: JSONValue, limits: NotifyRequest.Limits) {
        self.given = given
        self.settings = settings
        self.data = data
        self.limits = limits
    }

    private var templates: Templates { self.settings.templates }

    /// The words for one locale; nil is the standard one.
    mutating func render(_ locale: LocaleTag?) -> Wording {
        var words = self.given
        words.title = words.title ?? self.text(self.templates.title, locale, "title", self.limits.title) ?? self.settings.title
        words.content = words.content ?? self.text(self.templates.content, locale, "content", self.limits.content)
        words.linkURL = words.linkURL ?? self.text(self.templates.linkURL, locale, "link_url", self.limits.link)
        words.linkText = words.linkText ?? self.text(self.templates.linkText, locale, "link_text", self.limits.title)
        if self.given.linkURL == nil, let link = words.linkURL, !TextRules.isAllowedLink(link) {
            self.fail("makes no valid link_url\(Self.name(locale)): it must be http, https, mailto or a path of the site")
        }
        return words
    }

    /// The words for each locale in which they are not the standard ones.
    mutating func translations(of standard: Wording) -> [LocaleTag: Wording] {
        var locales: Set<LocaleTag> = []
        if self.given.title == nil { locales.formUnion(self.templates.title?.translations.keys.map { $0 } ?? []) }
        if self.given.content == nil { locales.formUnion(self.templates.content?.translations.keys.map { $0 } ?? []) }
        if self.given.linkURL == nil { locales.formUnion(self.templates.linkURL?.translations.keys.map { $0 } ?? []) }
        if self.given.linkText == nil { locales.formUnion(self.templates.linkText?.translations.keys.map { $0 } ?? []) }
        var translations: [LocaleTag: Wording] = [:]
        for locale in locales { translations[locale] = self.render(locale) }
        return translations.values.contains { $0 != standard } ? translations : [:]
    }

    /// Nil when there is no template, or it makes nothing of the data.
    private mutating func text(_ part: LocalizedTemplate?, _ locale: LocaleTag?, _ name: String, _ limit: Int) -> String? {
        guard let template = part?[locale] else { return nil }
        switch Result(catching: { () throws(TextTemplate.TooLarge) in try template.render(self.data, limit: limit) }) {
        case .success(let text): return text.isEmpty ? nil : text
        case .failure:
            self.fail("makes \(name)\(Self.name(locale)) longer than \(limit) characters")
            return nil
        }
    }

    private mutating func fail(_ detail: String) {
        self.errors.append(FieldError(pointer: "/template_data", detail: detail))
    }

    private static func name(_ locale: LocaleTag?) -> String { locale.map { " (\($0))" } ?? "" }
}
