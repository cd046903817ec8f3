public import Logging
public import NIOCore
public import NotificationCore
public import RedisClient
import Synchronization

/// What an edge hears from Redis, sorted by the event loops that want it.
public protocol SubscriptionListener: AnyObject, Sendable {
    /// Called on the subscriber's event loop, once per loop and read.
    func received(_ messages: [UserMessage], loop: Int)
    func received(_ control: Control)
    func received(_ question: EdgeQuestion)
    /// What other nodes told this one in between is lost, evictions among it.
    func controlRestored()
    /// For every stream of this edge.
    func received(broadcast payload: ByteBuffer)
    /// A new connection is up and everything is subscribed again: what was published in between is lost.
    func resubscribed()
    /// The channels of these users are subscribed again, after their part of Redis was lost or they have moved: what was published to them in
    /// between is lost. Once per loop that wants any of them.
    func resubscribed(_ users: [UserID], loop: Int)
}

public struct UserMessage: Sendable {
    public var user: UserID
    public var payload: ByteBuffer
}

/// Which users' channels this edge is subscribed to, and which of its event loops want each. It subscribes to its own users only.
///
/// A channel that nobody wants any more is kept for a while, since the user usually comes back, and an UNSUBSCRIBE in flight makes
/// "already subscribed" false.
public final class Subscriptions: RedisSubscriberDelegate {
    private struct Entry {
        var user: UserID
        /// A bit for each event loop.
        var loops: UInt64
        var unwantedSince: NIODeadline?
    }

    private struct State {
        var entries: [ByteBuffer: Entry] = [:]
        var subscriber: RedisSubscriber?
        var listener: (any SubscriptionListener)?
        var sweep: RepeatedTask?
    }

    static let linger: TimeAmount = .seconds(30)

    private let names: RedisNames
    private let loops: Int
    private let control: ByteBuffer
    private let controlName: String
    private let broadcast: ByteBuffer
    private let probe: Histogram
    private let eventLoop: any EventLoop
    private let logger: Logger
    /// Only touched from the subscriber's event loop, but for start and stop: the lock is never fought over.
    private let state = Mutex(State())

    /// - Parameter loops: At most 64.
    public init(names: RedisNames, edge: String, loops: Int, eventLoop: any EventLoop, probe: Histogram, logger: Logger) {
        precondition((1...64).contains(loops), "a bit for each event loop")
        self.names = names
        self.loops = loops
        self.eventLoop = eventLoop
        self.controlName = names.control(edge: edge)
        self.control = ByteBuffer(string: self.controlName)
        self.broadcast = ByteBuffer(string: names.broadcast)
        self.probe = probe
        self.logger = logger
    }

    public func start(_ subscriber: RedisSubscriber, listener: any SubscriptionListener) {
        self.state.withLock {
            $0.subscriber = subscriber
            $0.listener = listener
            $0.sweep = subscriber.eventLoop.scheduleRepeatedTask(initialDelay: .seconds(5), delay: .seconds(5)) { _ in self.dropUnwanted() }
        }
        subscriber.start()
        // It is remembered and subscribed with the first connection.
        subscriber.subscribe([self.controlName, self.names.broadcast]).whenFailure { error in
            self.logger.debug("control channels wait for the connection", metadata: ["error": "\(error)"])
        }
    }

    public func stop() {
        self.state.withLock {
            $0.sweep?.cancel()
            $0.sweep = nil
            $0.listener = nil
            $0.subscriber = nil
        }
    }

    public var isAvailable: Bool { self.state.withLock { $0.subscriber?.isAvailable ?? false } }
    public var channels: Int { self.state.withLock { $0.entries.count } }

