internal import NIOConcurrencyHelpers
internal import Synchronization

/// What a client has counted since it was made. Gauges say so.
public struct RedisClientCounters: Sendable, Hashable {
    /// Connections that became available, the first included.
    public var connected = 0
    /// Connections that were lost after they had become available.
    public var lost = 0
    /// Attempts to connect that failed, refused greetings included.
    public var connectFailures = 0
    /// Commands written to the server.
    public var commandsSent = 0
    /// Commands that failed since the connection was lost while they were in flight.
    public var commandsFailed = 0
    /// Commands that were not sent since the client was not available.
    public var rejectedUnavailable = 0
    /// Commands that were not sent since the bound of what may be in flight was reached.
    public var rejectedQueueFull = 0
    /// Errors that the server answered commands with, the three below included.
    public var serverErrors = 0
    /// `-READONLY`: each also closed its connection.
    public var readOnlyReplies = 0
    public var loadingReplies = 0
    public var masterDownReplies = 0
    /// Times that a node of a cluster sent a command elsewhere or put it off (MOVED, ASK, TRYAGAIN). Among the errors above, too.
    public var redirections = 0
    /// Connections closed for silence.
    public var silences = 0
    public var protocolViolations = 0
    /// Gauge: commands that await their replies now.
    public var commandsInFlight = 0
    /// Gauge: their bytes.
    public var bytesInFlight = 0
}

/// What a subscriber has counted since it was made. Gauges say so.
public struct RedisSubscriberCounters: Sendable, Hashable {
    /// Connections that greeted, the first included.
    public var connected = 0
    /// Connections that were lost after that.
    public var lost = 0
    public var connectFailures = 0
    /// Times that all wanted channels were subscribed and confirmed on a new connection, the first included.
    public var resubscribes = 0
    public var messages = 0
    /// Calls of the delegate that these messages took.
    public var batches = 0
    /// Calls of `subscribe` that failed.
    public var subscribesFailed = 0
    public var probesSent = 0
    public var probesReceived = 0
    /// Probes that could not be published.
    public var probeFailures = 0
    /// Connections closed for silence.
    public var silences = 0
    public var protocolViolations = 0
    /// Gauge: channels wanted now, confirmed or not.
    public var channels = 0
}

/// A number that one event loop writes and any thread reads.
final class Counter: Sendable {
    private let number = Atomic<Int>(0)

    var value: Int { number.load(ordering: .relaxed) }

    func add(_ amount: Int = 1) {
        number.wrappingAdd(amount, ordering: .relaxed)
    }

    func set(_ amount: Int) {
        number.store(amount, ordering: .relaxed)
    }
}

/// What both kinds of client count about their connection.
struct ConnectionCounters: Sendable {
    let connected: Counter
    let lost: Counter
    let connectFailures: Counter
    let silences: Counter
    let protocolViolations: Counter
    /// Why there is no connection; nil while there is one.
    let reason = NIOLockedValueBox<RedisError?>(nil)

    init() {
        connected = Counter()
        lost = Counter()
        connectFailures = Counter()
        silences = Counter()
        protocolViolations = Counter()
    }

    /// Of one of several connections: added up with the others, but for the reason.
    init(partOf whole: ConnectionCounters) {
        connected = whole.connected
        lost = whole.lost
        connectFailures = whole.connectFailures
        silences = whole.silences
        protocolViolations = whole.protocolViolations
    }
}

/// What a client counts about its commands.
struct CommandCounters: Sendable {
    let sent = Counter()
    let failed = Counter()
    let rejectedUnavailable = Counter()
    let rejectedQueueFull = Counter()
    let serverErrors = Counter()
    let readOnlyReplies = Counter()
    let loadingReplies = Counter()
    let masterDownReplies = Counter()
    let redirections = Counter()
}
