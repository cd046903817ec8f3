import Mustache

/// A text with places for `template_data`, in Mustache (mustache.github.io/mustache.5.html), compiled once.
///
/// Taken are variables, sections, inverted sections and comments. Partials, blocks, lambdas, other delimiters, pragmas and functions are not: what
/// a template makes depends on it and its data alone, and ends.
public struct TextTemplate: Sendable, Equatable {
    public enum Kind: Sendable {
        /// One line of plain text.
        case line
        /// Plain text.
        case text
        /// HTML: variables are escaped, but in `{{{three braces}}}`.
        case html
        /// A link: variables are percent-encoded (RFC 3986), but in `{{{three braces}}}`.
        case link

        /// Of the template itself, in bytes.
        public var maximumBytes: Int {
            switch self {
            case .line, .link: 4 * 1024
            case .text: 16 * 1024
            case .html: 64 * 1024
            }
        }
    }

    /// Why a text is no template.
    public struct SyntaxError: Error, Sendable, Equatable {
        /// In the template, from 1.
        public let line: Int
        public let detail: String
    }

    /// What is made would be too long, or take too many steps.
    public struct TooLarge: Error, Sendable, Equatable {}

    /// How deep sections may stand in each other.
    public static let maximumDepth = 16

    /// What the literal text of loops may amount to, in bytes: loops in loops over one array multiply.
    private static let maximumLoopBytes = 16 << 20

    public let source: String
    public let kind: Kind
    private let compiled: MustacheTemplate

    /// - Throws: ``SyntaxError`` with the first thing that is wrong.
    public init(_ source: String, kind: Kind) throws(SyntaxError) {
        try TemplateScanner.check(source, kind: kind)
        self.source = source
        self.kind = kind
        do {
            // The pragma stands in a line of its own, which vanishes with it.
            self.compiled = try MustacheTemplate(string: "{{% CONTENT_TYPE: \(Escaping.name(of: kind))}}\n" + source)
        } catch let error as MustacheTemplate.ParserError {
            throw SyntaxError(line: max(1, error.context.lineNumber - 1), detail: "is no Mustache")
        } catch {
            throw SyntaxError(line: 1, detail: "is no Mustache")
        }
    }

    /// The text for these data (an object). What is missing is empty.
    ///
    /// Also `false`, `null`, `0`, and what is empty, count as nothing for a section. The result obeys ``TextRules``, and has no white space around it.
    ///
    /// - Parameter limit: in Unicode scalars.
    public func render(_ data: JSONValue, limit: Int) throws(TooLarge) -> String {
        let budget = RenderBudget(bytes: limit * 4, steps: min(4096, Self.maximumLoopBytes / max(1, self.source.utf8.count)))
        let raw = self.compiled.render(templateValue(data, budget))
        // Before all of it is looked at; what is taken out of it is little.
        if budget.isExhausted || raw.utf8.count > limit * 4 + self.source.utf8.count { throw TooLarge() }
        let text = TextRules.clean(raw, multiline: self.kind == .text || self.kind == .html).trimmed
        if text.unicodeScalars.count > limit { throw TooLarge() }
        return text
    }

    public static func == (lhs: TextTemplate, rhs: TextTemplate) -> Bool {
        lhs.kind == rhs.kind && lhs.source.utf8.elementsEqual(rhs.source.utf8)
    }
}

extension String {
    /// Less white space at both ends. By scalars: a mark that combines with the last space belongs to the text.
    fileprivate var trimmed: String {
        let scalars = self.unicodeScalars
        let isSpace = { (scalar: Unicode.Scalar) in scalar.properties.isWhitespace }
        guard let first = scalars.firstIndex(where: { !isSpace($0) }), let last = scalars.lastIndex(where: { !isSpace($0) }) else { return "" }
        if first == scalars.startIndex, scalars.index(after: last) == scalars.endIndex { return self }
        return String(scalars[first...last])
    }
}

/// Looks at a template's tags before the library does: refuses what is not taken, and says where.
private struct TemplateScanner {
    private let bytes: [UInt8]
    private var at = 0
    private var line = 1
    private var open: [(name: String, line: Int)] = []

    static func check(_ source: String, kind: TextTemplate.Kind) throws(TextTemplate.SyntaxError) {
        if source.utf8.count > kind.maximumBytes { throw .init(line: 1, detail: "is longer than \(kind.maximumBytes) bytes") }
        var scanner = TemplateScanner(bytes: Array(source.utf8))
        while try scanner.tag() {}
        if let section = scanner.open.last { throw .init(line: section.line, detail: "{{#\(section.name)}} is not closed") }
    }

