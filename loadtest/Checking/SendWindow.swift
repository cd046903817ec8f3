import NIOCore

/// Requests that are due: in flight on a connection, waiting for one, or over the bound.
struct SendWindow<Request> {
    private(set) var inFlight = 0
    private(set) var waiting = CircularBuffer<Request>()
    /// Requests that were due and could not even wait. Never dropped in silence: a run with any has failed.
    private(set) var overruns: UInt64 = 0
    /// Requests waiting and in flight together.
    let bound: Int

    init(bound: Int) {
        self.bound = bound
    }

    var outstanding: Int { inFlight + waiting.count }

    /// A request is due. False when the bound is reached and it counts as an overrun.
    mutating func offer(_ request: Request) -> Bool {
        guard outstanding < bound else {
            overruns += 1
            return false
        }
        waiting.append(request)
        return true
    }

    /// The oldest waiting request, for a connection that is free.
    mutating func take() -> Request? {
        guard let request = waiting.popFirst() else { return nil }
        inFlight += 1
        return request
    }

    /// A request in flight was answered or failed.
    mutating func complete() {
        precondition(inFlight > 0, "more answers than requests")
        inFlight -= 1
    }

    /// Gives up what still waits at the end; it counts as overrun.
    mutating func abandon() {
        overruns += UInt64(waiting.count)
        waiting.removeAll()
    }
}
