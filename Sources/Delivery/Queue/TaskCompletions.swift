import Logging
import NotificationCore
import NotificationStore
import Synchronization

/// Notes what became of tasks. One statement is under way; what comes meanwhile shares the next one. Bounded by the tasks that may be under way, each of which
/// waits until it is noted.
final class TaskCompletions: Sendable {
    private struct Entry: Sendable {
        var result: TaskResult
        var done: CheckedContinuation<Void, Never>
    }

    private struct State {
        var waiting: [Entry] = []
        var isClosed = false
    }

    private static let batch = 500
    private static let pause: Duration = .milliseconds(200)

    private let store: TaskStore
    private let owner: NotificationID
    private let logger: Logger
    private let state = Mutex(State())
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    init(store: TaskStore, owner: NotificationID, logger: Logger) {
        self.store = store
        self.owner = owner
        self.logger = logger
        (self.signals, self.signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Returns when it is committed, or this is closed.
    func note(_ result: TaskResult) async {
        await withCheckedContinuation { continuation in
            let isTaken = self.state.withLock { state in
                if state.isClosed { return false }
                state.waiting.append(Entry(result: result, done: continuation))
                return true
            }
            if isTaken { self.signal.yield() } else { continuation.resume() }
        }
    }

    /// Until cancelled: what is not noted by then comes back when its lease ends.
    func run() async {
        for await _ in self.signals {
            while true {
                let entries = self.state.withLock { state in
                    let entries = Array(state.waiting.prefix(Self.batch))
                    state.waiting.removeFirst(entries.count)
                    return entries
                }
                if entries.isEmpty { break }
                await self.write(entries.map(\.result))
                for entry in entries { entry.done.resume() }
            }
        }
        let left = self.state.withLock { state in
            state.isClosed = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for entry in left { entry.done.resume() }
    }

    private func write(_ results: [TaskResult]) async {
        while !Task.isCancelled {
            do throws(StoreError) {
                try await self.store.finish(results, owner: self.owner)
                return
            } catch {
                // A limit of the program (class 54) is one that a value passed; of all else that failed it is not known whether it is of one of them.
                let isOfOne = error.code == .refused || error.sqlState?.hasPrefix("54") == true
                if isOfOne || (error.code == .failed && results.count > 1) {
                    await self.refused(results, error)
                    return
                }
                self.logger.warning("results of tasks not noted, tried again", metadata: ["tasks": "\(results.count)", "error": "\(error)"])
            }
            do { try await Task.sleep(for: Self.pause) } catch { return }
        }
    }

    /// One of them is the cause: only that one is left out.
    private func refused(_ results: [TaskResult], _ error: StoreError) async {
        if results.count == 1 {
            self.logger.error("a task's result refused", metadata: ["task": "\(results[0].task)", "error": "\(error)"])
            return
        }
        for result in results { await self.write([result]) }
    }
}
