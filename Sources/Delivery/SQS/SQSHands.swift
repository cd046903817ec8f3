import DequeModule
import NotificationCore

/// The messages that a node has in its hands, and what is to become of each: a machine without I/O.
///
/// A message is received, then its task is taken, then it is deleted. Whatever is not deleted comes again, so that nothing is lost here by forgetting: a message
/// that has lain here for most of the time for which it is hidden is let go of.
struct SQSHands: Sendable {
    struct Received: Sendable {
        var task: NotificationID
        var receipt: String
        /// When it came.
        var at: ContinuousClock.Instant
    }

    /// To be told to SQS.
    struct Errands: Sendable {
        var delete: [String] = []
        var hide: [(receipt: String, seconds: Int)] = []

        var isEmpty: Bool { self.delete.isEmpty && self.hide.isEmpty }
    }

    /// Errands that wait. Past it they are dropped: those messages come again.
    static let errandBound = 10_000

    /// Messages at once, received and taken.
    let bound: Int
    let patience: Duration
    private var received: Deque<Received> = []
    private var taken: [NotificationID: String] = [:]
    private var errands = Errands()

    /// - Parameter hidden: for how many seconds nobody else gets a message that was received.
    init(bound: Int, hidden: Int) {
        self.bound = bound
        self.patience = .milliseconds(hidden * 700)
    }

    /// How many more may be received.
    var room: Int { max(0, self.bound - self.received.count - self.taken.count) }

    mutating func receive(_ messages: [Received]) { self.received += messages }

    /// What is to be taken, each task once. What has lain too long is let go of, and a second message of a task is deleted.
    mutating func next(_ limit: Int, now: ContinuousClock.Instant) -> [Received] {
        var batch: [Received] = []
        var tasks: Set<NotificationID> = []
        while batch.count < limit, let message = self.received.popFirst() {
            if now - message.at > self.patience { continue }
            if tasks.insert(message.task).inserted { batch.append(message) } else { self.delete(message.receipt) }
        }
        return batch
    }

    /// They could not be taken: next time.
    mutating func giveBack(_ batch: [Received]) { self.received.prepend(contentsOf: batch) }

    /// Answers how many of them were stale.
    mutating func took(_ tasks: Set<NotificationID>, busy: [NotificationID: Int], of batch: [Received]) -> Int {
        var stale = 0
        for message in batch {
            if tasks.contains(message.task) {
                self.taken[message.task] = message.receipt
            } else if let seconds = busy[message.task] {
                self.hide(message.receipt, seconds)
                // The one that is in these hands came again, hidden too late: SQS deletes by the receipt of the last time.
                if self.taken[message.task] != nil { self.taken[message.task] = message.receipt }
            } else {
                stale += 1
                self.delete(message.receipt)
            }
        }
        return stale
    }

    mutating func settle(_ task: NotificationID) {
        // One that was taken with another of its user has no message here.
        if let receipt = self.taken.removeValue(forKey: task) { self.delete(receipt) }
    }

    func receipts(of tasks: [NotificationID]) -> [String] { tasks.compactMap { self.taken[$0] } }

    /// Others may have at once what was not taken.
    mutating func release() {
        while let message = self.received.popFirst() { self.hide(message.receipt, 0) }
    }

    mutating func takeErrands() -> Errands {
        defer { self.errands = Errands() }
        return self.errands
    }

    private mutating func delete(_ receipt: String) {
        if self.errands.delete.count < Self.errandBound { self.errands.delete.append(receipt) }
    }

    private mutating func hide(_ receipt: String, _ seconds: Int) {
        if self.errands.hide.count < Self.errandBound { self.errands.hide.append((receipt, seconds)) }
    }
}
