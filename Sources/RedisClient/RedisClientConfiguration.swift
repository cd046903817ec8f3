public import NIOCore

/// The times of a connection, the same for commands and for subscriptions.
public struct RedisConnectionConfiguration: Sendable {
    /// How long TCP may take to connect. 2 s.
    public var connectTimeout: TimeAmount = .seconds(2)
    /// Nothing read for this long while something is awaited: the connection is closed and opened anew. 3 s. What is measured is at least
    /// this; at most the shorter of this and `probeInterval`, and a quarter of that, more.
    public var silence: TimeAmount = .seconds(3)
    /// How often a sign of life is asked for, and the sentinels or the cluster who serves what. 1 s; keep it below `silence`.
    public var probeInterval: TimeAmount = .seconds(1)
    /// First and longest wait before connecting again; doubles in between, jittered from half to all of it. 50 ms and 1 s.
    public var backoffInitial: TimeAmount = .milliseconds(50)
    public var backoffMaximum: TimeAmount = .seconds(1)
    /// One reply may take this many bytes; more is a protocol violation. 64 MiB.
    public var maximumReplyBytes = 64 * 1024 * 1024
    /// For `rediss://`.
    public var tls = RedisTLS()

    public init() {}
}

public struct RedisClientConfiguration: Sendable {
    public var connection = RedisConnectionConfiguration()
    /// Commands that may await their replies, over all callers and all masters of a cluster. 100,000. Beyond, sending fails with `queueFull`.
    public var maximumCommandsInFlight = 100_000
    /// Encoded bytes (slightly overestimated) of the commands that await their replies. 64 MiB.
    public var maximumBytesInFlight = 64 * 1024 * 1024
    /// Whether one server (not a Sentinel's, not a cluster's) may be a read-only replica. False: such a one is not available.
    public var acceptsReplica = false

    public init() {}
}

public struct RedisSubscriberConfiguration: Sendable {
    public var connection = RedisConnectionConfiguration()
    /// The probe channel's name begins with this; the rest is random. Give it the application's prefix, so that an ACL can allow it. For a cluster
    /// it has no hash tag: there is a probe channel for each master, in a slot of its own.
    public var probeChannelPrefix = "probe:"
    /// Channels named by one SUBSCRIBE or UNSUBSCRIBE command. 500.
    public var channelsPerCommand = 500
    /// Channels whose confirmation is awaited at a time; the others wait their turn. Bounds what the server must buffer in answers, so
    /// with a cluster each master has as many. 10,000.
    public var maximumUnconfirmed = 10_000
    /// Channels that may be wanted at a time; beyond, `subscribe` fails with `queueFull`. 1,000,000.
    public var maximumChannels = 1_000_000

    public init() {}
}
