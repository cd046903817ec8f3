/// One path of the service, whichever of its prefixes it came with.
struct CanonicalPath: Sendable, Equatable {
    /// `/v1/notifications` for the service's routes; `/health/live` as it came for those outside of it.
    let text: String
    /// Without prefix: `/notifications`.
    let stripped: String

    /// Longest first: `/api/v1/x` is not the route `/v1/x` below `/api`.
    private static let prefixes = ["/api/v1", "/v1", "/api"]

    init(_ path: String) {
        for prefix in Self.prefixes where path.utf8.starts(with: prefix.utf8) {
            let rest = path.utf8.dropFirst(prefix.utf8.count)
            guard rest.isEmpty || rest.first == UInt8(ascii: "/") else { continue }
            self.stripped = String(Substring(rest))
            self.text = prefix == "/v1" ? path : "/v1" + self.stripped
            return
        }
        self.text = path
        self.stripped = path
    }
}

/// The target of a request line (RFC 9112, 3.2), split.
struct RequestTarget: Sendable, Equatable {
    var path: String
    var query: String

    /// Origin form, absolute form, or the asterisk. Nil for anything else.
    init?(_ uri: String) {
        var rest = Substring(uri)
        if rest.utf8.first != UInt8(ascii: "/") {
            if uri == "*" {
                self.path = "*"
                self.query = ""
                return
            }
            guard let scheme = ["http://", "https://"].first(where: { rest.lowercased().hasPrefix($0) }) else { return nil }
            rest = rest.dropFirst(scheme.count)
            guard let end = rest.firstIndex(where: { $0 == "/" || $0 == "?" }), end > rest.startIndex else { return nil }
            rest = rest[end...]
        }
        let bytes = rest.utf8
        let mark = bytes.firstIndex(of: UInt8(ascii: "?")) ?? bytes.endIndex
        self.path = mark == bytes.startIndex ? "/" : String(Substring(bytes[..<mark]))
        self.query = mark == bytes.endIndex ? "" : String(Substring(bytes[bytes.index(after: mark)...]))
    }
}
