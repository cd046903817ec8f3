import DequeModule
import Synchronization

/// Where callers of all threads meet the engine's thread: a bounded queue of what is to begin, and what is to be given up.
final class TransferMailbox: Sendable {
    typealias Completion = @Sendable (Result<TransferAnswer, TransferError>) -> Void

    struct Submission: Sendable {
        var id: UInt64
        var request: TransferRequest
        var completion: Completion
    }

    /// What the thread is to do next.
    struct Work: Sendable {
        var starts: [Submission] = []
        /// Cancelled before they began.
        var dropped: [Submission] = []
        var cancels: [UInt64] = []
        var isClosing = false
    }

    private struct State {
        var nextID: UInt64 = 0
        var queue: Deque<Submission> = []
        var cancels: [UInt64] = []
        var isClosing = false
        var isFinished = false
        var closeWaiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())
    private let bound: Int

    init(bound: Int) {
        self.bound = bound
    }

    func makeID() -> UInt64 {
        self.state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
    }

    /// False, and `completion` is not called, when too much waits, or nothing is taken any more.
    func offer(_ submission: Submission) -> Bool {
        self.state.withLock { state in
            if state.isClosing || state.queue.count >= self.bound { return false }
            state.queue.append(submission)
            return true
        }
    }

    /// It is to end, whatever it waits for.
    func isGivenUp(_ id: UInt64) -> Bool { self.state.withLock { $0.isClosing || $0.cancels.contains(id) } }

    var hasWaiting: Bool { self.state.withLock { !$0.queue.isEmpty } }

    func cancel(_ id: UInt64) {
        self.state.withLock { $0.cancels.append(id) }
    }

    /// The next ones in their order, as many as there is room for. What was cancelled is no longer waiting after this.
    func take(atMost room: Int) -> Work {
        self.state.withLock { state in
            var work = Work(isClosing: state.isClosing)
            if !state.cancels.isEmpty {
                let cancels = Set(state.cancels)
                work.dropped = state.queue.filter { cancels.contains($0.id) }
                state.queue.removeAll { cancels.contains($0.id) }
                work.cancels = state.cancels
                state.cancels = []
            }
            if state.isClosing {
                work.dropped += state.queue
                state.queue = []
            }
            let count = min(room, state.queue.count)
            work.starts = Array(state.queue.prefix(count))
            state.queue.removeFirst(count)
            return work
        }
    }

    func close() { self.state.withLock { $0.isClosing = true } }

    func waitUntilFinished() async {
        await withCheckedContinuation { continuation in
            let isFinished = self.state.withLock { state in
                if !state.isFinished { state.closeWaiters.append(continuation) }
                return state.isFinished
            }
            if isFinished { continuation.resume() }
        }
    }

    /// The thread's last act.
    func finish() {
        let waiters = self.state.withLock { state in
            state.isFinished = true
            defer { state.closeWaiters = [] }
            return state.closeWaiters
        }
        for waiter in waiters { waiter.resume() }
    }
}
