import Synchronization

/// What bodies of requests that are not answered yet may hold, of all connections together: whoever sends the first bytes of many of them, with a credential or
/// without, takes no more than this. Past it a body is refused with 503.
///
/// There are two accounts. The small one is for the first bytes of each body, so that requests of the usual size are taken while large ones have used up the
/// large one. Strangers, whose credential is missing or was not seen to be good, have half of each, so that they keep out nobody but each other: once the first
/// half of the small one is used up, a stranger's first bytes are counted like all others.
final class BodyBudget: Sendable {
    private let bound: Int
    private let smallBound: Int
    private let held = Atomic(0)
    private let strangers = Atomic(0)
    private let small = Atomic(0)
    private let refusals = Atomic(0)

    /// - Parameters:
    ///   - bound: of the large account, in bytes.
    ///   - smallBound: of the small one.
    init(bound: Int, smallBound: Int) {
        self.bound = bound
        self.smallBound = smallBound
    }

    /// Takes them from the small account. False: there is no room for so many bytes more, and they are to be taken from the large one.
    ///
    /// - Parameter isStranger: only asked where it matters.
    func reserveSmall(_ bytes: Int, isStranger: () -> Bool) -> Bool {
        let small = self.small.add(bytes, ordering: .relaxed).newValue
        if small <= self.smallBound / 2 { return true }
        if small <= self.smallBound, !isStranger() { return true }
        self.small.subtract(bytes, ordering: .relaxed)
        return false
    }

    func releaseSmall(_ bytes: Int) {
        self.small.subtract(bytes, ordering: .relaxed)
    }

    /// Takes them from the large account. False: there is no room for so many bytes more.
    func reserve(_ bytes: Int, ofStranger isStranger: Bool) -> Bool {
        let held = self.held.add(bytes, ordering: .relaxed).newValue
        let strangers = isStranger ? self.strangers.add(bytes, ordering: .relaxed).newValue : 0
        if held <= self.bound, strangers <= self.bound / 2 { return true }
        self.release(bytes, ofStranger: isStranger)
        self.refusals.add(1, ordering: .relaxed)
        return false
    }

    func release(_ bytes: Int, ofStranger isStranger: Bool) {
        self.held.subtract(bytes, ordering: .relaxed)
        if isStranger { self.strangers.subtract(bytes, ordering: .relaxed) }
    }

    /// Of both accounts.
    var bytes: Int { self.held.load(ordering: .relaxed) + self.small.load(ordering: .relaxed) }
    var refused: Int { self.refusals.load(ordering: .relaxed) }
}
