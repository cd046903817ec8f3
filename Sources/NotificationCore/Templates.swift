/// The name of a language and perhaps a region (BCP 47), such as `pt-BR`. Case does not count, and `_` is taken for `-`.
public struct LocaleTag: Sendable, Hashable, CustomStringConvertible {
    /// In lower case.
    public let description: String

    /// Nil when it is no such name: letters, then words of letters and digits.
    public init?(_ text: String) {
        guard text.utf8.count <= 35 else { return nil }
        let words = text.utf8.split(omittingEmptySubsequences: false) { $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") }
        guard let language = words.first, (2...8).contains(language.count), language.allSatisfy({ Self.isLetter($0) }) else { return nil }
        for word in words.dropFirst() {
            guard (1...8).contains(word.count), word.allSatisfy({ Self.isLetter($0) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
        }
        self.description = words.map { String(decoding: $0.map { Self.isLetter($0) ? $0 | 0x20 : $0 }, as: UTF8.self) }.joined(separator: "-")
    }

    private init(lowercased: some StringProtocol) {
        self.description = String(lowercased)
    }

    private static func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) }

    /// The next wider one: `pt` of `pt-BR` (RFC 4647, lookup).
    public var parent: LocaleTag? {
        self.description.utf8.lastIndex(of: UInt8(ascii: "-")).map { LocaleTag(lowercased: self.description[..<$0]) }
    }
}

/// One text in several languages.
public struct LocalizedTemplate: Sendable, Equatable {
    /// For whoever has no other. Only a title may lack it, where there is a fixed one.
    public var standard: TextTemplate?
    public var translations: [LocaleTag: TextTemplate]

    public init(standard: TextTemplate?, translations: [LocaleTag: TextTemplate] = [:]) {
        self.standard = standard
        self.translations = translations
    }

    /// The closest one: `pt-BR`, then `pt`, then the standard.
    public subscript(locale: LocaleTag?) -> TextTemplate? {
        var next = locale
        while let locale = next {
            if let template = self.translations[locale] { return template }
            next = locale.parent
        }
        return self.standard
    }
}

/// The texts that an event makes of `template_data`. A part that is absent is not made.
public struct Templates: Sendable, Equatable {
    public enum Part: Sendable, CaseIterable {
        case title, content, linkURL, linkText
        case emailSubject, emailHTML, emailText
        case sms

        public var kind: TextTemplate.Kind {
            switch self {
            case .title, .linkText, .emailSubject: .line
            case .content, .emailText, .sms: .text
            case .emailHTML: .html
            case .linkURL: .link
            }
        }
    }

    // One reference: requests carry it.
    private var parts: [Part: LocalizedTemplate]

    public init(_ parts: [Part: LocalizedTemplate] = [:]) {
        self.parts = parts
    }

    public var isEmpty: Bool { self.parts.isEmpty }

    public subscript(part: Part) -> LocalizedTemplate? {
        get { self.parts[part] }
        set { self.parts[part] = newValue }
    }

    /// The locales that any of these parts has a text of its own for.
    public func locales(of parts: [Part] = Part.allCases) -> Set<LocaleTag> {
        Set(parts.flatMap { self.parts[$0]?.translations.keys.map { $0 } ?? [] })
    }
}
