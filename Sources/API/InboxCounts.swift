import NotificationCore
import NotificationStore

/// The counts of an inbox by customer and type, as its head holds them.
struct InboxCounts: Sendable {
    private struct Entry: Sendable {
        var customer: Substring
        var type: Substring
        var unread: Int64
        var unseen: Int64
    }

    struct Numbers: Sendable, Equatable {
        var unread: Int64
        var unseen: Int64
    }

    private static let separator = UInt8(0x1F)

    private let total: Numbers
    private let entries: [Entry]

    init(_ head: InboxHead) {
        self.total = Numbers(unread: Int64(head.unread), unseen: Int64(head.unseen))
        var entries: [Entry] = []
        if head.counts.utf8.count > 2, case .object(let members)? = try? JSONParser.parse(Array(head.counts.utf8)) {
            for (name, value) in members {
                guard let split = name.utf8.firstIndex(of: Self.separator), case .array(let numbers) = value, numbers.count == 2,
                    let unread = Self.number(numbers[0]), let unseen = Self.number(numbers[1])
                else { continue }
                entries.append(
                    Entry(
                        customer: Substring(name.utf8[..<split]), type: Substring(name.utf8[name.utf8.index(after: split)...]), unread: unread,
                        unseen: unseen))
            }
        }
        self.entries = entries
    }

    private static func number(_ value: JSONValue) -> Int64? {
        guard case .number(let digits) = value else { return nil }
        return Int64(digits)
    }

    /// What a token may see: everything, or what belongs to its customers and to none.
    func numbers(customers: [String]?, customer: String? = nil) -> Numbers {
        if customers == nil, customer == nil { return self.total }
        let shown = Shown(customers: customers, customer: customer)
        // The entry with an empty type is its customer's sum.
        return self.entries.reduce(into: Numbers(unread: 0, unseen: 0)) { sum, entry in
            guard entry.type.isEmpty, shown.contains(entry.customer) else { return }
            sum.unread += entry.unread
            sum.unseen += entry.unseen
        }
    }

    /// Unread by type, types in byte order; those with none are not there.
    func unreadByType(customers: [String]?, customer: String? = nil) -> [(type: String, unread: Int64)] {
        let shown = Shown(customers: customers, customer: customer)
        var sums: [OpaqueID: Int64] = [:]
        for entry in self.entries where entry.unread > 0 && !entry.type.isEmpty && shown.contains(entry.customer) {
            guard let type = OpaqueID(String(entry.type)) else { continue }
            sums[type, default: 0] += entry.unread
        }
        return sums.sorted { $0.key < $1.key }.map { ($0.key.value, $0.value) }
    }

    /// Customers are the same when their bytes are; strings compare otherwise.
    private struct Shown {
        private let one: OpaqueID?
        private let many: Set<OpaqueID>?

        init(customers: [String]?, customer: String?) {
            self.one = customer.flatMap(OpaqueID.init)
            self.many = customers.map { Set($0.compactMap(OpaqueID.init)) }
        }

        func contains(_ customer: Substring) -> Bool {
            guard let id = OpaqueID(String(customer)) else { return self.one == nil }
            if let one { return one == id }
            return self.many?.contains(id) ?? true
        }
    }
}
