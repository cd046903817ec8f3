import DequeModule
import Synchronization

/// Where callers of all threads meet the thread of one connection: the bounded queue, the states that callers see, and the wake-up.
final class Mailbox: Sendable {
    private struct State: ~Copyable {
        var queue: Deque<Submission> = []
        var isConnected = false
        var isClosing = false
        var isFinished = false
        /// The thread is in poll(2), or about to be, and will not look at the queue before it is woken. Only then does a caller pay for a wake-up.
        var isAsleep = false
        var wakeUp: WakeUp?
        var nextWaiter = 0
        var connectWaiters: [Int: CheckedContinuation<Bool, Never>] = [:]
        var closeWaiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())
    private let maxBytes: Int
    private let bytes = Atomic<Int>(0)
    private let connected = Atomic<Bool>(false)
    private let closing = Atomic<Bool>(false)
    /// Accepted and not answered.
    let load = Atomic<Int>(0)
    let connects = Atomic<Int>(0)
    let connectFailures = Atomic<Int>(0)
    /// Why the last attempt to connect failed; nil once one succeeded.
    let connectionError = Mutex<PostgresError?>(nil)
    let errors = Atomic<Int>(0)

    init(maxBytes: Int) {
        self.maxBytes = maxBytes
    }

    // MARK: From any thread

    var isConnected: Bool { connected.load(ordering: .acquiring) }
    var isClosing: Bool { closing.load(ordering: .acquiring) }

    /// Accepts it, or says why not; then its completion is not called from here.
    func offer(_ submission: Submission) -> PostgresError? {
        let held = bytes.add(submission.bytes, ordering: .relaxed).newValue
        let refusal: PostgresError? =
            if held > maxBytes {
                .queueFull
            } else {
                state.withLock { state in
                    if state.isClosing { return .isClosed }
                    if !state.isConnected { return .notConnected }
                    state.queue.append(submission)
                    load.add(1, ordering: .relaxed)
                    wake(&state)
                    return nil
                }
            }
        if refusal != nil {
            bytes.subtract(submission.bytes, ordering: .relaxed)
            errors.add(1, ordering: .relaxed)
        }
        return refusal
    }

    /// Under the lock, so that the descriptor cannot be closed, and another file opened in its place, between the look and the write.
    private func wake(_ state: inout State) {
        guard state.isAsleep else { return }
        state.isAsleep = false
        state.wakeUp?.signal()
    }

    /// False when it was closed before, or the task was cancelled.
    func waitUntilConnected() async -> Bool {
        let id = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer: Bool? = state.withLock { state in
                    if state.isConnected { return true }
                    // The handler of a task that was cancelled before has found nothing to resume.
                    if state.isClosing || Task.isCancelled { return false }
                    state.connectWaiters[id] = continuation
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            state.withLock { $0.connectWaiters.removeValue(forKey: id) }?.resume(returning: false)
        }
    }

    /// Nothing is accepted from now on; the thread finishes what was accepted and ends.
    func requestClose() {
        let waiters = state.withLock { state in
            state.isClosing = true
            closing.store(true, ordering: .releasing)
            state.wakeUp?.signal()
            defer { state.connectWaiters = [:] }
            return Array(state.connectWaiters.values)
        }
        for waiter in waiters { waiter.resume(returning: false) }
    }

    /// Returns when the thread has nothing left to do but to return.
    func waitUntilFinished() async {
        await withCheckedContinuation { continuation in
            let finished = state.withLock { state in
                if !state.isFinished { state.closeWaiters.append(continuation) }
                return state.isFinished
            }
            if finished { continuation.resume() }
        }
    }

    // MARK: From the connection's thread

    /// Makes the wake-up descriptor, which is the thread's to poll until `finish()`.
    func open() -> Int32 {
        state.withLock { state in
            let wakeUp = WakeUp()
            let descriptor = wakeUp.descriptor
            state.wakeUp = consume wakeUp
            return descriptor
        }
    }

    func setConnected() {
        let waiters = state.withLock { state in
            if state.isClosing { return [CheckedContinuation<Bool, Never>]() }
            state.isConnected = true
            connected.store(true, ordering: .releasing)
            defer { state.connectWaiters = [:] }
            return Array(state.connectWaiters.values)
        }
        connects.add(1, ordering: .relaxed)
        connectionError.withLock { $0 = nil }
        for waiter in waiters { waiter.resume(returning: true) }
    }

    /// Nothing is accepted until the next connection. Returns what waited.
    func setDisconnected() -> Deque<Submission> {
        state.withLock { state in
            state.isConnected = false
            connected.store(false, ordering: .releasing)
            defer { state.queue = [] }
            return state.queue
        }
    }

    /// Moves up to `limit` submissions from the queue to the end of `backlog`.
    func take(_ limit: Int, into backlog: inout Deque<Submission>) {
        state.withLock { state in
            if backlog.isEmpty, state.queue.count <= limit {
                swap(&backlog, &state.queue)
            } else {
                let count = min(limit, state.queue.count)
                backlog.append(contentsOf: state.queue.prefix(count))
                state.queue.removeFirst(count)
            }
        }
    }

    /// From here on callers wake the thread. False, and no such thing, when something waits already.
    func fallAsleep() -> Bool {
        state.withLock { state in
            guard state.queue.isEmpty else { return false }
            state.isAsleep = true
            return true
        }
    }

    /// After poll(2). `woken`: the descriptor was readable.
    func wokeUp(_ woken: Bool) {
        state.withLock { state in
            state.isAsleep = false
            if woken { state.wakeUp?.clear() }
        }
    }

    /// nil before `open()` and after `finish()`.
    var wakeUpDescriptor: Int32? {
        state.withLock { $0.wakeUp?.descriptor }
    }

    var hasWaiting: Bool {
        state.withLock { !$0.queue.isEmpty }
    }

    /// The submission is over.
    func release(_ submission: Submission, failed: Bool) {
        bytes.subtract(submission.bytes, ordering: .relaxed)
        load.subtract(1, ordering: .relaxed)
        if failed { errors.add(1, ordering: .relaxed) }
    }

    /// The thread's last act.
    func finish() {
        let waiters = state.withLock { state in
            state.isClosing = true
            closing.store(true, ordering: .releasing)
            state.isFinished = true
            state.isConnected = false
            connected.store(false, ordering: .releasing)
            state.wakeUp = nil
            defer { state.closeWaiters = [] }
            return state.closeWaiters
        }
        for waiter in waiters { waiter.resume() }
    }
}
