internal import DequeModule

/// The sharded subscriptions of one connection to one master of a cluster: which channels are wanted there, which it has confirmed, and what to
/// tell it next. No I/O.
///
/// Unlike a ``SubscriptionLedger`` it has to do with a server that refuses commands without ending the connection (MOVED), and that ends
/// subscriptions of its own accord when their slot leaves it. So each command names channels of one slot, a channel has one command in flight
/// at most, and commands are remembered in the order of asking, to know what a refusal refuses.
struct ShardLedger: Sendable {
    typealias Verb = SubscriptionLedger.Verb

    struct Command: Sendable, Equatable {
        let verb: Verb
        let slot: HashSlot
        let channels: [ChannelName]
    }

    enum Unsubscribed: Sendable, Equatable {
        /// As asked for.
        case answered
        /// The server ended it by itself: the slot is leaving. It is asked for again, which tells where the slot is.
        case revoked(ChannelName)
        /// The end of what was being ended anyway.
        case redundant
    }

    private enum Phase {
        case idle
        case subscribing
        case subscribed
        case unsubscribing
    }

    private struct Channel {
        let slot: HashSlot
        var isWanted = true
        var phase = Phase.idle
        /// It stands in the list of those that may need a command.
        var isDirty = false
    }

    private struct InFlight {
        let command: Command
        var answered = 0
    }

    private let channelsPerCommand: Int
    private let maximumUnconfirmed: Int
    private var channels: [ChannelName: Channel] = [:]
    private var dirty = Deque<ChannelName>()
    private var refused: [ChannelName] = []
    private var inFlight = Deque<InFlight>()
    private var unanswered = 0
    private var isConnected = false

    init(channelsPerCommand: Int, maximumUnconfirmed: Int) {
        precondition(channelsPerCommand > 0 && maximumUnconfirmed > 0, "a ledger that may say nothing")
        self.channelsPerCommand = channelsPerCommand
        self.maximumUnconfirmed = maximumUnconfirmed
    }

    var hasCommands: Bool { isConnected && !dirty.isEmpty && unanswered < maximumUnconfirmed }
    var isEmpty: Bool { channels.isEmpty }

    func isConfirmed(_ name: ChannelName) -> Bool {
        guard let channel = channels[name] else { return false }
        return channel.isWanted && channel.phase == .subscribed
    }

    mutating func want(_ name: ChannelName, _ slot: HashSlot) {
        var channel = channels[name] ?? Channel(slot: slot)
        channel.isWanted = true
        makeDirty(name, &channel)
        channels[name] = channel
    }

    mutating func unwant(_ name: ChannelName) {
        guard var channel = channels[name] else { return }
        channel.isWanted = false
        makeDirty(name, &channel)
        channels[name] = channel.phase == .idle && !channel.isDirty ? nil : channel
    }

    mutating func connected() {
        precondition(!isConnected, "connected twice")
        isConnected = true
        for name in channels.keys {
            channels[name]?.isDirty = true
            dirty.append(name)
        }
    }

    mutating func disconnected() {
        precondition(isConnected, "disconnected twice")
        isConnected = false
        dirty = []
        refused = []
        inFlight = []
        unanswered = 0
        channels = channels.filter { $0.value.isWanted }
        for name in channels.keys {
            channels[name]?.phase = .idle
            channels[name]?.isDirty = false
        }
    }

    /// What to send now. Ask again after changes, answers and refusals.
    mutating func commands() -> [Command] {
        guard isConnected else { return [] }
        struct Group: Hashable {
            let verb: Verb
            let slot: HashSlot
        }
        var groups: [Group: [ChannelName]] = [:]
        var order: [Group] = []
        var left = maximumUnconfirmed - unanswered
        while left > 0, let name = dirty.popFirst() {
            guard var channel = channels[name] else { preconditionFailure("a dirty channel that the ledger does not know") }
            channel.isDirty = false
            let verb: Verb?
            switch channel.phase {
            case .idle: verb = channel.isWanted ? .subscribe : nil
            case .subscribed: verb = channel.isWanted ? nil : .unsubscribe
            // Its answer makes it dirty again.
            case .subscribing, .unsubscribing: verb = nil
            }
            if let verb {
                channel.phase = verb == .subscribe ? .subscribing : .unsubscribing
                left -= 1
                let group = Group(verb: verb, slot: channel.slot)
                if groups[group] == nil { order.append(group) }
                groups[group, default: []].append(name)
            }
            // Taken back before it was said: forgotten.
            channels[name] = channel.phase == .idle && !channel.isWanted ? nil : channel
        }
        var commands: [Command] = []
        for group in order {
            let names = groups[group, default: []]
            for start in stride(from: 0, to: names.count, by: channelsPerCommand) {
                let command = Command(verb: group.verb, slot: group.slot, channels: Array(names[start..<min(start + channelsPerCommand, names.count)]))
                commands.append(command)
                inFlight.append(InFlight(command: command))
                unanswered += command.channels.count
            }
        }
        return commands
    }

