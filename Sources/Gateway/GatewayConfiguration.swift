public import NIOCore
public import NIOHTTP1
public import NotificationCore

/// Where a node listens, and the bounds of what it takes in.
public struct GatewayConfiguration: Sendable {
    public var host: String
    /// 0: any free port, which ``GatewayServer/start()`` tells.
    public var port: Int
    public var nodeName: String
    /// For the log.
    public var roles: [String]
    /// Whose word about a client's address (`X-Forwarded-For`) counts, besides that of this machine itself.
    public var trustedProxies: [IPRange] = []
    /// Bytes of a request's body.
    public var bodyLimit = 1024 * 1024
    /// The same for routes that publish.
    public var publishBodyLimit = 4 * 1024 * 1024
    /// The same for routes that take the body as it comes.
    public var passedBodyLimit = 512 * 1024 * 1024
    /// Bytes of all bodies together that are held until their requests are answered, less the first of each. Strangers have half of it.
    public var heldBodies = 128 * 1024 * 1024
    /// Of each body the first bytes, which are counted apart, so that requests of the usual size are taken while large ones have used up all of that.
    public var freeBody = 16 * 1024
    /// The same as ``heldBodies`` for these first bytes. Strangers have half of it; past that theirs are counted like all others.
    public var heldSmallBodies = 64 * 1024 * 1024
    /// Whether a request's credential was seen to be good, without waiting for anything.
    public var recognizes: @Sendable (HTTPHeaders) -> Bool = { _ in true }
    /// Bytes of the request line and all headers.
    public var headerLimit = 16 * 1024
    /// Connections past this are answered and closed; a few more past that are closed unanswered.
    public var maxConnections: Int
    /// From a head's first bytes to its end.
    public var headTimeout: TimeAmount = .seconds(10)
    /// From a head's end to its body's; of a body that is taken as it comes, from one part to the next.
    public var bodyTimeout: TimeAmount = .seconds(30)
    /// Between two requests, and before the first.
    public var idleTimeout: TimeAmount = .seconds(75)
    /// How long a client may take to close after the last answer, so that it reads it (RFC 9112, 9.6).
    public var lingerTimeout: TimeAmount = .seconds(2)
    /// How long ``GatewayServer/shutdown()`` waits for requests that have begun.
    public var shutdownGrace: TimeAmount = .seconds(10)

    public init(host: String, port: Int, nodeName: String, roles: [String] = [], maxConnections: Int = 15_000) {
        self.host = host
        self.port = port
        self.nodeName = nodeName
        self.roles = roles
        self.maxConnections = maxConnections
    }

    /// Whether that peer's `X-Forwarded-For` counts.
    func trusts(_ peer: String) -> Bool {
        if peer.hasPrefix("127.") || peer == "::1" || peer.hasPrefix("::ffff:127.") { return true }
        guard !self.trustedProxies.isEmpty, let address = IPAddress(peer) else { return false }
        return self.trustedProxies.contains { $0.contains(address) }
    }
}
