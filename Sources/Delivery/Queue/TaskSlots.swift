import NotificationStore

/// When a runner claims tasks, and how many: a machine without I/O.
///
/// It claims again for as long as claims bring something, once a part of its places is free; a claim that brought nothing is followed by none until somebody
/// says that there is something, or the time for a look has come.
struct TaskSlots: Sendable {
    struct Bounds: Sendable, Equatable {
        /// Tasks under way at once.
        var total: Int
        /// Of one key.
        var perKey: Int
        /// Tasks of one claim.
        var batch: Int
    }

    enum Action: Sendable, Equatable {
        case claim(limit: Int, perKey: Int, after: String, busy: [String])
        case wait
        /// Nothing is under way, and nothing will be.
        case stop
    }

    private enum Phase: Sendable {
        /// `more`: there may be something to claim.
        case idle(more: Bool)
        /// `poked`: something has come since the claim was sent.
        case claiming(poked: Bool)
        case draining
    }

    let bounds: Bounds
    private var phase = Phase.idle(more: true)
    private(set) var underWay = 0
    private var ofKey: [String: Int] = [:]
    private var last = ""

    init(_ bounds: Bounds) {
        precondition(bounds.total > 0 && bounds.perKey > 0 && bounds.batch > 0, "a runner has places")
        self.bounds = bounds
    }

    /// There may be something.
    mutating func poke() {
        switch self.phase {
        case .idle: self.phase = .idle(more: true)
        case .claiming: self.phase = .claiming(poked: true)
        case .draining: break
        }
    }

    mutating func drain() { self.phase = .draining }

    mutating func next() -> Action {
        switch self.phase {
        case .claiming: return .wait
        case .draining: return self.underWay == 0 ? .stop : .wait
        case .idle(let more):
            let free = self.bounds.total - self.underWay
            // One by one would be a statement for each.
            guard more, free >= max(1, min(self.bounds.total / 4, self.bounds.batch)) else { return .wait }
            self.phase = .claiming(poked: false)
            let busy = self.ofKey.filter { $0.value >= self.bounds.perKey }.map(\.key)
            // With some of a key under way a claim could bring too many of it: those with any left get the share of the fullest.
            let fullest = self.ofKey.values.reduce(0) { $1 < self.bounds.perKey ? max($0, $1) : $0 }
            return .claim(limit: min(free, self.bounds.batch), perKey: self.bounds.perKey - fullest, after: self.last, busy: busy)
        }
    }

    /// The claim brought these keys' tasks.
    mutating func claimed(_ keys: [String]) {
        for key in keys { self.ofKey[key, default: 0] += 1 }
        self.underWay += keys.count
        // Where a claim has gone round, its last keys are those up to where it began.
        let round = keys.filter { !self.last.utf8.lexicographicallyPrecedes($0.utf8) }
        if let last = (round.isEmpty ? keys : round).max(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) { self.last = last }
        switch self.phase {
        case .claiming(let poked): self.phase = .idle(more: poked || !keys.isEmpty)
        case .draining: break
        case .idle: preconditionFailure("nothing was claimed")
        }
    }

    /// The claim failed. There is another one at the next look.
    mutating func claimFailed() {
        switch self.phase {
        case .claiming: self.phase = .idle(more: false)
        case .draining: break
        case .idle: preconditionFailure("nothing was claimed")
        }
    }

    mutating func finished(_ key: String) {
        self.underWay -= 1
        let left = self.ofKey[key, default: 1] - 1
        self.ofKey[key] = left == 0 ? nil : left
        // Others of a key that was busy may wait.
        if left + 1 >= self.bounds.perKey { self.poke() }
    }
}
