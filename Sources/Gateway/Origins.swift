public import NIOHTTP1

/// Which sites' pages may call (Fetch standard, CORS; RFC 6454).
public struct Origins: Sendable {
    private let allowed: [String]

    /// Entries are origins (`https://app.example.com`), optionally with `*` for any port (`http://localhost:*`), or `*` for all: then no
    /// credentials of the browser are let in.
    public init(_ allowed: [String]) {
        self.allowed = allowed.map { $0.lowercased() }
    }

    private func isListed(_ origin: String) -> Bool {
        let origin = origin.lowercased()
        return self.allowed.contains { entry in
            if entry == origin { return true }
            guard entry.hasSuffix(":*") else { return false }
            let site = entry.dropLast(2)
            if origin == site { return true }
            guard origin.hasPrefix(site + ":") else { return false }
            let port = origin.dropFirst(site.utf8.count + 1)
            return !port.isEmpty && port.utf8.count <= 5 && port.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        }
    }

    /// The headers that let a page of another origin read the answer; none when it may not.
    public func responseHeaders(for request: HTTPHeaders) -> HTTPHeaders {
        guard let origin = request.first(name: "origin") else { return HTTPHeaders() }
        if self.isListed(origin) {
            return [
                "access-control-allow-origin": origin, "access-control-allow-credentials": "true", "vary": "Origin",
                "access-control-expose-headers": "ETag, Link, Retry-After, X-Request-Id, RateLimit, RateLimit-Policy, traceresponse",
            ]
        }
        if self.allowed.contains("*") { return ["access-control-allow-origin": "*"] }
        return ["vary": "Origin"]
    }

    /// Whether a browser's credentials (a cookie) count for a request that changes something: it must say that it comes from this site's
    /// own host, or from a listed one.
    public func allowsCookieWrite(_ request: HTTPHeaders) -> Bool {
        guard let origin = request.first(name: "origin") else { return false }
        if self.isListed(origin) { return true }
        guard let host = request.first(name: "host") else { return false }
        return ["http://", "https://"].contains { origin.lowercased() == $0 + host.lowercased() }
    }
}
