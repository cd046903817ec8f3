public import NotificationBus
public import Synchronization

/// What an edge counts.
public final class EdgeMetrics: Sendable {
    public let connections = Atomic<Int>(0)
    private let events = Atomic<Int>(0)
    private let webSockets = Atomic<Int>(0)
    private let socketIO = Atomic<Int>(0)
    private let polls = Atomic<Int>(0)
    /// Engine.IO sessions, with or without a stream.
    public let sessions = Atomic<Int>(0)
    public let lagging = Atomic<Int>(0)
    public let delivered = Atomic<Int>(0)
    /// Direct events written, and those that a stream could not take.
    public let direct = Atomic<Int>(0)
    public let directDropped = Atomic<Int>(0)
    public let gapRepairs = Atomic<Int>(0)
    public let resyncs = Atomic<Int>(0)
    public let unpublished = Atomic<Int>(0)
    public let refused = Atomic<Int>(0)
    public let evicted = Atomic<Int>(0)
    public let stalled = Atomic<Int>(0)
    /// Sessions that ended since the client did not answer a ping.
    public let silent = Atomic<Int>(0)
    public let malformed = Atomic<Int>(0)
    public let opened = Atomic<Int>(0)
    /// Times that an event loop found that this process had stood still.
    public let suspensions = Atomic<Int>(0)
    /// From commit to the write on the socket.
    public let fanout = Histogram()

    public init() {}

    func opened(_ transport: Transport, by difference: Int) {
        switch transport {
        case .sse: self.events.add(difference, ordering: .relaxed)
        case .webSocket: self.webSockets.add(difference, ordering: .relaxed)
        case .socketIO: self.socketIO.add(difference, ordering: .relaxed)
        case .poll: self.polls.add(difference, ordering: .relaxed)
        }
    }

    /// Streams that are open over this transport.
    public func open(_ transport: Transport) -> Int {
        switch transport {
        case .sse: self.events.load(ordering: .relaxed)
        case .webSocket: self.webSockets.load(ordering: .relaxed)
        case .socketIO: self.socketIO.load(ordering: .relaxed)
        case .poll: self.polls.load(ordering: .relaxed)
        }
    }
}
