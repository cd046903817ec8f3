import DequeModule
import Synchronization

/// Bytes that may be held at once. Who asks for more than are left waits, and is served in turn; who asks for more than there are at all gets all of them, and has
/// them alone. Those who wait are bounded by the tasks that may be under way.
final class ByteBudget: Sendable {
    private struct State {
        var left: Int
        var waiting: Deque<(bytes: Int, continuation: CheckedContinuation<Void, Never>)> = []
    }

    private let total: Int
    private let state: Mutex<State>

    init(_ total: Int) {
        self.total = total
        self.state = Mutex(State(left: total))
    }

    /// Those who wait.
    var waiting: Int { self.state.withLock { $0.waiting.count } }

    /// Answers how many are to be given back.
    func take(_ bytes: Int) async -> Int {
        let bytes = min(max(0, bytes), self.total)
        if bytes == 0 { return 0 }
        await withCheckedContinuation { continuation in
            let isTaken = self.state.withLock { state in
                if state.waiting.isEmpty, state.left >= bytes {
                    state.left -= bytes
                    return true
                }
                state.waiting.append((bytes, continuation))
                return false
            }
            if isTaken { continuation.resume() }
        }
        return bytes
    }

    func give(_ bytes: Int) {
        if bytes == 0 { return }
        let served = self.state.withLock { state in
            state.left += bytes
            var served: [CheckedContinuation<Void, Never>] = []
            while let next = state.waiting.first, next.bytes <= state.left {
                state.left -= next.bytes
                served.append(state.waiting.removeFirst().continuation)
            }
            return served
        }
        for continuation in served { continuation.resume() }
    }
}
