/// Where a user is reached outside of the application. A value of this type is valid.
public struct Contact: Sendable, Equatable {
    public var email: String?
    /// E.164: `+` and up to 15 digits.
    public var phone: String?
    /// A language tag (BCP 47), as it was given.
    public var locale: String?
    public var timezone: TimeZoneName?
    /// A number, or `@` and a channel's name.
    public var telegramChatID: String?

    public init(email: String? = nil, phone: String? = nil, locale: String? = nil, timezone: TimeZoneName? = nil, telegramChatID: String? = nil) {
        self.email = email
        self.phone = phone
        self.locale = locale
        self.timezone = timezone
        self.telegramChatID = telegramChatID
    }

    /// - Throws: ``ValidationError`` that names every member that is wrong, or that there is not.
    public init(json: JSONValue) throws(ValidationError) {
        guard case .object(let members) = json else { throw ValidationError("", "the body must be an object") }
        self.init()
        var errors: [FieldError] = []
        for (name, value) in members {
            func checked(_ rule: String, _ isRight: (String) -> Bool) -> String? {
                if value == .null { return nil }
                if let text = value.string, isRight(text) { return text }
                errors.append(FieldError(pointer: "/" + name, detail: rule))
                return nil
            }
            switch name {
            case "email": self.email = checked("must be an e-mail address", ContactRules.isEmail)
            case "phone": self.phone = checked("must be a number in E.164: + and up to 15 digits", ContactRules.isPhone)
            case "locale": self.locale = checked("must be a language tag (BCP 47), such as pt-BR", ContactRules.isLanguageTag)
            case "timezone":
                self.timezone = checked("must be the name of a time zone, such as Europe/Paris") { TimeZoneName($0) != nil }.flatMap { TimeZoneName($0) }
            case "telegram_chat_id":
                if case .number(let digits) = value, ContactRules.isChat(digits) {
                    self.telegramChatID = digits
                } else {
                    self.telegramChatID = checked("must be a chat's number, or @ and a channel's name", ContactRules.isChat)
                }
            // As an answer has them: a contact that was read may be sent back.
            case "user_id", "updated_at": break
            default:
                if errors.count < 20 { errors.append(FieldError(pointer: "/" + String(name.prefix(OpaqueID.maximumLength)), detail: "a contact has no such member")) }
            }
        }
        if !errors.isEmpty { throw ValidationError(errors: errors) }
    }

    /// Where that channel reaches the user; nil: nowhere. What is shown in the application has no address.
    public func endpoint(_ channel: DeliveryChannel) -> String? {
        switch channel {
        case .email: self.email
        case .sms: self.phone
        case .telegram: self.telegramChatID
        case .inApp, .webhook: nil
        }
    }
}

/// What addresses look like. Whether anybody is there, only sending tells.
enum ContactRules {
    /// A mailbox of RFC 5321 without quotes and address literals; other alphabets as RFC 6531 allows them. No space, control character or bracket, so
    /// that it can stand in a header.
    static func isEmail(_ text: String) -> Bool {
        guard text.utf8.count <= 254 else { return false }
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count == 2, (1...64).contains(parts[0].utf8.count), (1...253).contains(parts[1].utf8.count) else { return false }
        let special: Set<Unicode.Scalar> = ["(", ")", "<", ">", "[", "]", ":", ";", "\\", ",", "\"", " "]
        let isPlain = { (scalar: Unicode.Scalar) in
            !scalar.isControl && !scalar.isBidiOverride && !special.contains(scalar) && !scalar.properties.isWhitespace
        }
        guard text.unicodeScalars.allSatisfy(isPlain) else { return false }
        guard parts[0].split(separator: ".", omittingEmptySubsequences: false).allSatisfy({ !$0.isEmpty }) else { return false }
        let labels = parts[1].split(separator: ".", omittingEmptySubsequences: false)
        return labels.allSatisfy { label in
            (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                && label.unicodeScalars.allSatisfy { !$0.isASCII || $0 == "-" || $0.properties.isAlphabetic || ("0"..."9").contains($0) }
        }
    }

    static func isPhone(_ text: String) -> Bool {
        let bytes = text.utf8
        guard bytes.first == UInt8(ascii: "+"), (3...16).contains(bytes.count), bytes.dropFirst().first != UInt8(ascii: "0") else { return false }
        return bytes.dropFirst().allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    /// Well-formed by RFC 5646, 2.1, as far as its parts go: a language of 2 to 8 letters, then parts of 1 to 8 letters and digits.
    static func isLanguageTag(_ text: String) -> Bool {
        guard text.utf8.count <= 64 else { return false }
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) }
        func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
        guard let language = parts.first, (2...8).contains(language.utf8.count), language.utf8.allSatisfy(isLetter) else { return false }
        return parts.dropFirst().allSatisfy { (1...8).contains($0.utf8.count) && $0.utf8.allSatisfy { isLetter($0) || isDigit($0) } }
    }

    static func isChat(_ text: String) -> Bool {
        if let name = text.utf8.first == UInt8(ascii: "@") ? text.utf8.dropFirst() : nil {
            return (1...64).contains(name.count) && name.allSatisfy { isWord($0) }
        }
        return Int64(text) != nil && text.utf8.first != UInt8(ascii: "+")
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "_")
    }
}
