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
        let parts = try RedisURL(url)
        guard case .server = parts.kind else { throw RedisURL.invalid("it must begin with redis:// or rediss://, for one server") }
        try self.init(parts)
    }

    init(_ url: RedisURL) throws(RedisError) {
        guard let place = url.places.first, url.places.count == 1 else { throw RedisURL.invalid("one server has one host") }
        guard url.query.isEmpty else { throw RedisURL.invalid("it must not have a query") }
        self.init(
            host: place.host, port: place.port, username: url.username, password: url.password, database: try RedisURL.database(url.path),
            usesTLS: url.usesTLS
        )
    }

    var address: RedisAddress { RedisAddress(host: host, port: port) }

    /// The same user and database on another server.
    func at(_ address: RedisAddress) -> RedisEndpoint {
        RedisEndpoint(host: address.host, port: address.port, username: username, password: password, database: database, usesTLS: usesTLS)
    }
}

/// Without the password: descriptions end up in logs.
extension RedisEndpoint: CustomStringConvertible, CustomDebugStringConvertible {
    public var description: String {
        "\(usesTLS ? "rediss" : "redis")://\(address)/\(database)"
    }

    public var debugDescription: String { description }
}

extension RedisEndpoint: CustomReflectable {
    public var customMirror: Mirror { Mirror(self, children: ["url": description]) }
}
