/// What is wrong with one field of a request. Several make one answer.
public struct FieldError: Sendable, Equatable {
    /// A JSON pointer (RFC 6901) into the body, or the name of a query parameter.
    public let pointer: String
    public let detail: String

    public init(pointer: String, detail: String) {
        self.pointer = pointer
        self.detail = detail
    }
}

/// A request that was understood and cannot be carried out as it stands. Nothing was done.
public struct ValidationError: Error, Sendable, Equatable {
    public enum Code: String, Sendable {
        case invalidBody = "notifications_m.invalid_body"
        case invalidGroup = "notifications_m.invalid_group"
        case invalidEvent = "notifications_m.invalid_event"
        case invalidChannel = "notifications_m.invalid_channel"
    }

    public let code: Code
    public let errors: [FieldError]

    public init(code: Code = .invalidBody, errors: [FieldError]) {
        self.code = code
        self.errors = errors
    }

    public init(_ pointer: String, _ detail: String, code: Code = .invalidBody) {
        self.init(code: code, errors: [FieldError(pointer: pointer, detail: detail)])
    }
}

public enum Level: Int16, Sendable, CaseIterable {
    case info, success, warning, error

    public var name: String {
        switch self {
        case .info: "INFO"
        case .success: "SUCCESS"
        case .warning: "WARNING"
        case .error: "ERROR"
        }
    }

    public init?(name: String) {
        guard let value = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = value
    }
}

public enum Priority: Int16, Sendable, CaseIterable {
    case low, medium, high, urgent

    public var name: String {
        switch self {
        case .low: "LOW"
        case .medium: "MEDIUM"
        case .high: "HIGH"
        case .urgent: "URGENT"
        }
    }

    public init?(name: String) {
        guard let value = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = value
    }
}

public enum DeliveryChannel: String, Sendable, CaseIterable, Hashable {
    case inApp = "in_app"
    case email
    case sms
    case webhook
    case telegram
}

/// Rules for text that people will read.
public enum TextRules {
    /// As given, less control characters and bidirectional overrides. Newline and tab stay where `multiline`.
    public static func clean(_ text: String, multiline: Bool) -> String {
        if text.isPrintable { return text }
        let keeps = { (scalar: Unicode.Scalar) in
            if scalar.isBidiOverride { return false }
            if !scalar.isControl { return true }
            return multiline && (scalar == "\n" || scalar == "\t")
        }
        if text.unicodeScalars.allSatisfy(keeps) { return text }
        var clean = String.UnicodeScalarView()
        clean.append(contentsOf: text.unicodeScalars.lazy.filter(keeps))
        return String(clean)
    }

    /// http, https, mailto, or a path on the site itself; nothing that a browser would run or that names another host in disguise.
    public static func isAllowedLink(_ link: String) -> Bool {
        if link.isEmpty || link.unicodeScalars.contains(where: { $0.isControl || $0.isBidiOverride || $0 == "\\" || $0 == " " }) { return false }
        // By bytes: a character may hold more than its first scalar, and "//" followed by a variation selector is two other characters to
        // Swift and the start of a host to a browser.
        let bytes = link.utf8
        switch bytes.first {
        case UInt8(ascii: "/"): return bytes.dropFirst().first != UInt8(ascii: "/")
        case UInt8(ascii: "#"), UInt8(ascii: "?"): return true
        default: break
        }
        func follows(_ scheme: StaticString) -> UInt8? {
            var rest = bytes[...]
            for index in 0..<scheme.utf8CodeUnitCount {
                guard let byte = rest.popFirst(), byte | 0x20 == scheme.utf8Start[index] | 0x20 else { return nil }
            }
            return rest.first
        }
        if follows("mailto:") != nil { return true }
        guard let first = follows("http://") ?? follows("https://") else { return false }
        return first != UInt8(ascii: "/") && first != UInt8(ascii: "?") && first != UInt8(ascii: "#")
    }
}
