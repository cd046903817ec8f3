internal import NIOCore

/// Notices a peer that has gone silent. Asked once a tick; reads between two ticks only leave a mark, so that the hot path reads no clock.
///
/// Silence is measured from the first tick at which an answer was awaited, and only while this process was awake: after a stop (a debugger,
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
        lastTick = now
        lastProbe = now
    }

    /// Something was read from the peer.
    mutating func read() {
        heard = true
    }

    /// - Parameter awaiting: whether the peer owes an answer.
    mutating func tick(now: NIODeadline, awaiting: Bool) -> Action {
        let elapsed = now - lastTick
        lastTick = now
        if heard || !awaiting { waitingSince = nil }
        heard = false
        if awaiting {
            if let since = waitingSince {
                let asleep = elapsed > .nanoseconds(tick.nanoseconds * 2) ? elapsed - tick : .zero
                waitingSince = since + asleep
            } else {
                waitingSince = now
            }
            if let waitingSince, now - waitingSince >= silence { return .silent }
        }
        switch probing {
        case .whenIdle where awaiting: return .none
        case .whenIdle, .always:
            guard now - lastProbe >= interval else { return .none }
            lastProbe = now
            return .probe
        }
    }
}
