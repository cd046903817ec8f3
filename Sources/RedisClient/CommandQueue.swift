internal import DequeModule
internal import NIOCore

/// The commands that await their replies, oldest first: RESP answers in the order of asking. Bound to its event loop.
struct CommandQueue {
    private enum Entry {
        case single(EventLoopPromise<RedisValue>, bytes: Int)
        case group(EventLoopPromise<[RedisValue]>, count: Int, bytes: Int)
        case probe
    }

    private var entries = Deque<Entry>()
    /// Replies so far of the group at the head.
    private var partial: [RedisValue] = []
    private let admission: Admission

    init(admission: Admission) {
        self.admission = admission
    }

    var isEmpty: Bool { entries.isEmpty }

    mutating func append(_ promise: EventLoopPromise<RedisValue>, bytes: Int) {
        entries.append(.single(promise, bytes: bytes))
    }

    /// - Parameter count: at least 1.
    mutating func append(_ promise: EventLoopPromise<[RedisValue]>, count: Int, bytes: Int) {
        entries.append(.group(promise, count: count, bytes: bytes))
    }

    mutating func appendProbe() {
        entries.append(.probe)
    }

    /// What to tell whom, after the queue is in order again: callbacks send more commands.
    enum Delivery {
        case nothing
        case probe(RedisValue)
        case single(EventLoopPromise<RedisValue>, RedisValue)
        case group(EventLoopPromise<[RedisValue]>, [RedisValue])
    }

    mutating func received(_ value: RedisValue) throws(RedisError) -> Delivery {
        guard let head = entries.first else { throw .violation("a reply to nothing") }
        switch head {
        case .probe:
            entries.removeFirst()
            return .probe(value)
        case .single(let promise, let bytes):
            entries.removeFirst()
            admission.release(commands: 1, bytes: bytes)
            return .single(promise, value)
        case .group(let promise, let count, let bytes):
            if partial.isEmpty { partial.reserveCapacity(count) }
            partial.append(value)
            guard partial.count == count else { return .nothing }
            entries.removeFirst()
            admission.release(commands: count, bytes: bytes)
            let values = partial
            partial = []
            return .group(promise, values)
        }
    }

    /// Empties the queue. Returns what fails everything that was in it, and how many commands that is.
    mutating func drain() -> (count: Int, fail: (RedisError) -> Void) {
        let all = entries
        entries = []
        partial = []
        var count = 0
        for entry in all {
            switch entry {
            case .probe: break
            case .single(_, let bytes):
                count += 1
                admission.release(commands: 1, bytes: bytes)
            case .group(_, let its, let bytes):
                count += its
                admission.release(commands: its, bytes: bytes)
            }
        }
        return (
            count,
            { error in
                for entry in all {
                    switch entry {
                    case .probe: break
                    case .single(let promise, _): promise.fail(error)
                    case .group(let promise, _, _): promise.fail(error)
                    }
                }
            }
        )
    }
}
