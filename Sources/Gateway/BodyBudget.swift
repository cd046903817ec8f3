import Synchronization

/// What bodies of requests that are not answered yet may hold, of all connections together: whoever sends the first bytes of many large ones, with a
/// credential or without, takes no more than this. Past it a body is refused with 503.
final class BodyBudget: Sendable {
    private let bound: Int
    private let held = Atomic(0)
    private let refusals = Atomic(0)

    /// - Parameter bound: in bytes.
    init(bound: Int) {
        self.bound = bound
    }

    /// False: there is no room for so many bytes more.
    func reserve(_ bytes: Int) -> Bool {
        if self.held.add(bytes, ordering: .relaxed).newValue <= self.bound { return true }
        self.held.subtract(bytes, ordering: .relaxed)
        self.refusals.add(1, ordering: .relaxed)
        return false
    }

    func release(_ bytes: Int) { self.held.subtract(bytes, ordering: .relaxed) }

    var bytes: Int { self.held.load(ordering: .relaxed) }
    var refused: Int { self.refusals.load(ordering: .relaxed) }
}
