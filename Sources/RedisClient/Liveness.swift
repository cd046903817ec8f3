internal import NIOCore

/// Notices a peer that has gone silent. Asked once a tick; reads between two ticks only leave a mark, so that the hot path reads no clock.
///
/// While nothing is awaited it rests until the next probe, so that an idle connection wakes hardly anybody; what is asked for meanwhile is told by `asked`.
/// Silence is measured from then, or from the first tick at which an answer was awaited, and only while this process was awake: after a stop (a debugger,
/// SIGSTOP, a sleeping laptop) what the kernel has received in the meantime is read first.
struct Liveness: Sendable {
    enum Action: Sendable, Equatable {
        case none
        /// Ask the peer for a sign of life.
        case probe
        /// The peer has been silent beyond the bound: close the connection.
        case silent
    }

    enum Probing: Sendable {
        /// Probes only while nothing else is awaited (a connection for commands).
        case whenIdle
        /// Probes at every interval (a connection on which the peer speaks of its own accord).
        case always
    }

    let silence: TimeAmount
    let interval: TimeAmount
    let tick: TimeAmount
    let probing: Probing

    /// From one tick to the next.
    private(set) var rest: TimeAmount
    /// Whether the time of what is asked for next is to be told.
    private(set) var isResting = false

    private var heard = false
    private var waitingSince: NIODeadline?
    private var lastTick: NIODeadline
    private var lastProbe: NIODeadline

    init(silence: TimeAmount, interval: TimeAmount, probing: Probing, now: NIODeadline) {
        precondition(silence > .zero && interval > .zero, "liveness needs bounds above zero")
        self.silence = silence
        self.interval = interval
        self.probing = probing
        // Four times within the shorter of both: a probe or a verdict is late by a quarter of its time at most.
        tick = .nanoseconds(max(1, min(silence.nanoseconds, interval.nanoseconds) / 4))
        rest = tick
        lastTick = now
        // At whole multiples of the interval, so that the connections of a process ask together.
        lastProbe = now - .nanoseconds(Int64(now.uptimeNanoseconds % UInt64(interval.nanoseconds)))
    }

    /// Something was read from the peer.
    mutating func read() {
        heard = true
    }

    /// The first question while it rests: what was read before is no answer to it.
    mutating func asked(now: NIODeadline) {
        guard isResting else { return }
        isResting = false
        heard = false
        waitingSince = now
    }

    /// - Parameter awaiting: whether the peer owes an answer.
    mutating func tick(now: NIODeadline, awaiting: Bool) -> Action {
        let hasSpoken = heard
        let action = judge(now: now, awaiting: awaiting)
        // One that speaks of its own accord is awaited always: having spoken it may be silent until the next probe.
        isResting = action == .none && (!awaiting || (probing == .always && hasSpoken))
        // No longer than the bound: that is how much later a verdict may be for it.
        rest = isResting ? max(tick, min(interval - (now - lastProbe), silence)) : tick
        return action
    }

    private mutating func judge(now: NIODeadline, awaiting: Bool) -> Action {
        let elapsed = now - lastTick
        lastTick = now
        if heard || !awaiting { waitingSince = nil }
        heard = false
        if awaiting {
            if let since = waitingSince {
                let asleep = elapsed > rest + tick ? elapsed - rest : .zero
                waitingSince = min(now, since + asleep)
            } else {
                waitingSince = now
            }
            if let waitingSince, now - waitingSince >= silence { return .silent }
        }
        switch probing {
        case .whenIdle where awaiting: return .none
        case .whenIdle, .always:
            let since = now - lastProbe
            guard since >= interval else { return .none }
            lastProbe = now - .nanoseconds(since.nanoseconds % interval.nanoseconds)
            return .probe
        }
    }
}
