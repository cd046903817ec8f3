/// Whom a rate limit counts.
public enum RateSubject: Hashable, Sendable {
    case user(UserID)
    /// An API key, by its id.
    case key(NotificationID)
}

/// What became of one request under its limit.
public struct RateDecision: Sendable, Equatable {
    public var isAllowed: Bool
    /// What is left of the quota, as far as this node knows.
    public var remaining: Int
    /// Seconds until the window ends: 1 to ``RateWindows/seconds``.
    public var resetSeconds: Int

    public init(isAllowed: Bool, remaining: Int, resetSeconds: Int) {
        self.isAllowed = isAllowed
        self.remaining = remaining
        self.resetSeconds = resetSeconds
    }
}

/// Rate limits that a cluster shares, as one node has them. No I/O: it decides at once from what it knows, says from time to time what to add to
/// the cluster's totals, and is told what these are.
///
/// Windows are fixed and aligned to the clock, so that every node is in the same one. A request is let in when the total that was last heard of and
/// what this node has let in since are below the quota. So nobody is refused before the quota is used up, and it is exceeded by no more than
/// what other nodes let in and this one has not heard of yet: about two flushes' worth.
///
/// While the totals cannot be had everybody is let in and counted, and nothing of that is held against anybody afterwards.
public struct RateWindows: Sendable {
    /// The length of a window.
    public static let seconds = 60

    /// What is to be added to the totals of one window, with one answer for each.
    public struct Flush: Sendable {
        /// Its number since 1970.
        public var window: Int64
        public var counts: [(subject: RateSubject, count: Int)]
    }

    public struct Counters: Sendable, Equatable {
        /// Requests that were refused.
        public var refused = 0
        /// Requests that were let in while the totals could not be had.
        public var ungoverned = 0
        /// Requests that were let in since the table was full.
        public var untracked = 0
        public init() {}
    }

    private struct Entry {
        /// Of the cluster, as last heard.
        var total = 0
        /// Let in by this node, and on its way to the total.
        var inFlight = 0
        /// Let in by this node since.
        var pending = 0
        /// Its last flush failed.
        var isBlind: Bool
        /// At half of the quota or more: what it used is not forgotten.
        var isHigh = false

        var used: Int { self.total + self.inFlight + self.pending }
    }

    private let bound: Int
    private let portion: Int
    private var window: Int64 = 0
    /// Those seen in this window.
    private var entries: [RateSubject: Entry] = [:]
    /// Those with something pending.
    private var dirty: [RateSubject] = []
    private var flushing: Flush?
    /// The last flush failed as a whole.
    private var isAway = false
    public private(set) var counters = Counters()

    /// - Parameters:
    ///   - bound: Subjects that are known at a time. From three quarters of it on those are forgotten that the totals know all of, and that are
    ///     below half of their quota: they come back with their total. Who finds no place all the same is let in.
    ///   - portion: Subjects a flush.
    public init(bound: Int, portion: Int) {
        precondition(bound > 0 && portion > 0)
        self.bound = bound
        self.portion = portion
    }

    /// Something is to be added to the totals.
    public var isUntold: Bool { !self.dirty.isEmpty }
    /// Subjects known now.
    public var subjects: Int { self.entries.count }

    /// Counts one request, or refuses it.
    ///
    /// - Parameter quota: of a window; at least 1.
    public mutating func decide(_ subject: RateSubject, quota: Int, now: Timestamp) -> RateDecision {
        self.turn(now)
        let reset = Self.seconds - Int(now.seconds % Int64(Self.seconds))
        let index: Dictionary<RateSubject, Entry>.Index
        if let known = self.entries.index(forKey: subject) {
            index = known
        } else {
            guard self.entries.count < self.bound else {
                self.counters.untracked += 1
                return RateDecision(isAllowed: true, remaining: quota, resetSeconds: reset)
            }
            self.entries[subject] = Entry(isBlind: self.isAway)
            index = self.entries.index(forKey: subject)!
        }
        let entry = self.entries.values[index]
        let isGoverned = !self.isAway && !entry.isBlind
        if isGoverned, entry.used >= quota {
            self.counters.refused += 1
            return RateDecision(isAllowed: false, remaining: 0, resetSeconds: reset)
        }
        if !isGoverned { self.counters.ungoverned += 1 }
        if entry.pending == 0 { self.dirty.append(subject) }
        self.entries.values[index].pending += 1
        self.entries.values[index].isHigh = (entry.used + 1) * 2 >= quota
        return RateDecision(isAllowed: true, remaining: max(0, quota - entry.used - 1), resetSeconds: reset)
    }

    /// What is to be added to the totals now; nil when there is nothing, or while the flush before is not answered.
    public mutating func flush(now: Timestamp) -> Flush? {
        self.turn(now)
        if self.flushing != nil || self.dirty.isEmpty { return nil }
        if self.entries.count > self.bound / 4 * 3 { self.entries = self.entries.filter { $0.value.isHigh || $0.value.pending > 0 } }
        var flush = Flush(window: self.window, counts: [])
        for subject in self.dirty.suffix(self.portion) {
            let index = self.entries.index(forKey: subject)!
            let count = self.entries.values[index].pending
            self.entries.values[index].inFlight = count
            self.entries.values[index].pending = 0
            flush.counts.append((subject, count))
        }
        self.dirty.removeLast(flush.counts.count)
        self.flushing = flush
        return flush
    }

    /// - Parameter totals: After the addition, in the order of the flush; nil where it failed.
    public mutating func answered(_ totals: [Int?]) {
        guard let flush = self.flushing else { preconditionFailure("an answer to no flush") }
        precondition(totals.count == flush.counts.count, "a total for each")
        self.flushing = nil
        self.isAway = !totals.contains { $0 != nil }
        if flush.window != self.window { return }
        for ((subject, _), total) in zip(flush.counts, totals) {
            guard let index = self.entries.index(forKey: subject) else { continue }
            self.entries.values[index].inFlight = 0
            self.entries.values[index].isBlind = total == nil
            if let total { self.entries.values[index].total = total }
        }
    }

    /// Nothing was heard: whether anything was added is not known.
    public mutating func failed() {
        guard let flush = self.flushing else { preconditionFailure("the failure of no flush") }
        self.answered(flush.counts.map { _ in nil })
    }

    /// What was used in another window counts no more, and what was not flushed of it need not be.
    private mutating func turn(_ now: Timestamp) {
        let window = now.seconds / Int64(Self.seconds)
        if window == self.window { return }
        self.window = window
        self.entries.removeAll(keepingCapacity: true)
        self.dirty.removeAll(keepingCapacity: true)
    }
}
