internal import DequeModule

/// Which channels are wanted, which of them the server has confirmed, and what to tell it next. No I/O.
///
/// Per channel the ledger knows what is wanted and what the server was told last, and tells it the difference when it is asked for commands;
/// so what is taken back within a tick is never said. Redis answers in order and SUBSCRIBE and UNSUBSCRIBE of one channel alternate, so the
/// number of answers that a channel still waits for is all that is needed to know what an answer confirms: a subscription asked for while an
/// UNSUBSCRIBE is in flight counts only when both have been answered.
struct SubscriptionLedger: Sendable {
    typealias Waiter = UInt64

    enum Verb: Sendable, Hashable {
        case subscribe
        case unsubscribe
    }

    struct Command: Sendable, Equatable {
        let verb: Verb
        let channels: [String]
    }

    struct Limits: Sendable {
        var channelsPerCommand: Int
        var unconfirmed: Int
        var channels: Int
    }

    enum Subscribed: Sendable, Equatable {
        /// All of them are confirmed already.
        case confirmed
        /// The waiter will be named by ``confirmed(_:_:)``, ``unsubscribe(_:)`` or ``disconnected()``.
        case waiting
        /// There is no connection. The channels are remembered for the next one.
        case disconnected
        /// Beyond the bound on channels. Nothing was changed.
        case full
    }

    struct Confirmed: Sendable, Equatable {
        /// Those whose channels are now all confirmed.
        var waiters: [Waiter] = []
        /// Everything that was wanted when the connection began is now confirmed. Said once a connection.
        var isRestored = false
    }

    private struct Channel {
        var isWanted: Bool
        /// On this connection the last word was SUBSCRIBE.
        var isTold = false
        /// It stands in the list of those to be told.
        var isDirty = false
        /// It was wanted when the connection began and has not been confirmed yet.
        var isBeingRestored = false
        /// Answers that are still to come.
        var unanswered: UInt32 = 0
        var waiters: [Waiter] = []

        var isConfirmed: Bool { isTold && unanswered == 0 }
    }

    private let limits: Limits
    private var channels: [ChannelName: Channel] = [:]
    private var dirty = Deque<ChannelName>()
    /// Waiter to the number of channels that it still waits for.
    private var waiting: [Waiter: Int] = [:]
    private var isConnected = false
    private var unanswered = 0
    private var beingRestored = 0
    private var saidRestored = false
    private(set) var wantedCount = 0

    init(limits: Limits) {
        precondition(limits.channelsPerCommand > 0 && limits.unconfirmed > 0, "a ledger that may say nothing")
        self.limits = limits
    }

    var hasCommands: Bool { isConnected && !dirty.isEmpty && unanswered < limits.unconfirmed }

    mutating func subscribe(_ names: [String], waiter: Waiter) -> Subscribed {
        precondition(waiting[waiter] == nil, "a waiter's number is used once")
        var new = Set<ChannelName>()
        for name in names {
            let name = ChannelName(name)
            if channels[name]?.isWanted != true { new.insert(name) }
        }
        guard wantedCount + new.count <= limits.channels else { return .full }

        var open = 0
        for name in names {
            let name = ChannelName(name)
            var channel = channels[name] ?? Channel(isWanted: false)
            if !channel.isWanted {
                channel.isWanted = true
                wantedCount += 1
            }
            if isConnected {
                makeDirty(name, &channel)
                // A name that stands twice in one call waits once.
                if !channel.isConfirmed, channel.waiters.last != waiter {
                    channel.waiters.append(waiter)
                    open += 1
                }
            }
            channels[name] = channel
        }
        guard isConnected else { return .disconnected }
        guard open > 0 else { return .confirmed }
        waiting[waiter] = open
        return .waiting
    }

    /// Returns the waiters that now wait in vain.
    mutating func unsubscribe(_ names: [String]) -> [Waiter] {
        var cancelled: [Waiter] = []
        for name in names {
            let name = ChannelName(name)
            guard var channel = channels[name], channel.isWanted else { continue }
            channel.isWanted = false
            wantedCount -= 1
            cancelled += channel.waiters.filter { waiting.removeValue(forKey: $0) != nil }
            channel.waiters = []
            if isConnected {
                makeDirty(name, &channel)
                channels[name] = channel
            } else {
                channels[name] = nil
            }
        }
        return cancelled
    }

