/// The one machine of an edge for one user: resume, gap and lagging reader are the same thing, a reader behind the feed that is read
/// up to it from the change log. It does no I/O: inputs are methods, what has to be done comes back as actions.
///
/// - The *position* is the last change that all live readers have been given. Messages move it on; one that does not follow it is kept
///   *ahead* and, when a moment later the gap is still there, the missing changes are read.
/// - A *behind* reader has a cursor of its own. It becomes live when what was read, and what was delivered meanwhile, reaches the position.
/// - There is one read in flight at most, and it sees the log at some moment after it was asked for. What comes up meanwhile waits for the
///   next one.
public struct Feed<Item, Reader: Hashable & Sendable> {
    /// How many messages are kept that came before those that they follow; the rest is read from the log.
    public static var aheadBound: Int { 128 }
    /// How many delivered changes are kept while a read is in flight.
    public static var recentBound: Int { 128 }

    public struct Entry {
        public var seq: Int64
        public var item: Item
        public init(seq: Int64, item: Item) {
            self.seq = seq
            self.item = item
        }
    }

    /// What a read of the log answered.
    public struct ReadResult {
        public var head: StreamPosition
        /// All changes after the point that was asked for up to the head, or the first portion of them; nil when there is no complete replay from it.
        public var entries: [Entry]?
        public init(head: StreamPosition, entries: [Entry]?) {
            self.head = head
            self.entries = entries
        }

        /// The last change that the entries reach. Where there is a portion it is not empty.
        fileprivate var through: Int64 { self.entries?.last?.seq ?? self.head.seq }
    }

    public enum Action {
        /// Read the head and, where a position is given, the changes after it. Answer with `readDone` or `readFailed`.
        case read(after: StreamPosition?)
        /// Call `gapTimerFired` after a moment.
        case startGapTimer
        /// The same after the log could not be read: call `gapTimerFired` after a longer, jittered moment.
        case startRetryTimer
        /// Give these to all live readers.
        case deliver([Entry])
        /// Tell the reader that it joined: where, and how (it is told once in its life).
        case ready(Reader, at: StreamPosition)
        /// Give these to this reader alone.
        case replay(Reader, [Entry])
        case resync(Reader, at: StreamPosition)
        /// All live readers: what they have is of another life of the data.
        case resyncLive(at: StreamPosition)
        /// From now on `deliver` is for this reader too.
        case live(Reader)
        /// It cannot join now.
        case refuse(Reader)
    }

    private struct Behind: Hashable {
        var resume: ResumePoint
        /// Whether it has been told `ready`.
        var joined: Bool
        /// Whether the read in flight is for it as well.
        var awaiting: Bool
    }

    public private(set) var position: StreamPosition?
    private var ahead: [Entry] = []
    private var aheadEpoch: Int64 = 0
    /// The highest seq that is known to be committed.
    private var known: Int64 = 0
    /// The same, of what became known since the read in flight was asked for: its answer may be older. What was known before is in the
    /// answer, or was of another epoch.
    private var knownSinceRead: Int64 = 0
    private var recent: [Entry] = []
    private var recentFloor: Int64 = 0
    private var behind: [Reader: Behind] = [:]
    private var reading = false
    private var readAfter: StreamPosition?
    private var timerRunning = false
    /// The log must be compared, for a reason that came up after the read in flight, if there is one, was asked for.
    private var mustReconcile = false
    /// The read in flight is such a comparison.
    private var reconciling = false

    public init() {}

    /// Nothing is behind, ahead or under way.
    public var isQuiet: Bool { self.behind.isEmpty && self.ahead.isEmpty && !self.reading && !self.mustReconcile }
    public var behindCount: Int { self.behind.count }

    /// The way of nearly every message: it follows the position and nobody is behind. True: the caller gives it to all live readers.
    public mutating func advance(epoch: Int64, first: Int64, last: Int64) -> Bool {
        guard let position, position.epoch == epoch, position.seq + 1 == first, self.isQuiet else { return false }
        self.position!.seq = last
        return true
    }

