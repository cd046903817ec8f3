/// Where a webhook is called: an absolute http or https URL without credentials, up to 2,000 characters.
public struct WebhookURL: Sendable, Equatable {
    public static let maximumLength = 2000

    public let text: String
    /// As it stands in the URL: a name, an IPv4 address, or an IPv6 address without its brackets.
    public let host: String
    public let isSecure: Bool

    /// - Throws: Why it is none, as a sentence's end: "must be …".
    public init(_ text: String) throws(Refusal) {
        guard text.unicodeScalars.count <= Self.maximumLength else { throw Refusal("must have at most \(Self.maximumLength) characters") }
        // Printable ASCII: another alphabet's name is given in its punycode, another alphabet's path percent-encoded, so that everybody reads the same.
        guard text.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "\\") && $0 != UInt8(ascii: "\"") }) else {
            throw Refusal("must be an absolute URL of printable ASCII characters")
        }
        guard let colon = text.range(of: "://") else { throw Refusal("must begin with http:// or https://") }
        switch text[..<colon.lowerBound].lowercased() {
        case "http": self.isSecure = false
        case "https": self.isSecure = true
        default: throw Refusal("must begin with http:// or https://")
        }
        let authority = text[colon.upperBound...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        if authority.contains("@") { throw Refusal("must not hold a user or a password") }
        if text.contains("#") { throw Refusal("must not have a fragment") }
        var host = authority
        var port: Substring?
        if authority.first == "[" {
            guard let end = authority.firstIndex(of: "]") else { throw Refusal("must have a host") }
            host = authority[authority.index(after: authority.startIndex)..<end]
            guard case .v6? = IPAddress(host) else { throw Refusal("must have an IPv6 address between its brackets") }
            let rest = authority[authority.index(after: end)...]
            if rest.first == ":" { port = rest.dropFirst() } else if !rest.isEmpty { throw Refusal("must have a host, and a port behind a colon") }
        } else {
            let parts = authority.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count <= 2 else { throw Refusal("must have a host, and a port behind a colon") }
            host = parts[0]
            if parts.count == 2 { port = parts[1] }
            let isName = host.utf8.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
            }
            guard isName, host.utf8.contains(where: { $0 != UInt8(ascii: ".") }), host.utf8.count <= 253 else { throw Refusal("must have a host") }
        }
        if let port {
            guard (1...5).contains(port.utf8.count), port.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = Int(port),
                (1...65535).contains(number)
            else { throw Refusal("must have a port from 1 to 65535") }
        }
        self.text = text
        self.host = String(host)
    }

    public struct Refusal: Error, Sendable, Equatable, CustomStringConvertible {
        public let description: String

        init(_ description: String) {
            self.description = description
        }
    }
}

extension String {
    /// The first place where that text stands, byte by byte.
    fileprivate func range(of text: String) -> Range<String.Index>? {
        let bytes = Array(text.utf8)
        var at = self.utf8.startIndex
        while let end = self.utf8.index(at, offsetBy: bytes.count, limitedBy: self.utf8.endIndex) {
            if self.utf8[at..<end].elementsEqual(bytes) { return at..<end }
            at = self.utf8.index(after: at)
        }
        return nil
    }
}
