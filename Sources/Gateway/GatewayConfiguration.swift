public import NIOCore

/// Where a node listens, and the bounds of what it takes in.
public struct GatewayConfiguration: Sendable {
    public var host: String
    /// 0: any free port, which ``GatewayServer/start()`` tells.
    public var port: Int
    public var nodeName: String
    /// For the log.
    public var roles: [String]
    /// Bytes of a request's body.
    public var bodyLimit = 1024 * 1024
    /// The same for routes that publish.
    public var publishBodyLimit = 4 * 1024 * 1024
    /// The same for routes that take the body as it comes.
    public var passedBodyLimit = 512 * 1024 * 1024
    /// Bytes of all bodies together that are held until their requests are answered.
    public var heldBodies = 128 * 1024 * 1024
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
    /// How long ``GatewayServer/shutdown()`` waits for requests in flight.
    public var shutdownGrace: TimeAmount = .seconds(10)

    public init(host: String, port: Int, nodeName: String, roles: [String] = [], maxConnections: Int = 15_000) {
        self.host = host
        self.port = port
        self.nodeName = nodeName
        self.roles = roles
        self.maxConnections = maxConnections
    }
}
