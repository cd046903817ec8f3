import NIOCore
import NotificationBus

/// Notices that this process stood still (SIGSTOP, a paused virtual machine) for so long that other edges may take it for dead, and its
/// streams' places with it. No I/O; the clock is a parameter.
struct Suspension {
    /// The tick comes each second: a jump beyond this is no late tick.
    static let jump: TimeAmount = .milliseconds(1500)
    /// A heartbeat of this age is about to be too old.
    static let heartbeat: TimeAmount = .milliseconds(Leases.deadMilliseconds - 500)

    private(set) var isSuspended = false
    private var lastAwake: NIODeadline?
    /// As of `lastAwake`: a beat after the standstill says nothing about what others did during it.
    private var lastBeat: NIODeadline?

    /// Once a second, and only when it has looked whether it stood still.
    ///
    /// - Parameter lastBeat: Nil before the first one.
    mutating func awake(now: NIODeadline, lastBeat: NIODeadline?) {
        self.lastAwake = now
        self.lastBeat = lastBeat
    }

    /// Whether it stood still since it was last awake and its heartbeat became too old. It is suspended from then on.
    mutating func begins(now: NIODeadline) -> Bool {
        guard !self.isSuspended, let lastAwake, now - lastAwake > Self.jump, now - (lastBeat ?? lastAwake) > Self.heartbeat else { return false }
        self.isSuspended = true
        return true
    }

    /// The places are taken again.
    mutating func ended(now: NIODeadline, lastBeat: NIODeadline?) {
        self.isSuspended = false
        self.awake(now: now, lastBeat: lastBeat)
    }
}
