internal import Synchronization

/// The bound on what is in flight, taken by any thread before it hops to the event loop: else the hops themselves would be a queue without
/// a bound.
final class Admission: Sendable {
    private let maximumCommands: Int
    private let maximumBytes: Int
    private let takenCommands = Atomic<Int>(0)
    private let takenBytes = Atomic<Int>(0)

    init(maximumCommands: Int, maximumBytes: Int) {
        self.maximumCommands = maximumCommands
        self.maximumBytes = maximumBytes
    }

    var commands: Int { takenCommands.load(ordering: .relaxed) }
    var bytes: Int { takenBytes.load(ordering: .relaxed) }

    /// All or nothing.
    func take(commands: Int, bytes: Int) -> Bool {
        let nowCommands = takenCommands.wrappingAdd(commands, ordering: .relaxed).newValue
        let nowBytes = takenBytes.wrappingAdd(bytes, ordering: .relaxed).newValue
        if nowCommands <= maximumCommands, nowBytes <= maximumBytes { return true }
        release(commands: commands, bytes: bytes)
        return false
    }

    func release(commands: Int, bytes: Int) {
        takenCommands.wrappingSubtract(commands, ordering: .relaxed)
        takenBytes.wrappingSubtract(bytes, ordering: .relaxed)
    }
}
