import NotificationStore

/// When a runner claims tasks, and how many: a machine without I/O.
///
/// It claims again for as long as claims bring something, once a part of its places is free, and at each look whatever is free; a claim that brought nothing is
/// followed by none until somebody says that there is something, or the time for a look has come.
///
/// Where each key has its bound, those whose last attempt took long have half of the places together: endpoints that do not answer leave the rest to the others.
struct TaskSlots: Sendable {
    struct Bounds: Sendable, Equatable {
        /// Tasks under way at once.
        var total: Int
        /// Of one key.
        var perKey: Int
        /// Tasks of one claim.
        var batch: Int
        /// All tasks of a key are one piece of work, and take one place.
        var countsKeys = false

        /// Places of slow keys together; nil: they are not told from others.
        var slow: Int? { self.perKey < self.total ? max(1, self.total / 2) : nil }
    }

    /// Slow keys that are remembered. Past it the one that has been longest without an attempt is forgotten, and learned again.
    static let slowKeys = 1000

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
    /// The time for a look has come: one free place is enough.
    private var isDue = true
    /// The one whose last attempt is longest ago first.
    private var slow: [String] = []
    private var isSlow: Set<String> = []

    init(_ bounds: Bounds) {
        precondition(bounds.total > 0 && bounds.perKey > 0 && bounds.batch > 0, "a runner has places")
        self.bounds = bounds
    }

    /// The time for a look has come.
    mutating func look() {
        self.isDue = true
        self.poke()
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
            let free = self.bounds.total - (self.bounds.countsKeys ? self.ofKey.count : self.underWay)
            // One by one would be a statement for each.
            guard more, free >= (self.isDue ? 1 : max(1, min(self.bounds.total / 4, self.bounds.batch))) else { return .wait }
            self.phase = .claiming(poked: false)
            self.isDue = false
            let busy = self.ofKey.filter { $0.value >= self.bounds.perKey && !self.isSlow.contains($0.key) }.map(\.key) + self.busySlowKeys
            // With some of a key under way a claim could bring too many of it: those with any left get the share of the fullest.
            let fullest = self.ofKey.values.reduce(0) { $1 < self.bounds.perKey ? max($0, $1) : $0 }
            return .claim(limit: min(free, self.bounds.batch), perKey: self.bounds.perKey - fullest, after: self.last, busy: busy)
        }
    }

    /// Slow keys of which nothing is wanted: those that are full, and those that are too many for their places. They take turns.
    private var busySlowKeys: [String] {
        guard let places = self.bounds.slow, !self.slow.isEmpty else { return [] }
        var room = places - self.slow.reduce(0) { $0 + (self.ofKey[$1] ?? 0) }
        return self.slow.filter { key in
            let left = self.bounds.perKey - (self.ofKey[key] ?? 0)
            guard left > 0, room > 0 else { return true }
            room -= left
            return false
        }
    }

    /// The claim brought these keys' tasks.
    mutating func claimed(_ keys: [String]) {
        for key in keys { self.ofKey[key, default: 0] += 1 }
        self.underWay += keys.count
        self.last = Self.last(of: keys, after: self.last)
        switch self.phase {
        case .claiming(let poked): self.phase = .idle(more: poked || !keys.isEmpty)
        case .draining: break
        case .idle: preconditionFailure("nothing was claimed")
        }
    }

    /// Where a claim that began after `start` came to.
    static func last(of keys: [String], after start: String) -> String {
        // Where it has gone round, its last keys are those up to where it began.
        let round = keys.filter { !start.utf8.lexicographicallyPrecedes($0.utf8) }
        return (round.isEmpty ? keys : round).max { $0.utf8.lexicographicallyPrecedes($1.utf8) } ?? start
    }

    /// The claim failed. There is another one at the next look.
    mutating func claimFailed() {
        switch self.phase {
        case .claiming: self.phase = .idle(more: false)
        case .draining: break
        case .idle: preconditionFailure("nothing was claimed")
        }
    }

    /// - Parameter isSlow: the attempt took long.
    mutating func finished(_ key: String, isSlow: Bool = false) {
        if self.bounds.slow != nil { self.note(key, isSlow: isSlow) }
        self.underWay -= 1
        let left = self.ofKey[key, default: 1] - 1
        self.ofKey[key] = left == 0 ? nil : left
        // Others of a key that was busy may wait.
        if left + 1 >= self.bounds.perKey || isSlow { self.poke() }
    }

    private mutating func note(_ key: String, isSlow: Bool) {
        if self.isSlow.remove(key) != nil { self.slow.removeAll { $0 == key } }
        guard isSlow else { return }
        if self.slow.count >= Self.slowKeys { self.isSlow.remove(self.slow.removeFirst()) }
        self.slow.append(key)
        self.isSlow.insert(key)
    }
}
