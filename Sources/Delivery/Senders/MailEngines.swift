import DequeModule
import Synchronization

/// Engines for mails, one for each mail that is under way, up to a bound.
///
/// libcurl holds its thread from a message's last byte to the server's answer (its `smtp_done` waits by itself), so that of one engine one mail at a time gets
/// on. A server that takes its time would otherwise hold up all other mails, and whatever else that engine carries.
public final class MailEngines: Sendable {
    private struct State {
        var engines: [TransferEngine] = []
        /// Those without a mail. The one that had the last is the next, so that its connection is used again.
        var idle: [Int] = []
        var waiting: Deque<(id: UInt64, continuation: CheckedContinuation<Int?, Never>)> = []
        var nextID: UInt64 = 0
        var isClosed = false
    }

    private let settings: TransferEngine.Settings
    private let bound: Int
    private let state = Mutex(State())

    /// - Parameter bound: engines, each with a thread. They are made when they are needed, and kept. Past it mails wait for one, in turn; those are bounded by the
    ///   tasks that may be under way.
    public init(_ settings: TransferEngine.Settings, bound: Int = 128) {
        precondition(bound > 0, "mails need an engine")
        self.settings = settings
        self.bound = bound
    }

    /// Mails under way, for the metrics.
    public var transfers: Int { self.state.withLock { $0.engines.count - $0.idle.count } }

    func perform(_ request: TransferRequest) async throws(TransferError) -> TransferAnswer {
        guard let place = await self.borrow() else {
            throw TransferError(code: .overloaded, message: "the system has no memory, thread or file descriptor left, or this node ends")
        }
        defer { self.give(place) }
        let engine = self.state.withLock { $0.engines[place] }
        return try await engine.perform(request)
    }

    /// Nil when there is none to be had, or its task was cancelled.
    private func borrow() async -> Int? {
        let id = self.state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer = self.state.withLock { self.find(&$0, id, continuation) }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiter = self.state.withLock { state in
                state.waiting.firstIndex { $0.id == id }.map { state.waiting.remove(at: $0).continuation }
            }
            waiter?.resume(returning: nil)
        }
    }

    /// Nil: it waits.
    private func find(_ state: inout State, _ id: UInt64, _ continuation: CheckedContinuation<Int?, Never>) -> Int?? {
        if state.isClosed || Task.isCancelled { return .some(nil) }
        if let place = state.idle.popLast() { return place }
        if state.engines.count < self.bound, let engine = TransferEngine(self.settings) {
            state.engines.append(engine)
            return state.engines.count - 1
        }
        if state.engines.isEmpty { return .some(nil) }
        state.waiting.append((id, continuation))
        return nil
    }

    private func give(_ place: Int) {
        let waiter = self.state.withLock { state in
            let waiter = state.waiting.popFirst()
            if waiter == nil { state.idle.append(place) }
            return waiter
        }
        waiter?.continuation.resume(returning: place)
    }

    /// Gives up what is under way.
    public func close() async {
        let (engines, waiting) = self.state.withLock { state in
            state.isClosed = true
            defer { state.waiting = [] }
            return (state.engines, state.waiting)
        }
        for waiter in waiting { waiter.continuation.resume(returning: nil) }
        // Each may take a second to hear of it.
        await withDiscardingTaskGroup { group in
            for engine in engines { group.addTask { await engine.close() } }
        }
    }
}
