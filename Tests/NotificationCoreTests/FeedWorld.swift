import NotificationCore

/// A model of all that surrounds a `Feed`: the change log, the wire, timers, reads and readers. Whatever may happen next is a `Step`; `apply`
/// carries it out and checks what must hold at every moment.
///
/// It is a value with equality, so that a search can tell states that it has been in.
struct FeedWorld: Hashable {
    typealias Machine = Feed<StreamPosition, Int>

    struct Violation: Error, CustomStringConvertible {
        var description: String
        init(_ description: String) { self.description = description }
    }

    enum Step: Hashable {
        /// The next batch of changes is committed and its message is on the wire.
        case commit
        /// A message arrives; what never arrives was lost.
        case deliver(Int)
        /// A message arrives and is still on the wire.
        case double(Int)
        /// The commit tail reports the last commit.
        case tail
        case timer
        /// The read in flight sees the log as it is now.
        case snapshot
        case answer
        case fail
        case join
        case block(Int)
        case rejoin(Int)
        case leave(Int)
        case changeEpoch
        /// The edge learns that messages may have been lost, or that the epoch changed.
        case reconcile
    }

    enum EpochChange: Hashable {
        /// The user's data is erased: the counter goes on.
        case erase
        /// The database is of an earlier moment: this many changes are gone.
        case restore(lost: Int64)
    }

    /// What may still happen.
    struct Plan: Hashable {
        /// The sizes of the batches to come.
        var commits: [Int64] = []
        var joins: [ResumePoint] = []
        var epochChanges: [EpochChange] = []
        var doubles = 0
        var failures = 0
        var blocks = 0
        var leaves = 0
        var reconciles = 0
        /// The most changes that the log replays.
        var replayLimit: Int64 = 1000
        /// The most changes that one read brings.
        var portion: Int64 = 1000
    }

    struct Message: Hashable {
        var epoch: Int64
        var first: Int64
        var last: Int64
    }

    struct Read: Hashable {
        var after: StreamPosition?
        var head: StreamPosition?
        var replayable = false
    }

    struct Reader: Hashable {
        enum State: Hashable {
            case joining
            case behind
            case live
            case blocked
            case gone
        }
        var state = State.joining
        var resume: ResumePoint
        /// The last change that it was given, or where it joined.
        var cursor: StreamPosition?
        /// It was told `ready` elsewhere than where it asked to go on.
        var owedResync = false
    }

    private(set) var feed = Machine()
    var plan: Plan
    private(set) var readers: [Reader] = []

    private var head = StreamPosition(epoch: 1, seq: 0)
    /// The oldest point of each epoch from which there is a replay, also for an answer that comes when the epoch is over.
    private var floors: [Int64: Int64] = [1: 0]
    private var wire: [Message] = []
    private var unreported: Int64?
    private var epochUnnoticed = false
    private var timer = false
    private var read: Read?
    /// The latest change that the machine must know of.
    private var heard = StreamPosition(epoch: 0, seq: 0)

    init(_ plan: Plan, head: Int64 = 0) {
        self.plan = plan
        self.head.seq = head
    }

    // MARK: what may happen

    func appendSteps(to steps: inout [Step]) {
        if !self.plan.commits.isEmpty { steps.append(.commit) }
        for index in self.wire.indices {
            steps.append(.deliver(index))
            if self.plan.doubles > 0 { steps.append(.double(index)) }
        }
        if self.unreported != nil { steps.append(.tail) }
        if self.timer { steps.append(.timer) }
        if let read {
            steps.append(read.head == nil ? .snapshot : .answer)
            if read.head == nil, self.plan.failures > 0 { steps.append(.fail) }
        }
        if !self.plan.joins.isEmpty { steps.append(.join) }
        for index in self.readers.indices {
            switch self.readers[index].state {
            case .live, .behind:
                if self.plan.blocks > 0 { steps.append(.block(index)) }
                if self.plan.leaves > 0 { steps.append(.leave(index)) }
            case .joining:
                if self.plan.leaves > 0 { steps.append(.leave(index)) }
            case .blocked: steps.append(.rejoin(index))
            case .gone: break
            }
        }
        if !self.plan.epochChanges.isEmpty { steps.append(.changeEpoch) }
        if self.epochUnnoticed || self.plan.reconciles > 0 { steps.append(.reconcile) }
    }

    // MARK: what happens

