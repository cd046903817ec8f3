import NIOCore
import NotificationCore
import NotificationStore

/// What one stream may see, where that is not everything: the customers of its token, and the one customer that it asked for.
struct StreamFilter {
    struct Counts: Equatable {
        var unread: Int32
        var unseen: Int32
    }

    /// The token's customers; nil: all.
    var allowed: Set<String>?
    /// The query's `customer_id`.
    var only: String?
    private let allowedIDs: Set<CustomerID>?
    private let onlyID: CustomerID?
    /// By customer, "" for none: as of the last change that was shown to this stream.
    private var counts: [String: Counts] = [:]

    init?(allowed: [String]?, only: String?) {
        if allowed == nil, only == nil { return nil }
        self.allowed = allowed.map { Set($0) }
        self.only = only
        self.allowedIDs = allowed.map { Set($0.compactMap { CustomerID($0) }) }
        self.onlyID = only.flatMap { CustomerID($0) }
    }

    /// The counts that this stream is shown: of the whole inbox, or of what its token may see.
    func shown(_ whole: Counts) -> Counts {
        guard let allowed else { return whole }
        var sum = Counts(unread: 0, unseen: 0)
        for (customer, counts) in self.counts where customer.isEmpty || allowed.contains(customer) {
            sum.unread += counts.unread
            sum.unseen += counts.unseen
        }
        return sum
    }

    /// Starts from the head's counts, less what the changes that will be replayed to this stream did.
    mutating func start(customers: String, replayed: ArraySlice<InboxChange>, unreadBefore: Counts?) {
        guard self.allowed != nil else { return }
        self.counts = Self.parse(customers)
        guard var before = unreadBefore else { return }
        var steps: [(change: InboxChange, delta: Counts)] = []
        for change in replayed {
            steps.append((change, Counts(unread: change.unread - before.unread, unseen: change.unseen - before.unseen)))
            before = Counts(unread: change.unread, unseen: change.unseen)
        }
        for (change, delta) in steps.reversed() {
            if let before = change.customerCountsBefore {
                self.counts = Self.parse(before)
                continue
            }
            self.counts[change.customer ?? ""] = Counts(
                unread: change.customerUnread - delta.unread, unseen: change.customerUnseen - delta.unseen)
        }
    }

    /// What the stream is given for this change: its frame, the frame with another count, or only its number.
    mutating func apply(_ item: StreamItem, position: StreamPosition) -> ByteBuffer {
        if self.allowed != nil {
            if let counts = item.customerCounts {
                self.counts = Self.parse(counts)
            } else {
                self.counts[item.customer ?? ""] = Counts(unread: item.customerUnread, unseen: item.customerUnseen)
            }
        }
        guard self.isVisible(item) else {
            var bytes: [UInt8] = []
            StreamFrame.appendPosition(position, to: &bytes)
            return ByteBuffer(bytes: bytes)
        }
        if self.allowed == nil { return item.frame }
        let shown = self.shown(Counts(unread: item.unread, unseen: item.unseen))
        // "All seen" says how many are unseen, too, right before.
        let unseen = item.kind == .seenAll ? StreamFrame.unseenMember(item.unseen) : ""
        guard var frame = item.frame.getSlice(at: item.frame.readerIndex, length: item.unreadOffset - StreamFrame.unreadName.utf8.count - unseen.utf8.count)
        else { return item.frame }
        if item.kind == .seenAll { frame.writeString(StreamFrame.unseenMember(shown.unseen)) }
        frame.writeString("\(StreamFrame.unreadName)\(shown.unread)}\n\n")
        return frame
    }

    /// Whether a notification of this customer, or of none, is for this stream.
    func shows(customer: String?) -> Bool {
        // By their bytes: two customers may look the same.
        let customer = customer.flatMap { CustomerID($0) }
        if let allowedIDs, let customer, !allowedIDs.contains(customer) { return false }
        return self.onlyID.map { $0 == customer } ?? true
    }

    private func isVisible(_ item: StreamItem) -> Bool {
        switch item.kind {
        case .readAll, .seenAll:
            guard let customer = item.customer, !customer.isEmpty else { return true }
            if let allowed, !allowed.contains(customer) { return false }
            return self.only.map { $0 == customer } ?? true
        case .created, .updated, .deleted, .expired, .replaced: return self.shows(customer: item.customer)
        case .erased: return true
        }
    }

    private static func parse(_ json: String) -> [String: Counts] {
        guard let value = try? JSONParser.parse(Array(json.utf8)), case .object(let members) = value else { return [:] }
        var counts: [String: Counts] = [:]
        for member in members {
            guard case .array(let pair) = member.value, pair.count == 2, case .number(let unread) = pair[0], case .number(let unseen) = pair[1]
            else { continue }
            counts[member.name] = Counts(unread: Int32(unread) ?? 0, unseen: Int32(unseen) ?? 0)
        }
        return counts
    }
}