    /// A message came: one or more changes, in order, without a hole among them.
    public mutating func receive(epoch: Int64, _ entries: [Entry], _ actions: inout [Action]) {
        guard let last = entries.last else { return }
        guard let position else {
            // The first read is under way. What comes meanwhile may be newer than its answer.
            if self.reading {
                self.noteKnown(last.seq)
                self.keepAhead(epoch: epoch, entries)
            }
            return
        }
        if epoch < position.epoch { return }
        self.noteKnown(last.seq)
        if epoch > position.epoch {
            self.keepAhead(epoch: epoch, entries)
            self.mustReconcile = true
            self.readIfNeeded(&actions)
            return
        }
        let fresh = entries.filter { $0.seq > position.seq }
        guard let first = fresh.first else { return }
        if first.seq == position.seq + 1 {
            self.deliver(fresh, &actions)
            self.drainAhead(&actions)
        } else {
            self.keepAhead(epoch: epoch, fresh)
        }
        self.watchGap(&actions)
    }

    /// The commit tail says that this change is committed. Its message may still be on its way.
    public mutating func headKnown(_ seq: Int64, _ actions: inout [Action]) {
        self.noteKnown(seq)
        self.watchGap(&actions)
    }

    public mutating func gapTimerFired(_ actions: inout [Action]) {
        self.timerRunning = false
        self.readIfNeeded(gapIsDue: true, &actions)
    }

    /// Messages may have been lost: compare with the log.
    public mutating func reconcile(_ actions: inout [Action]) {
        // Also during the first read: what was lost may have been committed after it saw the log.
        if self.position != nil || self.reading { self.mustReconcile = true }
        self.readIfNeeded(&actions)
    }

    /// A new reader. Its channel's subscription is confirmed.
    public mutating func join(_ reader: Reader, resume: ResumePoint, _ actions: inout [Action]) {
        self.behind[reader] = Behind(resume: resume, joined: false, awaiting: false)
        self.readIfNeeded(&actions)
    }

    /// A reader that was set aside because it read too slowly reads again; `after` is the last change that it was given.
    public mutating func rejoin(_ reader: Reader, after: StreamPosition, _ actions: inout [Action]) {
        self.behind[reader] = Behind(resume: .after(after), joined: true, awaiting: false)
        self.readIfNeeded(&actions)
    }

    public mutating func leave(_ reader: Reader) {
        self.behind[reader] = nil
        if self.behind.isEmpty { self.forgetRecent() }
    }

    /// The log cannot be read now. Who has not joined is refused; the others wait: call `gapTimerFired` later.
    public mutating func readFailed(_ actions: inout [Action]) {
        self.reading = false
        for (reader, state) in self.behind {
            if state.joined {
                self.behind[reader]!.awaiting = false
            } else {
                self.behind[reader] = nil
                actions.append(.refuse(reader))
            }
        }
        if let position {
            if self.reconciling { self.mustReconcile = true }
            if self.behind.isEmpty && !self.mustReconcile && self.known <= position.seq { return }
        } else {
            // The feed has not begun: the next first read finds all that was missed.
            self.dropAhead()
            self.mustReconcile = false
            if self.behind.isEmpty { return }
        }
        if self.timerRunning { return }
        self.timerRunning = true
        actions.append(.startRetryTimer)
    }