    /// Completes when messages of these users reach that loop; fails when Redis is away (they are subscribed when it is back).
    public func hold(_ users: [UserID], loop: Int) -> EventLoopFuture<Void> {
        let (subscriber, names) = self.state.withLock { state -> (RedisSubscriber?, [String]) in
            var channels: [String] = []
            for user in users {
                let name = self.names.channel(user)
                channels.append(name)
                state.entries[ByteBuffer(string: name), default: Entry(user: user, loops: 0, unwantedSince: nil)].loops |= 1 << UInt64(loop)
                state.entries[ByteBuffer(string: name)]!.unwantedSince = nil
            }
            return (state.subscriber, channels)
        }
        // Nil while the node stops: the stream is closed anyway.
        return subscriber?.subscribe(names) ?? self.eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel)
    }

    /// That loop wants them no more.
    public func release(_ users: [UserID], loop: Int) {
        self.state.withLock { state in
            for user in users {
                let name = ByteBuffer(string: self.names.channel(user))
                guard var entry = state.entries[name] else { continue }
                entry.loops &= ~(1 << UInt64(loop))
                if entry.loops == 0 { entry.unwantedSince = .now() }
                state.entries[name] = entry
            }
        }
    }

    private func dropUnwanted() {
        let (subscriber, names) = self.state.withLock { state -> (RedisSubscriber?, [String]) in
            let now = NIODeadline.now()
            var names: [String] = []
            for (name, entry) in state.entries {
                guard let since = entry.unwantedSince, now - since >= Self.linger else { continue }
                names.append(String(buffer: name))
                state.entries[name] = nil
            }
            return (state.subscriber, names)
        }
        if !names.isEmpty { subscriber?.unsubscribe(names) }
    }

    public func subscriber(_ subscriber: RedisSubscriber, received messages: [RedisMessage]) {
        var byLoop = [[UserMessage]](repeating: [], count: self.loops)
        var controls: [Control] = []
        var questions: [EdgeQuestion] = []
        var broadcasts: [ByteBuffer] = []
        let listener = self.state.withLock { state in
            for message in messages {
                if let entry = state.entries[message.channel] {
                    var loops = entry.loops
                    while loops != 0 {
                        let loop = loops.trailingZeroBitCount
                        byLoop[loop].append(UserMessage(user: entry.user, payload: message.payload))
                        loops &= loops - 1
                    }
                } else if message.channel == self.broadcast {
                    broadcasts.append(message.payload)
                } else if message.channel == self.control {
                    let text = String(buffer: message.payload)
                    if let control = Control(text) {
                        controls.append(control)
                    } else if let question = EdgeQuestion(text) {
                        questions.append(question)
                    }
                }
            }
            return state.listener
        }
        for (loop, messages) in byLoop.enumerated() where !messages.isEmpty { listener?.received(messages, loop: loop) }
        for payload in broadcasts { listener?.received(broadcast: payload) }
        for control in controls { listener?.received(control) }
        for question in questions { listener?.received(question) }
    }

    public func subscriberResubscribed(_ subscriber: RedisSubscriber, channels: [String]?) {
        if channels?.contains(self.controlName) ?? true { self.state.withLock { $0.listener }?.controlRestored() }
        guard let channels else {
            self.state.withLock { $0.listener }?.resubscribed()
            return
        }
        var byLoop = [[UserID]](repeating: [], count: self.loops)
        let listener = self.state.withLock { state in
            for channel in channels {
                guard let entry = state.entries[ByteBuffer(string: channel)] else { continue }
                var loops = entry.loops
                while loops != 0 {
                    byLoop[loops.trailingZeroBitCount].append(entry.user)
                    loops &= loops - 1
                }
            }
            return state.listener
        }
        for (loop, users) in byLoop.enumerated() where !users.isEmpty { listener?.resubscribed(users, loop: loop) }
    }

    public func subscriberLost(_ subscriber: RedisSubscriber) {}

    public func subscriber(_ subscriber: RedisSubscriber, probeTook nanoseconds: Int64) {
        self.probe.record(microseconds: nanoseconds / 1000)
    }
}
