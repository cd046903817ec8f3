import NotificationCore

@testable import NotificationStore

/// One user's inbox as it should be, in the plainest way: every row knows its own state, nothing is marked, nothing is added up.
struct InboxModel {
    struct Row {
        var new: NewNotification
        var seq: Int64?
        var stateSeq: Int64 = 0
        var read = false
        var seen = false
        var archived = false
        /// The number of the change that made it read.
        var readBy: Int64?
        /// Its time came (for scheduled ones), or is over.
        var isDue = false
        var isExpired = false

        var state: InboxChange.State {
            var state: InboxChange.State = []
            if self.read { state.insert(.read) }
            if self.seen { state.insert(.seen) }
            if self.archived { state.insert(.archived) }
            return state
        }
    }

    struct Outcome {
        var status: InboxOutcome.Status
        var changes: [Change] = []
        var updated = 0
    }

    struct Change {
        var change: InboxChange
        var readBy: Int64?
        /// customer to [unread, unseen], where the change has them.
        var customers: [String: [Int32]]?
        var customersBefore: [String: [Int32]]?
    }

    let user: UserID
    var rows: [NotificationID: Row] = [:]
    var log: [Change] = []
    var seq: Int64 { Int64(self.log.count) }

    init(user: UserID) {
        self.user = user
    }

    // MARK: Counts

    var listed: [Row] { self.rows.values.filter { $0.seq != nil } }
    var unread: Int32 { Int32(self.listed.filter { !$0.read }.count) }
    var unseen: Int32 { Int32(self.listed.filter { !$0.seen }.count) }

    var counts: [String: [Int32]] {
        var counts: [String: [Int32]] = [:]
        for row in self.listed where !row.read {
            for type in [row.new.type, ""] {
                counts[(row.new.customer ?? "") + "\u{1F}" + type, default: [0, 0]][0] += 1
                if !row.seen { counts[(row.new.customer ?? "") + "\u{1F}" + type]![1] += 1 }
            }
        }
        return counts
    }

    var customers: [String: [Int32]] {
        var customers: [String: [Int32]] = [:]
        for row in self.listed where !row.read {
            customers[row.new.customer ?? "", default: [0, 0]][0] += 1
            if !row.seen { customers[row.new.customer ?? ""]![1] += 1 }
        }
        return customers
    }

    // MARK: Changes

    mutating func apply(_ action: InboxCommand.Action) -> Outcome {
        switch action {
        case .create(let new):
            var row = Row(new: new)
            row.isExpired = new.expiresAt.map { $0 < .now() } ?? false
            self.rows[new.id] = row
            if !new.inApp || new.deliverAt.map({ $0 > .now() }) ?? false { return Outcome(status: .stored) }
            return self.deliver(new.id)
        case .comeDue(let id):
            guard let row = self.rows[id], row.seq == nil, row.new.inApp, row.isDue, !row.isExpired else { return Outcome(status: .notFound) }
            return self.deliver(id)
        case .setFlags(let id, let read, let seen, let archived, let scope):
            guard let before = self.visible(id, scope) else { return Outcome(status: .notFound) }
            var row = before
            row.archived = archived ?? row.archived
            row.read = row.archived || (read ?? row.read)
            row.seen = row.read || (seen ?? row.seen)
            if row.state == before.state {
                let change = InboxChange(
                    seq: row.stateSeq, kind: .updated, notification: id, state: row.state, unread: self.unread, unseen: self.unseen,
                    customer: row.new.customer, body: Array(row.new.body.utf8))
                return Outcome(status: .unchanged, changes: [Change(change: change, readBy: row.readBy)])
            }
            if !row.read { row.readBy = nil } else if !before.read { row.readBy = self.seq + 1 }
            row.stateSeq = self.seq + 1
            self.rows[id] = row
            return Outcome(status: .changed, changes: [self.named(.updated, row)])
        case .delete(let id, let scope):
            guard let row = self.visible(id, scope) else { return Outcome(status: .notFound) }
            return self.remove(row, .deleted)
        case .expire(let id):
            guard let row = self.rows[id], row.isExpired else { return Outcome(status: .notFound) }
            return self.remove(row, .expired)
        case .retire(let id):
            guard let row = self.rows[id] else { return Outcome(status: .notFound) }
            return self.remove(row, .deleted)
        case .correct(let id, let correction):
            guard var row = self.rows[id] else { return Outcome(status: .notFound) }
            let body = Self.body(row.new.body, corrected: correction)
            if body == row.new.body { return Outcome(status: .unchanged) }
            row.new.body = body
            row.new.level = correction.level ?? row.new.level
            row.new.priority = correction.priority ?? row.new.priority
            row.new.expiresAt = correction.expiresAt ?? row.new.expiresAt
            if correction.expiresAt != nil { row.isExpired = false }
            if row.seq != nil { row.stateSeq = self.seq + 1 }
            self.rows[id] = row
            return row.seq == nil ? Outcome(status: .stored) : Outcome(status: .changed, changes: [self.named(.updated, row)])
        case .skip: return Outcome(status: .unchanged)
        case .readAll(let customer, let type, let upTo, let scope):
            var bound: Int64?
            if let upTo {
                guard let row = self.visible(upTo, scope) else { return Outcome(status: .notFound) }
                bound = row.stateSeq
            }
            let picked = self.listed.filter {
                !$0.read && (customer == nil || ($0.new.customer ?? "") == customer) && (type == nil || $0.new.type == type)
                    && (bound == nil || $0.stateSeq <= bound!)
            }
            if picked.isEmpty { return Outcome(status: .unchanged) }
            let before = self.customers
            for row in picked {
                self.rows[row.new.id]!.read = true
                self.rows[row.new.id]!.seen = true
                self.rows[row.new.id]!.readBy = self.seq + 1
            }
            return Outcome(status: .changed, changes: [self.whole(.readAll, customer, type, bound, before)], updated: picked.count)
        case .seenAll(let customer):
            let picked = self.listed.filter { !$0.seen && (customer == nil || ($0.new.customer ?? "") == customer) }
            if picked.isEmpty { return Outcome(status: .unchanged) }
            let before = self.customers
            for row in picked { self.rows[row.new.id]!.seen = true }
            return Outcome(status: .changed, changes: [self.whole(.seenAll, customer, nil, nil, before)], updated: customer == nil ? 0 : picked.count)
        case .erase: preconditionFailure("an erasure has tests of its own: the model has one epoch")
        }
    }

