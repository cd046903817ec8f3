import Foundation
import NIOCore

/// A server to talk to, resolved once.
struct Target: Sendable, CustomStringConvertible {
    let host: String
    let port: Int
    let address: SocketAddress

    var description: String { "http://\(hostHeader)" }
    var hostHeader: String { (host.contains(":") ? "[\(host)]" : host) + ":\(port)" }

    /// Takes `http://host[:port]` with no path of its own.
    ///
    /// Unless `allowRemote`, only loopback is accepted: a load generator pointed at somebody else's machine by a slip of
    /// the keyboard is an attack.
    init(_ url: String, allowRemote: Bool) throws(LoadtestError) {
        guard let parts = URLComponents(string: url), parts.scheme == "http", let name = parts.host, !name.isEmpty,
            parts.path.isEmpty || parts.path == "/", parts.query == nil, parts.user == nil
        else { throw .usage("'\(url)' is no target", "Give http://HOST:PORT, without a path") }
        host = name.hasPrefix("[") ? String(name.dropFirst().dropLast()) : name
        port = parts.port ?? 80
        guard (1...65_535).contains(port) else { throw .usage("'\(url)' has no valid port", "Give a port from 1 to 65535") }
        if host == "localhost" {
            // Not looked up: the answer could be another machine's address, or one where nothing listens.
            address = Self.resolved("127.0.0.1", port)!
            return
        }
        if let literal = Self.resolved(host, port) {
            guard allowRemote || Self.isLoopback(literal) else { throw Self.remote(url) }
            address = literal
            return
        }
        guard allowRemote else { throw Self.remote(url) }
        do { address = try SocketAddress.makeAddressResolvingHost(host, port: port) } catch {
            throw .environment("'\(host)' has no address", "Check the name")
        }
    }

    static func isLoopback(_ address: SocketAddress) -> Bool {
        switch address {
        case .v4: address.ipAddress?.hasPrefix("127.") ?? false
        case .v6: address.ipAddress == "::1"
        case .unixDomainSocket: true
        }
    }

    private static func resolved(_ host: String, _ port: Int) -> SocketAddress? {
        do { return try SocketAddress(ipAddress: host, port: port) } catch {
            // Not an address but a name.
            return nil
        }
    }

    private static func remote(_ url: String) -> LoadtestError {
        .usage("'\(url)' is not a loopback address", "Give --allow-remote if that machine is yours to load")
    }
}