    private init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// Moves behind the next occurrence, counting lines. Nil when there is none.
    private mutating func skip(past mark: StaticString) -> ArraySlice<UInt8>? {
        let length = mark.utf8CodeUnitCount
        let start = self.at
        while self.at + length <= self.bytes.count {
            if (0..<length).allSatisfy({ self.bytes[self.at + $0] == mark.utf8Start[$0] }) {
                defer { self.at += length }
                return self.bytes[start..<self.at]
            }
            if self.bytes[self.at] == UInt8(ascii: "\n") { self.line += 1 }
            self.at += 1
        }
        return nil
    }

    private mutating func tag() throws(TextTemplate.SyntaxError) -> Bool {
        guard self.skip(past: "{{") != nil else { return false }
        let line = self.line
        guard self.at < self.bytes.count else { throw .init(line: line, detail: "{{ is not closed") }
        let sign = self.bytes[self.at]
        let isSign = "#^/!&{".utf8.contains(sign)
        if isSign { self.at += 1 }
        guard let inside = sign == UInt8(ascii: "{") ? self.skip(past: "}}}") : self.skip(past: "}}") else {
            throw .init(line: line, detail: "{{ is not closed")
        }
        if sign == UInt8(ascii: "!") { return true }
        if "><$=%".utf8.contains(sign) {
            throw .init(line: line, detail: "partials, blocks, delimiters and pragmas ({{\(Character(Unicode.Scalar(sign)))…}}) are not taken")
        }
        let name = String(decoding: inside, as: UTF8.self).trimmed
        guard Self.isName(name) else {
            throw .init(line: line, detail: "{{\(name.prefix(40))}} is no name: words of letters, digits, _ and -, joined by single dots, or a dot alone")
        }
        switch sign {
        case UInt8(ascii: "#"), UInt8(ascii: "^"):
            self.open.append((name, line))
            if self.open.count > TextTemplate.maximumDepth { throw .init(line: line, detail: "sections are nested too deeply") }
        case UInt8(ascii: "/"):
            guard let section = self.open.popLast() else { throw .init(line: line, detail: "{{/\(name)}} closes nothing") }
            if section.name != name {
                throw .init(line: line, detail: "{{/\(name)}} stands where {{#\(section.name)}} of its line \(section.line) must be closed")
            }
        default: break
        }
        return true
    }

    private static func isName(_ name: String) -> Bool {
        if name == "." { return true }
        return name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { word in
            !word.isEmpty
                && word.allSatisfy {
                    switch $0 {
                    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                        UInt8(ascii: "_"), UInt8(ascii: "-"):
                        true
                    default: false
                    }
                }
        }
    }
}

/// How variables are escaped. The library's own HTML escaping goes by characters, so that `"` with a combining mark would go through.
private enum Escaping {
    struct HTML: MustacheContentType {
        func escapeText(_ text: String) -> String {
            var escaped: [UInt8] = []
            escaped.reserveCapacity(text.utf8.count)
            for byte in text.utf8 {
                switch byte {
                case UInt8(ascii: "<"): escaped.append(ascii: "&lt;")
                case UInt8(ascii: ">"): escaped.append(ascii: "&gt;")
                case UInt8(ascii: "&"): escaped.append(ascii: "&amp;")
                case UInt8(ascii: "\""): escaped.append(ascii: "&quot;")
                case UInt8(ascii: "'"): escaped.append(ascii: "&#39;")
                default: escaped.append(byte)
                }
            }
            return String(decoding: escaped, as: UTF8.self)
        }
    }

    struct Link: MustacheContentType {
        func escapeText(_ text: String) -> String {
            var escaped: [UInt8] = []
            escaped.reserveCapacity(text.utf8.count)
            for byte in text.utf8 {
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                    escaped.append(byte)
                default:
                    escaped.append(UInt8(ascii: "%"))
                    escaped.append(upperHexDigit(byte >> 4))
                    escaped.append(upperHexDigit(byte & 15))
                }
            }
            return String(decoding: escaped, as: UTF8.self)
        }

        private func upperHexDigit(_ value: UInt8) -> UInt8 {
            value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10
        }
    }

    /// The library knows content types by their names.
    private static let registered: (html: String, link: String) = {
        MustacheContentTypes.register(HTML(), named: "CARILLON-HTML")
        MustacheContentTypes.register(Link(), named: "CARILLON-LINK")
        return ("CARILLON-HTML", "CARILLON-LINK")
    }()

    static func name(of kind: TextTemplate.Kind) -> String {
        switch kind {
        case .line, .text: "TEXT"
        case .html: self.registered.html
        case .link: self.registered.link
        }
    }
}
