public import NIOCore

/// Bounds and times of an edge node.
public struct EdgeConfiguration: Sendable {
    public var node: String
    /// Streams of this process; past it a new one is sent away with a `retry:`.
    public var maximumConnections = 15_000
    /// Unsent bytes of one stream; past it nothing more is written to it until it has read, and as much lies in its socket.
    public var unsentBytes = 64 * 1024
    public var pingSeconds: Int64 = 30
    /// A reader that takes nothing for this long is closed.
    public var stalledSeconds: Int64 = 60
    /// How long a new stream waits for its subscription and the log; longer than a silent Redis takes to be noticed.
    public var joinSeconds: Int64 = 8
    public var authExpiringSeconds: Int64 = 60
    /// How long to wait for a message that another one overtook before the log is read.
    public var gapDelay: TimeAmount = .milliseconds(20)
    public var drainWindow: TimeAmount = .seconds(20)

    public init(node: String) {
        self.node = node
    }

    /// A client comes back after this, each a little different.
    static func retryMilliseconds() -> Int { Int.random(in: 500...2500) }
    static func drainRetryMilliseconds() -> Int { Int.random(in: 1000...2500) }
    static let evictedRetryMilliseconds = 60_000
}