    mutating func connected() {
        precondition(!isConnected, "connected twice")
        isConnected = true
        saidRestored = false
        beingRestored = channels.count
        for name in channels.keys {
            channels[name]?.isBeingRestored = true
            channels[name]?.isDirty = true
            dirty.append(name)
        }
    }

    /// Returns the waiters whose confirmation will not come.
    mutating func disconnected() -> [Waiter] {
        precondition(isConnected, "disconnected twice")
        isConnected = false
        dirty = []
        unanswered = 0
        beingRestored = 0
        channels = channels.filter { $0.value.isWanted }
        for name in channels.keys { channels[name] = Channel(isWanted: true) }
        let lost = waiting.keys.sorted()
        waiting = [:]
        return lost
    }

    /// What to send now. Ask again after each tick with changes and after confirmations.
    mutating func commands() -> [Command] {
        guard isConnected else { return [] }
        var told: [Verb: [String]] = [.subscribe: [], .unsubscribe: []]
        while unanswered < limits.unconfirmed, let name = dirty.popFirst() {
            guard var channel = channels[name] else { preconditionFailure("a dirty channel that the ledger does not know") }
            channel.isDirty = false
            if channel.isWanted != channel.isTold {
                channel.isTold = channel.isWanted
                channel.unanswered += 1
                unanswered += 1
                told[channel.isWanted ? .subscribe : .unsubscribe, default: []].append(name.string)
                channels[name] = channel
            } else if channel.isWanted || channel.unanswered > 0 {
                channels[name] = channel
            } else {
                // Taken back before it was said.
                if channel.isBeingRestored { beingRestored -= 1 }
                channels[name] = nil
            }
        }
        return [Verb.subscribe, .unsubscribe].flatMap { verb in
            let names = told[verb, default: []]
            return stride(from: 0, to: names.count, by: limits.channelsPerCommand).map {
                Command(verb: verb, channels: Array(names[$0..<min($0 + limits.channelsPerCommand, names.count)]))
            }
        }
    }

    /// The server has answered for one channel. Throws when nobody asked it to.
    mutating func confirmed(_ verb: Verb, _ name: String) throws(RedisError) -> Confirmed {
        let name = ChannelName(name)
        guard var channel = channels[name], channel.unanswered > 0 else { throw .violation("a confirmation of a channel that was not asked for") }
        // Words alternate and the last one is known, so the one that is answered now is known too.
        let isLastWord = channel.unanswered % 2 == 1
        guard (verb == .subscribe) == (channel.isTold == isLastWord) else { throw .violation("a confirmation of something else than was asked for") }
        channel.unanswered -= 1
        unanswered -= 1
        if channel.isBeingRestored {
            channel.isBeingRestored = false
            beingRestored -= 1
        }
        var result = Confirmed()
        if channel.isConfirmed, channel.isWanted {
            for waiter in channel.waiters {
                guard let open = waiting[waiter] else { continue }
                waiting[waiter] = open == 1 ? nil : open - 1
                if open == 1 { result.waiters.append(waiter) }
            }
            channel.waiters = []
        }
        channels[name] = !channel.isWanted && !channel.isTold && channel.unanswered == 0 && !channel.isDirty ? nil : channel
        result.isRestored = checkRestored()
        return result
    }

    /// Whether everything that was wanted when the connection began is confirmed now, said once a connection. For what restores without an
    /// answer: an empty ledger, or channels that were taken back before they were said.
    mutating func checkRestored() -> Bool {
        guard isConnected, !saidRestored, beingRestored == 0 else { return false }
        saidRestored = true
        return true
    }

    private mutating func makeDirty(_ name: ChannelName, _ channel: inout Channel) {
        guard !channel.isDirty, channel.isWanted != channel.isTold else { return }
        channel.isDirty = true
        dirty.append(name)
    }
}