    public mutating func readDone(_ result: ReadResult, _ actions: inout [Action]) {
        self.reading = false
        let asked = self.readAfter
        let head = result.head
        self.known = max(head.seq, self.knownSinceRead)

        // The feed itself.
        if let position {
            if head.epoch != position.epoch {
                // Also when it is lower: a database of an earlier life answers, and what live readers have is not in it.
                actions.append(.resyncLive(at: head))
                self.position = head
                self.forgetRecent()
            } else if head.seq > position.seq {
                if let entries = result.entries, let asked, asked.epoch == position.epoch, asked.seq <= position.seq {
                    self.deliver(entries.filter { $0.seq > position.seq }, &actions)
                } else if asked == position {
                    actions.append(.resyncLive(at: head))
                    self.position = head
                    self.forgetRecent()
                }
                // Else there is no replay from where a reader wanted to go on, but there may be one for the feed: the next read tells.
            }
            // What is ahead in a later epoch than the log's was known before this read, unless another one is due: it is void.
            if self.aheadEpoch > head.epoch && !self.mustReconcile { self.dropAhead() }
        } else {
            self.position = head
            self.forgetRecent()
            // All that is ahead came during this read: if it is of a later epoch, that began after the read saw the log.
            if self.aheadEpoch > head.epoch { self.mustReconcile = true }
        }
        self.drainAhead(&actions)

        for reader in Array(self.behind.keys) where self.behind[reader]!.awaiting {
            self.serve(reader, result, asked: asked, &actions)
        }
        if self.behind.isEmpty { self.forgetRecent() }
        // What is left of a gap that is larger than a portion waits for no timer.
        self.readIfNeeded(gapIsDue: result.through < head.seq, &actions)
        self.watchGap(&actions)
    }

    /// Brings one reader up to what was read, and if possible to the position.
    private mutating func serve(_ reader: Reader, _ result: ReadResult, asked: StreamPosition?, _ actions: inout [Action]) {
        let state = self.behind[reader]!
        let head = result.head
        switch state.resume {
        case .fresh:
            if !state.joined { actions.append(.ready(reader, at: head)) }
        case .after(let point) where point.epoch == head.epoch && point.seq <= head.seq:
            if point.seq == head.seq {
                if !state.joined { actions.append(.ready(reader, at: point)) }
            } else if let entries = result.entries, let asked, asked.epoch == head.epoch, asked.seq <= point.seq {
                guard result.through > point.seq else {
                    // The portion ends before this reader's point: the next ones are for it.
                    self.behind[reader]!.awaiting = false
                    return
                }
                if !state.joined { actions.append(.ready(reader, at: point)) }
                actions.append(.replay(reader, entries.filter { $0.seq > point.seq }))
                if result.through < head.seq {
                    self.behind[reader] = Behind(resume: .after(StreamPosition(epoch: head.epoch, seq: result.through)), joined: true, awaiting: false)
                    return
                }
            } else if asked == point || asked == nil {
                self.startAnew(reader, joined: state.joined, at: head, &actions)
            } else {
                // There is no replay from the oldest point asked for, but there may be one from this reader's.
                self.behind[reader]!.awaiting = false
                return
            }
        case .after, .malformed:
            self.startAnew(reader, joined: state.joined, at: head, &actions)
        }

        // It has everything up to `head` now.
        guard let position, position.epoch == head.epoch, position.seq >= head.seq, head.seq >= self.recentFloor else {
            // The feed has a gap that this reader does not have, or more was delivered meanwhile than is kept: the next read is for both.
            self.behind[reader] = Behind(resume: .after(head), joined: true, awaiting: false)
            return
        }
        if head.seq < position.seq { actions.append(.replay(reader, self.recent.filter { $0.seq > head.seq })) }
        self.behind[reader] = nil
        actions.append(.live(reader))
    }

    private func startAnew(_ reader: Reader, joined: Bool, at head: StreamPosition, _ actions: inout [Action]) {
        if !joined { actions.append(.ready(reader, at: head)) }
        actions.append(.resync(reader, at: head))
    }

    private mutating func deliver(_ entries: [Entry], _ actions: inout [Action]) {
        guard let last = entries.last else { return }
        actions.append(.deliver(entries))
        self.position!.seq = last.seq
        if self.reading || !self.behind.isEmpty {
            self.recent.append(contentsOf: entries)
            if self.recent.count > Self.recentBound {
                let surplus = self.recent.count - Self.recentBound
                self.recentFloor = self.recent[surplus - 1].seq
                self.recent.removeFirst(surplus)
            }
        } else {
            self.recentFloor = last.seq
        }
    }

