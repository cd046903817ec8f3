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

    /// The words for one locale; nil is the standard one.
    mutating func render(_ locale: LocaleTag?) -> Wording {
        var words = self.given
        words.title = words.title ?? self.text(.title, locale, "title", self.limits.title) ?? self.settings.title
        words.content = words.content ?? self.text(.content, locale, "content", self.limits.content)
        words.linkURL = words.linkURL ?? self.text(.linkURL, locale, "link_url", self.limits.link)
        words.linkText = words.linkText ?? self.text(.linkText, locale, "link_text", self.limits.title)
        if self.given.linkURL == nil, let link = words.linkURL, !TextRules.isAllowedLink(link) {
            self.fail("makes no valid link_url\(Self.name(locale)): it must be http, https, mailto or a path of the site")
        }
        return words
    }

    /// The words for each locale that templates have texts for; none when they all say the standard ones.
    mutating func translations(of standard: Wording) -> [LocaleTag: Wording] {
        if self.settings.templates.isEmpty { return [:] }
        let made = [(Templates.Part.title, self.given.title), (.content, self.given.content), (.linkURL, self.given.linkURL), (.linkText, self.given.linkText)]
        var translations: [LocaleTag: Wording] = [:]
        for locale in self.settings.templates.locales(of: made.filter { $0.1 == nil }.map(\.0)) { translations[locale] = self.render(locale) }
        return translations.values.contains { $0 != standard } ? translations : [:]
    }

    /// Nil when there is no template, or it makes nothing of the data.
    private mutating func text(_ part: Templates.Part, _ locale: LocaleTag?, _ name: String, _ limit: Int) -> String? {
        guard let template = self.settings.templates[part]?[locale] else { return nil }
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