    private static func body(_ body: String, corrected correction: NotificationCorrection) -> String {
        guard case .object(var members) = try? JSONParser.parse(Array("{\(body)}".utf8)), let changed = try? JSONParser.parse(Array(correction.members.utf8))
        else { return "not JSON" }
        for index in members.indices { members[index].value = changed[members[index].name] ?? members[index].value }
        return String(String(decoding: JSONValue.object(members).encoded, as: UTF8.self).dropFirst().dropLast())
    }

    private func visible(_ id: NotificationID, _ scope: [String]?) -> Row? {
        guard let row = self.rows[id], row.seq != nil else { return nil }
        if let scope, let customer = row.new.customer, !scope.contains(customer) { return nil }
        return row
    }

    private mutating func deliver(_ id: NotificationID) -> Outcome {
        var changes: [Change] = []
        if let key = self.rows[id]!.new.collapseKey {
            for row in self.listed.filter({ $0.new.collapseKey == key && !$0.read }).sorted(by: { $0.seq! < $1.seq! }) {
                self.rows[row.new.id] = nil
                changes.append(self.named(.replaced, row))
            }
        }
        self.rows[id]!.seq = self.seq + 1
        self.rows[id]!.stateSeq = self.seq + 1
        changes.append(self.named(.created, self.rows[id]!))
        return Outcome(status: .changed, changes: changes)
    }

    private mutating func remove(_ row: Row, _ kind: InboxChange.Kind) -> Outcome {
        self.rows[row.new.id] = nil
        if row.seq == nil { return Outcome(status: .unchanged) }
        return Outcome(status: .changed, changes: [self.named(kind, row)])
    }

    private mutating func named(_ kind: InboxChange.Kind, _ row: Row) -> Change {
        let gone = self.rows[row.new.id] == nil
        let sums = self.customers[row.new.customer ?? ""] ?? [0, 0]
        let change = InboxChange(
            seq: self.seq + 1, kind: kind, notification: row.new.id, state: gone ? [] : row.state, unread: self.unread, unseen: self.unseen,
            customer: row.new.customer, customerUnread: sums[0], customerUnseen: sums[1], body: gone ? nil : Array(row.new.body.utf8))
        self.log.append(Change(change: change, readBy: gone ? nil : row.readBy))
        return self.log.last!
    }

    private mutating func whole(
        _ kind: InboxChange.Kind, _ customer: String?, _ type: String?, _ bound: Int64?, _ before: [String: [Int32]]
    ) -> Change {
        let change = InboxChange(
            seq: self.seq + 1, kind: kind, unread: self.unread, unseen: self.unseen, customer: customer, type: type, upToSeq: bound)
        self.log.append(Change(change: change, customers: self.customers, customersBefore: before))
        return self.log.last!
    }

    // MARK: Lists

    func list(_ query: InboxQuery) -> [Row] {
        let rows = self.listed.filter { row in
            switch query.status {
            case .unread: if row.read { return false }
            case .read: if !row.read { return false }
            case .all: break
            }
            switch query.archived {
            case .no: if row.archived { return false }
            case .yes: if !row.archived { return false }
            case .all: break
            }
            if let scope = query.scope, let customer = row.new.customer, !scope.contains(customer) { return false }
            return (query.customer == nil || row.new.customer == query.customer) && (query.type == nil || row.new.type == query.type)
                && (query.event == nil || row.new.event == query.event) && (query.level == nil || row.new.level == query.level)
                && (query.priority == nil || row.new.priority == query.priority) && (query.since == nil || row.new.createdAt >= query.since!)
                && (query.until == nil || row.new.createdAt < query.until!)
        }
        return rows.sorted { left, right in
            if query.order == .unreadFirst, left.read != right.read { return !left.read }
            return left.seq! > right.seq!
        }
    }
}