    mutating func apply(_ step: Step) throws(Violation) {
        var actions: [Machine.Action] = []
        var failing = false
        switch step {
        case .commit:
            let count = self.plan.commits.removeFirst()
            self.wire.append(Message(epoch: self.head.epoch, first: self.head.seq + 1, last: self.head.seq + count))
            self.head.seq += count
            self.unreported = self.head.seq
        case .deliver(let index):
            try self.receive(self.wire.remove(at: index), &actions)
        case .double(let index):
            self.plan.doubles -= 1
            try self.receive(self.wire[index], &actions)
        case .tail:
            guard let seq = self.unreported else { return }
            self.unreported = nil
            // The tail names no epoch: it tells nothing to a machine that is in another one, or will be once its first read is answered.
            if let epoch = self.feed.position?.epoch ?? self.read.map({ $0.head?.epoch ?? self.head.epoch }), epoch == self.head.epoch, seq <= self.head.seq {
                self.hear(StreamPosition(epoch: epoch, seq: seq))
            }
            self.feed.headKnown(seq, &actions)
        case .timer:
            self.timer = false
            self.feed.gapTimerFired(&actions)
        case .snapshot:
            guard var read else { return }
            read.head = self.head
            read.replayable = read.after.map { self.isReplayable(from: $0, to: self.head) } ?? false
            self.read = read
        case .answer:
            guard let read, let head = read.head else { return }
            self.read = nil
            var entries: [Machine.Entry]?
            if read.replayable, let after = read.after { entries = Self.entries(epoch: head.epoch, after: after.seq, upTo: min(head.seq, after.seq + self.plan.portion)) }
            self.feed.readDone(Machine.ReadResult(head: head, entries: entries), &actions)
        case .fail:
            self.plan.failures -= 1
            self.read = nil
            failing = true
            self.feed.readFailed(&actions)
        case .join:
            let resume = self.plan.joins.removeFirst()
            self.readers.append(Reader(resume: resume))
            self.feed.join(self.readers.count - 1, resume: resume, &actions)
        case .block(let index):
            self.plan.blocks -= 1
            if self.readers[index].state == .behind { self.feed.leave(index) }
            self.readers[index].state = .blocked
        case .rejoin(let index):
            self.readers[index].state = .behind
            self.feed.rejoin(index, after: self.readers[index].cursor!, &actions)
        case .leave(let index):
            self.plan.leaves -= 1
            self.readers[index].state = .gone
            self.feed.leave(index)
        case .changeEpoch:
            switch self.plan.epochChanges.removeFirst() {
            case .erase: break
            case .restore(let lost): self.head.seq = max(0, self.head.seq - lost)
            }
            self.head.epoch += 1
            self.floors[self.head.epoch] = self.head.seq
            self.epochUnnoticed = true
        case .reconcile:
            if !self.epochUnnoticed { self.plan.reconciles -= 1 }
            self.epochUnnoticed = false
            if self.feed.position != nil || self.read != nil { self.hear(self.head) }
            self.feed.reconcile(&actions)
        }
        for action in actions { try self.perform(action, failing: failing) }
        try self.checkInvariants()
    }

    private mutating func receive(_ message: Message, _ actions: inout [Machine.Action]) throws(Violation) {
        if self.feed.position != nil || self.read != nil { self.hear(StreamPosition(epoch: message.epoch, seq: message.last)) }
        let entries = Self.entries(epoch: message.epoch, after: message.first - 1, upTo: message.last)
        if self.feed.advance(epoch: message.epoch, first: message.first, last: message.last) {
            for index in self.readers.indices where self.readers[index].state == .live { try self.give(entries, to: index) }
        } else {
            self.feed.receive(epoch: message.epoch, entries, &actions)
        }
    }

    private mutating func hear(_ position: StreamPosition) {
        if (position.epoch, position.seq) > (self.heard.epoch, self.heard.seq) { self.heard = position }
    }

    private func isReplayable(from point: StreamPosition, to head: StreamPosition) -> Bool {
        point.epoch == head.epoch && point.seq <= head.seq && point.seq >= self.floors[head.epoch]! && head.seq - point.seq <= self.plan.replayLimit
    }

    private static func entries(epoch: Int64, after: Int64, upTo last: Int64) -> [Machine.Entry] {
        var entries: [Machine.Entry] = []
        var seq = after + 1
        while seq <= last {
            entries.append(Machine.Entry(seq: seq, item: StreamPosition(epoch: epoch, seq: seq)))
            seq += 1
        }
        return entries
    }

