/// How Redis is run: as one server, as a master with replicas that sentinels watch over, or as a cluster.
///
/// Read from one URL:
/// - `redis://[username][:password@]host[:port][/database]`: one server, see ``RedisEndpoint``.
/// - `redis+sentinel://[username][:password@]host[:port][,host[:port]…]/master[/database]`: the hosts are sentinels (port 26379 unless named),
///   `master` is the name by which they know the master. User and password are those of the data servers. Sentinels that want a password of
///   their own get `?sentinel_password=…`, and `sentinel_username=…` with it.
/// - `redis+cluster://[username][:password@]host[:port][,host[:port]…]`: any nodes of the cluster; the others are found through them. A cluster
///   has no databases.
///
/// `rediss`, `rediss+sentinel` and `rediss+cluster` are the same over TLS, on every connection.
public enum RedisDeployment: Sendable, Hashable {
    case server(RedisEndpoint)
    case sentinel(RedisSentinelDeployment)
    case cluster(RedisClusterDeployment)

    /// - Throws: ``RedisError`` with the code `invalidURL`. Its message names the part that is wrong and never repeats a password.
    public init(url: String) throws(RedisError) {
        let parts = try RedisURL(url)
        switch parts.kind {
        case .server: self = .server(try RedisEndpoint(parts))
        case .sentinel: self = .sentinel(try RedisSentinelDeployment(parts))
        case .cluster: self = .cluster(try RedisClusterDeployment(parts))
        }
    }

    public var usesTLS: Bool {
        switch self {
        case .server(let endpoint): endpoint.usesTLS
        case .sentinel(let sentinel): sentinel.access.usesTLS
        case .cluster(let cluster): cluster.seeds.contains { $0.usesTLS }
        }
    }
}

extension RedisDeployment: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Without passwords: descriptions end up in logs.
    public var description: String {
        switch self {
        case .server(let endpoint): endpoint.description
        case .sentinel(let sentinel): sentinel.description
        case .cluster(let cluster): cluster.description
        }
    }

    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["url": description]) }
}

/// A master that sentinels name.
public struct RedisSentinelDeployment: Sendable, Hashable {
    /// At least one; with their own user and password, where they want one.
    let sentinels: [RedisEndpoint]
    /// The name by which the sentinels know the master.
    let master: String
    /// User, password, database and TLS for the master; its address is the sentinels' to say.
    let access: RedisEndpoint

    init(_ url: RedisURL) throws(RedisError) {
        guard let name = url.path.first.flatMap({ RedisURL.decoded($0) }), !name.isEmpty else {
            throw RedisURL.invalid("the master's name is missing (redis+sentinel://host:port,host:port/name)")
        }
        var username: String?, password: String?
        for (name, value) in url.query {
            switch name {
            case "sentinel_username" where username == nil && !value.isEmpty: username = value
            case "sentinel_password" where password == nil && !value.isEmpty: password = value
            default: throw RedisURL.invalid("its query may name sentinel_username and sentinel_password once each, and nothing else")
            }
        }
        guard username == nil || password != nil else { throw RedisURL.invalid("sentinel_username needs sentinel_password") }
        master = name
        sentinels = url.places.map { RedisEndpoint(host: $0.host, port: $0.port, username: username, password: password, usesTLS: url.usesTLS) }
        access = RedisEndpoint(
            host: "", username: url.username, password: url.password, database: try RedisURL.database(url.path.dropFirst()), usesTLS: url.usesTLS
        )
    }
}

extension RedisSentinelDeployment: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String {
        let places = sentinels.map(\.address.description).joined(separator: ",")
        return "\(access.usesTLS ? "rediss" : "redis")+sentinel://\(places)/\(master)/\(access.database)"
    }

    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["url": description]) }
}

/// A cluster, by some of its nodes.
public struct RedisClusterDeployment: Sendable, Hashable {
    /// At least one. The others have the same user, password and TLS.
    let seeds: [RedisEndpoint]

    init(_ url: RedisURL) throws(RedisError) {
        guard url.path.isEmpty else { throw RedisURL.invalid("a cluster has no databases, so nothing follows the hosts") }
        guard url.query.isEmpty else { throw RedisURL.invalid("it must not have a query") }
        seeds = url.places.map { RedisEndpoint(host: $0.host, port: $0.port, username: url.username, password: url.password, usesTLS: url.usesTLS) }
    }
}

extension RedisClusterDeployment: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String {
        "\(seeds.contains { $0.usesTLS } ? "rediss" : "redis")+cluster://\(seeds.map(\.address.description).joined(separator: ","))"
    }

    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["url": description]) }
}
