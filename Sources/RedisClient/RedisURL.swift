/// The parts of a Redis URL: `scheme://[username][:password@]place[,place…][/path][?query]`, decoded, as far as all kinds of them agree.
struct RedisURL {
    enum Kind {
        case server
        case sentinel
        case cluster
    }

    let kind: Kind
    let usesTLS: Bool
    let username: String?
    let password: String?
    /// At least one.
    let places: [RedisAddress]
    /// What stands between slashes, still encoded.
    let path: [Substring]
    let query: [(name: String, value: String)]

    private static let schemes: [(prefix: String, kind: Kind, usesTLS: Bool)] = [
        ("redis://", .server, false), ("rediss://", .server, true),
        ("redis+sentinel://", .sentinel, false), ("rediss+sentinel://", .sentinel, true),
        ("redis+cluster://", .cluster, false), ("rediss+cluster://", .cluster, true),
    ]

    /// - Throws: ``RedisError`` with the code `invalidURL`. Its message names the part that is wrong and never repeats a password.
    init(_ url: String) throws(RedisError) {
        guard let scheme = Self.schemes.first(where: { url.utf8.starts(with: $0.prefix.utf8) }) else {
            throw Self.invalid("it must begin with redis://, redis+sentinel:// or redis+cluster:// (with rediss in place of redis for TLS)")
        }
        kind = scheme.kind
        usesTLS = scheme.usesTLS
        var rest = Substring(url.utf8.dropFirst(scheme.prefix.utf8.count))
        guard !rest.utf8.contains(UInt8(ascii: "#")) else { throw Self.invalid("it must not have a fragment (a # in a password is written %23)") }

        if let mark = rest.utf8.firstIndex(of: UInt8(ascii: "?")) {
            query = try Self.query(rest[rest.utf8.index(after: mark)...])
            rest = rest[..<mark]
        } else {
            query = []
        }

        let slash = rest.utf8.firstIndex(of: UInt8(ascii: "/"))
        let authority = slash.map { rest[..<$0] } ?? rest
        let tail = slash.map { rest[rest.utf8.index(after: $0)...] } ?? ""
        path = tail.isEmpty ? [] : tail.split(separator: "/", omittingEmptySubsequences: false)

        let at = authority.utf8.lastIndex(of: UInt8(ascii: "@"))
        if let at {
            let user = authority[..<at]
            guard let colon = user.utf8.firstIndex(of: UInt8(ascii: ":")) else { throw Self.invalid("a user name needs a password (redis://user:password@host)") }
            guard let name = Self.decoded(user[..<colon]), let secret = Self.decoded(user[user.utf8.index(after: colon)...]) else {
                throw Self.invalid("user name or password is not percent-encoded UTF-8")
            }
            guard !secret.isEmpty || name.isEmpty else { throw Self.invalid("the password is empty") }
            username = name.isEmpty ? nil : name
            password = secret.isEmpty ? nil : secret
        } else {
            username = nil
            password = nil
        }

        let list = at.map { authority[authority.utf8.index(after: $0)...] } ?? authority
        let usualPort = kind == .sentinel ? 26379 : 6379
        var places: [RedisAddress] = []
        for place in list.split(separator: ",", omittingEmptySubsequences: false) { places.append(try Self.place(place, usualPort: usualPort)) }
        self.places = places
    }

    /// The number of a database, 0 where there is none.
    static func database(_ path: some Collection<Substring>) throws(RedisError) -> Int {
        guard let text = path.first else { return 0 }
        guard path.count == 1, let number = number(text, in: 0...Int(Int32.max)) else { throw invalid("the database must be a number") }
        return number
    }

    static func invalid(_ reason: String) -> RedisError {
        RedisError(code: .invalidURL, message: "not a Redis URL: \(reason)")
    }

    static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(hex), let low = rest.popFirst().flatMap(hex) else { return nil }
            bytes.append(high << 4 | low)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func place(_ text: Substring, usualPort: Int) throws(RedisError) -> RedisAddress {
        let host: Substring
        var rest: Substring
        if text.utf8.first == UInt8(ascii: "[") {
            guard let end = text.utf8.firstIndex(of: UInt8(ascii: "]")) else { throw invalid("the bracket of the IPv6 address is not closed") }
            host = text[text.utf8.index(after: text.startIndex)..<end]
            rest = text[text.utf8.index(after: end)...]
        } else {
            let end = text.utf8.firstIndex(of: UInt8(ascii: ":")) ?? text.endIndex
            host = text[..<end]
            rest = text[end...]
        }
        guard !host.isEmpty else { throw invalid("the host is missing") }
        guard !rest.isEmpty else { return RedisAddress(host: String(host), port: usualPort) }
        guard rest.utf8.first == UInt8(ascii: ":"), let port = number(Substring(rest.utf8.dropFirst()), in: 1...65535) else {
            throw invalid("the port must be a number from 1 to 65535")
        }
        return RedisAddress(host: String(host), port: port)
    }

    private static func query(_ text: Substring) throws(RedisError) -> [(name: String, value: String)] {
        var items: [(name: String, value: String)] = []
        for item in text.split(separator: "&", omittingEmptySubsequences: false) {
            let equals = item.utf8.firstIndex(of: UInt8(ascii: "="))
            guard let equals, let name = decoded(item[..<equals]), let value = decoded(item[item.utf8.index(after: equals)...]) else {
                throw invalid("the query is not of the form name=value, percent-encoded")
            }
            items.append((name, value))
        }
        return items
    }

    private static func number(_ text: Substring, in range: ClosedRange<Int>) -> Int? {
        guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = Int(text), range.contains(number) else { return nil }
        return number
    }

    private static func hex(_ digit: UInt8) -> UInt8? {
        Character(Unicode.Scalar(digit)).hexDigitValue.map(UInt8.init)
    }
}
