import DequeModule
import NotificationCore

/// What waits to be written to the audit log. No I/O.
///
/// Past the bound the oldest are dropped, and counted. Requests that would make too many rows are added up: those of one subject, or, where there is
/// none, of one address, that were asked the same and answered the same within one second.
struct AuditQueue {
    private struct Alike: Hashable {
        var second: Int64
        var subject: RequestSubject?
        var address: String?
        var method: String
        var route: String?
        var status: Int
    }

    /// Of sums of too many addresses.
    static let manyAddresses = "many"

    private let bound: Int
    private let sumsBound: Int
    private var entries: Deque<AuditEntry> = []
    private var sums: [Alike: AuditEntry] = [:]
    /// Requests of which the log will say nothing.
    private(set) var dropped = 0

    /// - Parameters:
    ///   - bound: Entries that wait.
    ///   - sumsBound: Sums a second with an address of their own; the others share one for each kind of request and answer.
    init(bound: Int, sumsBound: Int) {
        self.bound = bound
        self.sumsBound = sumsBound
    }

    var waiting: Int { self.entries.count + self.sums.count }

    mutating func add(_ entry: AuditEntry) {
        if self.entries.count >= self.bound, let oldest = self.entries.popFirst() { self.dropped += oldest.count }
        self.entries.append(entry)
    }

    /// The same for a request that is one of many.
    mutating func addUp(_ entry: AuditEntry) {
        var alike = Alike(
            second: entry.at.seconds, subject: entry.subject, address: entry.subject == nil ? entry.address : nil, method: entry.method, route: entry.route,
            status: entry.status)
        if self.add(entry.count, to: alike) { return }
        var sum = entry
        if self.sums.count >= self.sumsBound, entry.subject == nil {
            alike.address = Self.manyAddresses
            sum.address = Self.manyAddresses
            if self.add(entry.count, to: alike) { return }
        }
        self.sums[alike] = sum
    }

    /// False when there is no such sum.
    private mutating func add(_ count: Int, to alike: Alike) -> Bool {
        guard let index = self.sums.index(forKey: alike) else { return false }
        self.sums.values[index].count += count
        return true
    }

    /// What may be written now, oldest first: sums whose second is over among it.
    ///
    /// - Parameter all: also sums of the current second.
    mutating func take(upTo count: Int, now: Timestamp, all: Bool = false) -> [AuditEntry] {
        if !self.sums.isEmpty {
            let over = self.sums.filter { all || $0.key.second < now.seconds }
            for alike in over.keys { self.sums[alike] = nil }
            for entry in over.values.sorted(by: { $0.at < $1.at }) { self.add(entry) }
        }
        var taken: [AuditEntry] = []
        taken.reserveCapacity(min(count, self.entries.count))
        while taken.count < count, var entry = self.entries.popFirst() {
            entry.id = entry.id ?? NotificationID.make(now: entry.at)
            taken.append(entry)
        }
        return taken
    }

    /// They were not written, as far as is known.
    mutating func putBack(_ taken: [AuditEntry]) {
        let room = max(0, self.bound - self.entries.count)
        self.drop(taken.dropLast(room))
        self.entries.prepend(contentsOf: taken.suffix(room))
    }

    /// They cannot be written.
    mutating func drop(_ entries: some Sequence<AuditEntry>) {
        self.dropped += entries.reduce(0) { $0 + $1.count }
    }
}
