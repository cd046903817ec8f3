import DequeModule
import Synchronization

/// What waits for a connection on which one batch is under way at a time, so that what comes meanwhile shares the next one.
///
/// Its bound is its owner's: ``InboxWriter/Settings/queueBytes``, ``RecipientReader/Settings/queue``.
final class BatchQueue<Request: Sendable>: Sendable {
    private struct State {
        var waiting: Deque<Request> = []
        var isBusy = false
        /// Batches that are to be begun, one of them by the thread that is at it.
        var turns = 0
    }

    private let state = Mutex(State())

    /// True: nothing is under way, and the caller has to call ``next(take:begin:)``.
    func append(_ request: Request) -> Bool {
        self.state.withLock { state in
            state.waiting.append(request)
            if state.isBusy { return false }
            state.isBusy = true
            return true
        }
    }

    /// Those go before all that waits.
    func putBack(_ requests: [Request]) { self.state.withLock { $0.waiting.prepend(contentsOf: requests) } }

    /// Begins the next batch, if anything waits; to be called whenever one has ended.
    ///
    /// Without a connection each one fails before `begin` returns, and asks for the next one from within: that is begun by the loop that is at it, or
    /// all that waits would be on one stack.
    ///
    /// - Parameter take: removes at least one of what waits, which is something.
    func next(take: (inout Deque<Request>) -> [Request], begin: ([Request]) -> Void) {
        let isAtIt = self.state.withLock { state in
            state.turns += 1
            return state.turns > 1
        }
        if isAtIt { return }
        var isDone = false
        while !isDone {
            let requests = self.state.withLock { state in
                if state.waiting.isEmpty {
                    state.isBusy = false
                    return [Request]()
                }
                return take(&state.waiting)
            }
            if !requests.isEmpty { begin(requests) }
            isDone = self.state.withLock { state in
                state.turns -= 1
                return state.turns == 0
            }
        }
    }
}
