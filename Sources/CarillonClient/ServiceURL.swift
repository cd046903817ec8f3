/// Where the service is, and the addresses of its routes.
struct ServiceURL: Sendable {
    /// Without a slash at its end.
    let base: String

    init(_ text: String) throws(CarillonError) {
        var text = Substring(text)
        while text.last == "/" { text = text.dropLast() }
        let scheme = ["http://", "https://"].first { text.lowercased().hasPrefix($0) }
        let isPlain = text.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") && $0 != UInt8(ascii: "@") }
        guard let scheme, isPlain, let first = text.dropFirst(scheme.count).first, first != "/", first != ":" else {
            throw CarillonError(.invalidRequest, "The URL of the service must be like https://notifications.example.com, without a query.")
        }
        self.base = String(text)
    }

    /// - Parameter path: its parts; each is percent-encoded.
    func route(_ path: String..., query: [(String, String?)] = []) -> String {
        var url = self.base + "/v1"
        for part in path { url += "/" + Self.escape(part) }
        let parameters = query.compactMap { name, value in value.map { "\(name)=\(Self.escape($0))" } }
        return parameters.isEmpty ? url : url + "?" + parameters.joined(separator: "&")
    }

    /// Percent-encodes all but letters, digits, `-` and `_` (RFC 3986, 2.1): a user id may be `..` or hold a slash.
    private static func escape(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "_"):
                bytes.append(byte)
            default:
                bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
