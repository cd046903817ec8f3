/// Where a Redis server is and who to be there.
///
/// Read from a URL as registered with IANA: `redis://[username][:password@]host[:port][/database]`, and `rediss://` for the same over TLS.
/// User name and password are percent-decoded; an IPv6 address stands in brackets; the port is 6379 and the database 0 unless named.
public struct RedisEndpoint: Sendable, Hashable {
    public let host: String
    public let port: Int
    public let username: String?
    public let password: String?
    public let database: Int
    public let usesTLS: Bool

    public init(host: String, port: Int = 6379, username: String? = nil, password: String? = nil, database: Int = 0, usesTLS: Bool = false) {
        self.host = host
        self.port = port
        self.username = username
        self.password = password
        self.database = database
        self.usesTLS = usesTLS
    }

    /// - Throws: ``RedisError`` with the code `invalidURL`. Its message names the part that is wrong and never repeats the password.
    public init(url: String) throws(RedisError) {
        var rest = Substring(url)
        if let tail = rest.removingPrefix("rediss://") {
            usesTLS = true
            rest = tail
        } else if let tail = rest.removingPrefix("redis://") {
            usesTLS = false
            rest = tail
        } else {
            throw Self.invalid("it must begin with redis:// or rediss://")
        }
        guard !rest.utf8.contains(where: { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") }) else {
            throw Self.invalid("it must not have a query or a fragment")
        }

        let slash = rest.utf8.firstIndex(of: UInt8(ascii: "/"))
        let authority = slash.map { rest[..<$0] } ?? rest
        let path = slash.map { rest[rest.utf8.index(after: $0)...] } ?? ""
        if path.isEmpty {
            database = 0
        } else {
            guard let number = Self.number(path, in: 0...Int(Int32.max)) else { throw Self.invalid("the database must be a number") }
            database = number
        }

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

        var place = at.map { authority[authority.utf8.index(after: $0)...] } ?? authority
        if let inner = place.removingPrefix("[") {
            guard let end = inner.utf8.firstIndex(of: UInt8(ascii: "]")) else { throw Self.invalid("the bracket of the IPv6 address is not closed") }
            host = String(inner[..<end])
            place = inner[inner.utf8.index(after: end)...]
        } else {
            let end = place.utf8.firstIndex(of: UInt8(ascii: ":")) ?? place.endIndex
            host = String(place[..<end])
            place = place[end...]
        }
        guard !host.isEmpty else { throw Self.invalid("the host is missing") }
        if place.isEmpty {
            port = 6379
        } else {
            guard let digits = place.removingPrefix(":"), let number = Self.number(digits, in: 1...65535) else {
                throw Self.invalid("the port must be a number from 1 to 65535")
            }
            port = number
        }
    }

    private static func invalid(_ reason: String) -> RedisError {
        RedisError(code: .invalidURL, message: "not a Redis URL: \(reason)")
    }

    private static func number(_ text: Substring, in range: ClosedRange<Int>) -> Int? {
        guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = Int(text), range.contains(number) else { return nil }
        return number
    }

    private static func decoded(_ text: Substring) -> String? {
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

    private static func hex(_ digit: UInt8) -> UInt8? {
        Character(Unicode.Scalar(digit)).hexDigitValue.map(UInt8.init)
    }
}

/// Without the password: descriptions end up in logs.
extension RedisEndpoint: CustomStringConvertible, CustomDebugStringConvertible {
    public var description: String {
        let place = host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]" : host
        return "\(usesTLS ? "rediss" : "redis")://\(place):\(port)/\(database)"
    }

    public var debugDescription: String { description }
}

extension RedisEndpoint: CustomReflectable {
    public var customMirror: Mirror { Mirror(self, children: ["url": description]) }
}

extension Substring {
    fileprivate func removingPrefix(_ prefix: String) -> Substring? {
        guard utf8.starts(with: prefix.utf8) else { return nil }
        return Substring(utf8.dropFirst(prefix.utf8.count))
    }
}