    /// Kept in order of seq, each once. What has no room is read from the log later.
    private mutating func keepAhead(epoch: Int64, _ entries: [Entry]) {
        if epoch < self.aheadEpoch { return }
        if epoch > self.aheadEpoch {
            self.dropAhead()
            self.aheadEpoch = epoch
        }
        for entry in entries where self.ahead.count < Self.aheadBound {
            var index = self.ahead.count
            while index > 0, self.ahead[index - 1].seq > entry.seq { index -= 1 }
            if index > 0, self.ahead[index - 1].seq == entry.seq { continue }
            self.ahead.insert(entry, at: index)
        }
    }

    private mutating func drainAhead(_ actions: inout [Action]) {
        guard let position, !self.ahead.isEmpty else { return }
        if self.aheadEpoch != position.epoch {
            if self.aheadEpoch < position.epoch { self.dropAhead() }
            return
        }
        var run: [Entry] = []
        var next = position.seq + 1
        var used = 0
        for entry in self.ahead {
            if entry.seq > next { break }
            used += 1
            if entry.seq == next {
                run.append(entry)
                next += 1
            }
        }
        self.ahead.removeFirst(used)
        if self.ahead.isEmpty { self.dropAhead() }
        self.deliver(run, &actions)
    }

    private mutating func dropAhead() {
        self.ahead = []
        self.aheadEpoch = 0
    }

    private mutating func forgetRecent() {
        self.recent = []
        self.recentFloor = self.position?.seq ?? 0
    }

    private mutating func noteKnown(_ seq: Int64) {
        self.known = max(self.known, seq)
        if self.reading { self.knownSinceRead = max(self.knownSinceRead, seq) }
    }

    private mutating func watchGap(_ actions: inout [Action]) {
        guard let position, self.known > position.seq, !self.reading, !self.timerRunning else { return }
        self.timerRunning = true
        actions.append(.startGapTimer)
    }

    /// A gap may close by itself: it is read when its timer says so. Those behind do not wait for that.
    private mutating func readIfNeeded(gapIsDue: Bool = false, _ actions: inout [Action]) {
        if self.reading { return }
        let gap = gapIsDue && self.position.map { self.known > $0.seq } ?? false
        if self.behind.isEmpty && !self.mustReconcile && !gap { return }
        for reader in Array(self.behind.keys) { self.behind[reader]!.awaiting = true }
        self.readAfter = self.oldestPoint()
        self.reading = true
        self.knownSinceRead = 0
        self.reconciling = self.mustReconcile
        self.mustReconcile = false
        self.forgetRecent()
        actions.append(.read(after: self.readAfter))
    }

    /// The oldest point that somebody needs. The feed itself is somebody: a reader that was read further than the feed has to wait for it,
    /// and would have the log read again and again meanwhile.
    private func oldestPoint() -> StreamPosition? {
        var oldest = self.position
        for state in self.behind.values {
            guard case .after(let point) = state.resume else { continue }
            guard let other = oldest else {
                oldest = point
                continue
            }
            if point.epoch == other.epoch {
                if point.seq < other.seq { oldest = point }
            } else if self.position == nil, point.epoch > other.epoch {
                // Of several epochs the latest counts: only it can have a replay. Once the feed has an epoch, no client chooses another.
                oldest = point
            }
        }
        return oldest
    }
}

// A machine is a value: two that are equal will always do the same. That is what lets a search through its states end.
extension Feed.Entry: Equatable where Item: Equatable {}
extension Feed.Entry: Hashable where Item: Hashable {}
extension Feed: Equatable where Item: Equatable {}
extension Feed: Hashable where Item: Hashable {}