    private mutating func perform(_ action: Machine.Action, failing: Bool) throws(Violation) {
        switch action {
        case .read(let after):
            if self.read != nil { throw Violation("a read was asked for while one is in flight") }
            self.read = Read(after: after)
        case .startGapTimer, .startRetryTimer:
            if self.timer { throw Violation("a timer was started while one runs") }
            self.timer = true
        case .deliver(let entries):
            if entries.isEmpty { throw Violation("nothing was delivered") }
            for index in self.readers.indices where self.readers[index].state == .live { try self.give(entries, to: index) }
        case .ready(let index, let at):
            if self.readers[index].state != .joining { throw Violation("ready came a second time, or not first") }
            self.readers[index].state = .behind
            self.readers[index].cursor = at
            switch self.readers[index].resume {
            case .fresh: break
            case .after(let point): self.readers[index].owedResync = point != at
            case .malformed: self.readers[index].owedResync = true
            }
        case .replay(let index, let entries):
            if self.readers[index].state != .behind { throw Violation("a replay for a reader that is not behind") }
            if entries.isEmpty { throw Violation("an empty replay") }
            try self.give(entries, to: index)
        case .resync(let index, let at):
            if self.readers[index].state != .behind { throw Violation("a resync for a reader that is not behind") }
            try self.resync(index, at: at)
        case .resyncLive(let at):
            for index in self.readers.indices where self.readers[index].state == .live { try self.resync(index, at: at) }
        case .live(let index):
            if self.readers[index].state != .behind { throw Violation("live without being behind before") }
            if self.readers[index].owedResync { throw Violation("live, joined elsewhere than asked, and not told") }
            self.readers[index].state = .live
        case .refuse(let index):
            if !failing { throw Violation("refused though nothing failed") }
            if self.readers[index].state != .joining { throw Violation("refused after it had joined") }
            self.readers[index].state = .gone
        }
    }

    private mutating func give(_ entries: [Machine.Entry], to index: Int) throws(Violation) {
        guard var cursor = self.readers[index].cursor else { throw Violation("reader \(index) was given something before ready") }
        if self.readers[index].owedResync { throw Violation("reader \(index) was given something before its resync") }
        for entry in entries {
            cursor.seq += 1
            if entry.item != cursor || entry.seq != cursor.seq { throw Violation("reader \(index) was given \(entry.item) where \(cursor) follows") }
        }
        self.readers[index].cursor = cursor
    }

    private mutating func resync(_ index: Int, at head: StreamPosition) throws(Violation) {
        guard let cursor = self.readers[index].cursor else { throw Violation("resync before ready") }
        var from: StreamPosition? = cursor
        if self.readers[index].owedResync {
            if cursor != head { throw Violation("resync elsewhere than ready") }
            if case .after(let point) = self.readers[index].resume { from = point } else { from = nil }
        }
        if let from, self.isReplayable(from: from, to: head) { throw Violation("resync without cause from \(from) at \(head)") }
        self.readers[index].cursor = head
        self.readers[index].owedResync = false
    }

    // MARK: what must hold

    private func checkInvariants() throws(Violation) {
        var behind = 0
        for (index, reader) in self.readers.enumerated() {
            switch reader.state {
            case .live:
                if reader.cursor != self.feed.position {
                    throw Violation("reader \(index) is live at \(reader.cursor as Any), the feed at \(self.feed.position as Any)")
                }
            case .joining, .behind: behind += 1
            case .blocked, .gone: break
            }
        }
        if behind != self.feed.behindCount { throw Violation("\(behind) readers are behind, the machine knows \(self.feed.behindCount)") }
        if self.read != nil, self.feed.isQuiet { throw Violation("quiet with a read in flight") }
        if behind > 0, self.read == nil, !self.timer { throw Violation("readers are behind and nothing is under way") }
    }

    /// Answers every read and fires every timer until nothing is under way. What is on the wire is lost.
    private mutating func rest() throws(Violation) {
        var fired = 0
        while true {
            var answered = 0
            while self.read != nil {
                if self.read!.head == nil { try self.apply(.snapshot) }
                try self.apply(.answer)
                answered += 1
                if answered > (self.readers.count + 3) * (1 + Int(self.head.seq / self.plan.portion)) { throw Violation("reads without end") }
            }
            if !self.timer { return }
            try self.apply(.timer)
            fired += 1
            if fired > 4 { throw Violation("timers without end") }
        }
    }

    /// Lets the world come to rest, first with what the machine knows, then with what the commit tail and the edge's checks would tell it.
    mutating func settle() throws(Violation) {
        self.wire = []
        try self.rest()
        if let position = self.feed.position, self.heard.epoch == self.head.epoch {
            if position.epoch != self.heard.epoch || position.seq < self.heard.seq { throw Violation("at rest at \(position) though \(self.heard) is known") }
        }
        if self.unreported != nil { try self.apply(.tail) }
        if self.epochUnnoticed { try self.apply(.reconcile) }
        try self.rest()
        for index in self.readers.indices where self.readers[index].state == .blocked { try self.apply(.rejoin(index)) }
        try self.rest()
        for (index, reader) in self.readers.enumerated() {
            switch reader.state {
            case .live:
                if reader.cursor != self.head { throw Violation("reader \(index) rests at \(reader.cursor as Any), the head is \(self.head)") }
            case .joining, .behind, .blocked: throw Violation("reader \(index) rests \(reader.state)")
            case .gone: break
            }
        }
        if !self.feed.isQuiet { throw Violation("at rest and not quiet") }
    }
}
