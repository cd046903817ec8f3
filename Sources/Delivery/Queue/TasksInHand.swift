import NotificationCore
import NotificationStore

/// The tasks that a runner has claimed and not given away, and which of them are being attempted: a machine without I/O.
///
/// A lease may be lost and its task claimed again while the attempt before goes on; and a claim that is under way may bring a task as it was before it
/// ended here. Nothing is attempted twice at once: what was claimed again waits until the attempt before is over, and is asked for once more then.
struct TasksInHand {
    private struct Waiting {
        var tasks: [QueuedTask]
        /// Those that have to be over first.
        var former: Set<NotificationID>
    }

    /// What came of a claim.
    struct Sorted {
        /// To be attempted.
        var new: [QueuedTask] = []
        /// They may be over: to be attempted if they are ours still.
        var doubtful: [QueuedTask] = []
        /// These were brought before, and waited: the later ones count.
        var replaced: [QueuedTask] = []
    }

    /// When each lease was last renewed, of what is attempted and of what waits.
    private(set) var leased: [NotificationID: ContinuousClock.Instant] = [:]
    /// Attempted, or about to be: each of them will be over.
    private var active: Set<NotificationID> = []
    private var waiting: [Waiting] = []
    private var isClaiming = false
    /// Over since the claim was asked for that is under way.
    private var overSince: Set<NotificationID> = []

    /// A claim is asked for.
    mutating func ask() {
        self.isClaiming = true
        self.overSince = []
    }

    /// The claim failed.
    mutating func gotNothing() { self.isClaiming = false }

    /// - Parameter wholeKeys: all of a key goes one way.
    /// - Parameter asked: when the claim was asked for: its leases begin then.
    mutating func got(_ claimed: [QueuedTask], asked: ContinuousClock.Instant, wholeKeys: Bool) -> Sorted {
        self.isClaiming = false
        for task in claimed { self.leased[task.id] = asked }
        let known = claimed.filter { self.active.contains($0.id) || self.overSince.contains($0.id) || self.isWaiting($0.id) }
        if known.isEmpty {
            self.active.formUnion(claimed.map(\.id))
            return Sorted(new: claimed)
        }
        let ids = Set(known.map(\.id))
        let keys = wholeKeys ? Set(known.map(\.key)) : []
        var sorted = Sorted()
        var again: [QueuedTask] = []
        for task in claimed {
            if ids.contains(task.id) || keys.contains(task.key) { again.append(task) } else { sorted.new.append(task) }
        }
        for some in wholeKeys ? [again] : again.map({ [$0] }) { self.takeAgain(some, &sorted) }
        self.active.formUnion(sorted.new.map(\.id))
        return sorted
    }

    /// They wait for each other's attempts, and for those that each of them waited for before.
    private mutating func takeAgain(_ tasks: [QueuedTask], _ sorted: inout Sorted) {
        let ids = Set(tasks.map(\.id))
        var former = self.active.intersection(ids)
        for place in self.waiting.indices {
            let replaced = self.waiting[place].tasks.filter { ids.contains($0.id) }
            if replaced.isEmpty { continue }
            sorted.replaced += replaced
            self.waiting[place].tasks.removeAll { ids.contains($0.id) }
            former.formUnion(self.waiting[place].former)
        }
        if former.isEmpty {
            sorted.doubtful += tasks
            self.active.formUnion(ids)
        } else {
            self.waiting.append(Waiting(tasks: tasks, former: former))
        }
    }

    /// The attempt is over, or there was none. Answers what has waited for it: it may be over, and is to be attempted if it is ours still.
    mutating func over(_ task: NotificationID) -> [[QueuedTask]] {
        if self.isClaiming { self.overSince.insert(task) }
        self.active.remove(task)
        for place in self.waiting.indices { self.waiting[place].former.remove(task) }
        if !self.isWaiting(task) { self.leased[task] = nil }
        let ready = self.waiting.filter(\.former.isEmpty).map(\.tasks).filter { !$0.isEmpty }
        self.waiting.removeAll(where: \.former.isEmpty)
        for tasks in ready { self.active.formUnion(tasks.map(\.id)) }
        return ready
    }

    /// Those of them that are still in hand.
    mutating func renewed(_ tasks: [NotificationID], at now: ContinuousClock.Instant) -> [NotificationID] {
        let held = tasks.filter { self.leased[$0] != nil }
        for task in held { self.leased[task] = now }
        return held
    }

    private func isWaiting(_ task: NotificationID) -> Bool { self.waiting.contains { $0.tasks.contains { $0.id == task } } }
}