    /// The server confirmed a subscription. Returns whether it is still wanted. Throws when it was not asked for.
    mutating func subscribed(_ name: ChannelName) throws(RedisError) -> Bool {
        guard answer(.subscribe, name), var channel = channels[name] else { throw .violation("a confirmation of a channel that was not asked for") }
        channel.phase = .subscribed
        makeDirty(name, &channel)
        channels[name] = channel
        return channel.isWanted
    }

    /// The server says that a subscription has ended, asked for or not.
    mutating func unsubscribed(_ name: ChannelName) -> Unsubscribed {
        if answer(.unsubscribe, name) {
            ended(name)
            return .answered
        }
        guard var channel = channels[name], channel.phase == .subscribed else { return .redundant }
        channel.phase = .idle
        guard channel.isWanted else {
            channels[name] = channel.isDirty ? channel : nil
            return .redundant
        }
        makeDirty(name, &channel)
        channels[name] = channel
        return .revoked(name)
    }

    /// The server refused the command that it owes an answer to. Channels that were to be subscribed wait for ``retryRefused()``; those that were
    /// to be unsubscribed are. Returns the channels whose subscription was refused.
    ///
    /// - Parameter slot: the slot that the refusal names, if it does. When that is not the slot of the command, the refusal is of an
    ///   UNSUBSCRIBE whose channels the server had ended by itself, which was taken for its answer. When it is, by chance, since the slot has come
    ///   back, a later answer fits nothing: a protocol violation, and the new connection sets it right.
    mutating func refused(slot: HashSlot?) throws(RedisError) -> [ChannelName] {
        if let slot, inFlight.first?.command.slot != slot { return [] }
        guard let first = inFlight.popFirst() else { throw .violation("a refusal of nothing that was asked") }
        unanswered -= first.command.channels.count - first.answered
        let rest = first.command.channels.dropFirst(first.answered)
        switch first.command.verb {
        case .subscribe:
            for name in rest {
                guard var channel = channels[name] else { continue }
                channel.phase = .idle
                if channel.isWanted { refused.append(name) }
                channels[name] = channel.isWanted || channel.isDirty ? channel : nil
            }
            return Array(rest)
        case .unsubscribe:
            for name in rest { ended(name) }
            return []
        }
    }

    var hasRefused: Bool { !refused.isEmpty }

    /// Asks once more for what was refused and is still wanted here.
    mutating func retryRefused() {
        let names = refused
        refused = []
        for name in names {
            guard var channel = channels[name] else { continue }
            makeDirty(name, &channel)
            channels[name] = channel
        }
    }

    /// Whether this is the next answer that is owed; if so, it is counted.
    private mutating func answer(_ verb: Verb, _ name: ChannelName) -> Bool {
        guard let first = inFlight.first, first.command.verb == verb, first.command.channels[first.answered] == name else { return false }
        unanswered -= 1
        if first.answered + 1 == first.command.channels.count { inFlight.removeFirst() } else { inFlight[inFlight.startIndex].answered += 1 }
        return true
    }

    private mutating func ended(_ name: ChannelName) {
        guard var channel = channels[name] else { return }
        channel.phase = .idle
        makeDirty(name, &channel)
        channels[name] = channel.isWanted || channel.isDirty ? channel : nil
    }

    private mutating func makeDirty(_ name: ChannelName, _ channel: inout Channel) {
        guard isConnected, !channel.isDirty else { return }
        switch channel.phase {
        case .idle: if !channel.isWanted { return }
        case .subscribed: if channel.isWanted { return }
        case .subscribing, .unsubscribing: return
        }
        channel.isDirty = true
        dirty.append(name)
    }
}
