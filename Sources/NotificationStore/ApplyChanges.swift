import NotificationCore
import PostgresClient

/// The call of the writing function: commands to arrays, rows to outcomes.
enum ApplyChanges {
    // Index: heads_pkey for every user, notifications_pkey and notifications_inbox for what it touches.
    static let statement = PostgresStatement(
        """
        SELECT item, status, user_id, epoch, seq, kind, notification_id, state, read_at, unread, unseen, customer_id, customer_unread,
               customer_unseen, customer_counts, type, up_to_seq, at, body, counts, updated, more
        FROM apply_changes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29,
                           $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40)
        """)

    private enum Op: Int16 {
        case create = 1, setFlags, delete, readAll, seenAll, comeDue, expire, retire, correct, skip, erase, createUnlessKnown
    }

    /// The commands must be sorted by user, the claims as they are to be made; `claimed` has an index into them from 1 for each command, or 0; so has `calls` for those of notify calls, or it is
    /// empty. `traces` has what each command's request says of itself, or is empty.
    static func values(
        batch: NotificationID, again: Bool, _ commands: [InboxCommand], claims: [IdempotencyClaim] = [], claimed: [Int32] = [], calls: [Int32] = [],
        traces: [String?] = []
    ) -> [PostgresValue] {
        var users: [String?] = []
        var ops: [Int16?] = []
        var ids: [UUIDBytes?] = []
        var types: [String?] = []
        var events: [String?] = []
        var levels: [Int16?] = []
        var priorities: [Int16?] = []
        var customers: [String?] = []
        var recTypes: [String?] = []
        var recIDs: [String?] = []
        var collapse: [String?] = []
        // Each once: those of one request follow one another.
        var bodies: [String?] = []
        var bodyOf: [Int32?] = []
        var created: [Int64?] = []
        var deliver: [Int64?] = []
        var expires: [Int64?] = []
        var inApp: [Bool?] = []
        var read: [Bool?] = []
        var seen: [Bool?] = []
        var archived: [Bool?] = []
        var scopes: [String?] = []
        var deliveries = DeliveryColumns()
        for (item, command) in commands.enumerated() {
            var new: NewNotification?
            var correction: NotificationCorrection?
            var skippedBody: String?
            var op: Op
            var id: NotificationID?
            var type: String?
            var event: String?
            var customer: String?
            var flags: (read: Bool?, seen: Bool?, archived: Bool?)
            var scope: [String]?
            switch command.action {
            case .create(let notification):
                op = notification.isGuess ? .createUnlessKnown : .create
                new = notification
                id = notification.id
                type = notification.type
                customer = notification.customer
            case .setFlags(let notification, let read, let seen, let archived, let allowed):
                op = .setFlags
                id = notification
                flags = (read, seen, archived)
                scope = allowed
            case .delete(let notification, let allowed):
                op = .delete
                id = notification
                scope = allowed
            case .readAll(let filter, let kind, let upTo, let allowed):
                op = .readAll
                id = upTo
                customer = filter
                type = kind
                scope = allowed
            case .seenAll(let filter):
                op = .seenAll
                customer = filter
            case .comeDue(let notification):
                op = .comeDue
                id = notification
            case .expire(let notification):
                op = .expire
                id = notification
            case .retire(let notification):
                op = .retire
                id = notification
            case .correct(let notification, let changed):
                op = .correct
                id = notification
                correction = changed
            case .skip(let skipped):
                op = .skip
                id = skipped.id
                type = skipped.type
                event = skipped.event
                customer = skipped.customer
                skippedBody = skipped.body
                deliveries.append(skipped.deliveries, item: item, &bodies)
            case .erase:
                op = .erase
            }
            if let new {
                event = new.event
                deliveries.append(new.deliveries, item: item, &bodies)
            }
            users.append(command.user.value)
            ops.append(op.rawValue)
            ids.append(id.map { UUIDBytes(high: $0.high, low: $0.low) })
            types.append(type)
            events.append(event)
            levels.append((new?.level ?? correction?.level)?.rawValue)
            priorities.append((new?.priority ?? correction?.priority)?.rawValue)
            customers.append(customer)
            recTypes.append(new?.recType)
            recIDs.append(new?.recID)
            collapse.append(new?.collapseKey)
            let body = new?.body ?? correction?.members ?? skippedBody
            bodyOf.append(body.map { Int32(Self.place(of: $0, in: &bodies) + 1) })
            created.append(new?.createdAt.microseconds)
            deliver.append(new?.deliverAt?.microseconds)
            expires.append((new?.expiresAt ?? correction?.expiresAt ?? nil)?.microseconds)
            inApp.append(new?.inApp ?? correction.map { $0.expiresAt != nil })
            read.append(flags.read)
            seen.append(flags.seen)
            archived.append(flags.archived)
            scopes.append(scope.map { String(decoding: JSONValue.array($0.map { .string($0) }).encoded, as: UTF8.self) })
        }
        return [
            .uuid(UUIDBytes(high: batch.high, low: batch.low)), .bool(again), .textArray(users), .int2Array(ops), .uuidArray(ids), .textArray(types),
            .textArray(events), .int2Array(levels), .int2Array(priorities), .textArray(customers), .textArray(recTypes), .textArray(recIDs),
            .textArray(collapse), .textArray(bodies), .int4Array(bodyOf), .timestamptzArray(created), .timestamptzArray(deliver), .timestamptzArray(expires),
            .boolArray(inApp), .boolArray(read), .boolArray(seen), .boolArray(archived), .jsonbArray(scopes),
            .int4Array(claimed), .uuidArray(claims.map { UUIDBytes(high: $0.owner.high, low: $0.owner.low) }), .textArray(claims.map(\.route)),
            .textArray(claims.map(\.key)), .byteaArray(claims.map(\.digest)), .textArray(claims.map(\.answer)),
        ] + deliveries.values + [.int4Array(calls), .textArray(traces)]
    }

    /// Those of one request follow one another, in a few languages. Others begin alike, and differ somewhere in the middle: so the whole is compared as memory is.
    fileprivate static func place(of body: String, in bodies: inout [String?]) -> Int {
        if let place = bodies.suffix(8).lastIndex(where: { $0?.hasBytes(of: body) ?? false }) { return place }
        bodies.append(body)
        return bodies.count - 1
    }

    /// Empty for most batches.
    private struct DeliveryColumns {
        private var items: [Int32?] = []
        private var channels: [String?] = []
        private var endpoints: [String?] = []
        private var states: [String?] = []
        private var reasons: [String?] = []
        private var notBefore: [Int64?] = []
        private var queues: [String?] = []
        private var tasks: [UUIDBytes?] = []
        private var payloads: [Int32?] = []

        mutating func append(_ deliveries: [NewDelivery], item: Int, _ bodies: inout [String?]) {
            for delivery in deliveries {
                self.items.append(Int32(item + 1))
                self.channels.append(delivery.channel.rawValue)
                self.endpoints.append(delivery.endpoint)
                self.states.append(delivery.state.rawValue)
                self.reasons.append(delivery.reason?.rawValue)
                self.notBefore.append(delivery.notBefore?.microseconds)
                self.queues.append(delivery.queue.rawValue)
                self.tasks.append(delivery.state == .queued ? NotificationID.make().bytes : nil)
                self.payloads.append(delivery.payload.map { Int32(ApplyChanges.place(of: $0, in: &bodies) + 1) })
            }
        }

        var values: [PostgresValue] {
            [
                .int4Array(self.items), .textArray(self.channels), .textArray(self.endpoints), .textArray(self.states), .textArray(self.reasons),
                .timestamptzArray(self.notBefore), .textArray(self.queues), .uuidArray(self.tasks), .int4Array(self.payloads),
            ]
        }
    }

    struct Result {
        /// One for each command, in their order.
        var outcomes: [InboxOutcome]
        /// Users whose inbox changed.
        var committed: [CommittedChanges]
    }

    static func decode(_ rows: PostgresRows, _ commands: [InboxCommand], place: LogPosition?) throws(PostgresError) -> Result {
        let none = InboxHead(position: StreamPosition(epoch: 0, seq: 0), unread: 0, unseen: 0, counts: "{}")
        var outcomes = [InboxOutcome](
            repeating: InboxOutcome(status: .unchanged, changes: [], updated: 0, more: false, head: none), count: commands.count)
        var committed: [CommittedChanges] = []
        var changes: [InboxChange] = []
        var items: [Int] = []
        for row in rows {
            let status = try row.int2(1)
            if status == 4 {
                let head = InboxHead(
                    position: StreamPosition(epoch: try row.int8(3), seq: try row.int8(4)), unread: try row.int4(9), unseen: try row.int4(10),
                    counts: try row.text(19))
                for item in items { outcomes[item].head = head }
                if !changes.isEmpty, let item = items.first {
                    committed.append(
                        CommittedChanges(
                            user: commands[item].user, changes: changes, head: head, at: Timestamp(microseconds: try row.timestamptz(17)),
                            place: place))
                }
                changes = []
                items = []
                continue
            }
            let item = Int(try row.int4(0)) - 1
            guard outcomes.indices.contains(item) else { continue }
            if items.last != item { items.append(item) }
            outcomes[item].updated = Int(try row.optionalInt4(20) ?? 0)
            outcomes[item].more = try row.optionalBool(21) ?? false
            switch status {
            case 0:
                let change = try Self.change(row, commands[item])
                outcomes[item].status = .changed
                outcomes[item].changes.append(change)
                changes.append(change)
            case 2: outcomes[item].status = .notFound
            case 7:
                // The user's only item: what a head says comes with it.
                let change = try Self.change(row, commands[item])
                let head = InboxHead(
                    position: StreamPosition(epoch: try row.int8(3), seq: change.seq), unread: change.unread, unseen: change.unseen, counts: try row.text(19))
                outcomes[item].status = .changed
                outcomes[item].changes = [change]
                outcomes[item].head = head
                committed.append(
                    CommittedChanges(
                        user: commands[item].user, changes: [change], head: head, at: Timestamp(microseconds: try row.timestamptz(17)), place: place))
                items = []
            case 3: outcomes[item].status = .stored
            case 5: outcomes[item].status = .claimed
            case 6: outcomes[item].status = .known
            default:
                outcomes[item].status = .unchanged
                // The state as it is, for the answer.
                if try row.optionalText(18) != nil { outcomes[item].changes.append(try Self.change(row, commands[item])) }
            }
        }
        return Result(outcomes: outcomes, committed: committed)
    }

    private static func change(_ row: PostgresRow, _ command: InboxCommand) throws(PostgresError) -> InboxChange {
        let kind = InboxChange.Kind(rawValue: try row.optionalInt2(5) ?? InboxChange.Kind.updated.rawValue) ?? .updated
        var body = try row.optionalText(18).map { Array($0.utf8) }
        if kind == .created, case .create(let new) = command.action { body = Array(new.body.utf8) }
        return InboxChange(
            seq: try row.optionalInt8(4) ?? 0, kind: kind,
            notification: try row.optionalUUID(6).map { NotificationID(high: $0.high, low: $0.low) },
            state: InboxChange.State(rawValue: try row.optionalInt2(7) ?? 0),
            readAt: try row.optionalTimestamptz(8).map { Timestamp(microseconds: $0) }, unread: try row.optionalInt4(9) ?? 0,
            unseen: try row.optionalInt4(10) ?? 0, customer: try row.optionalText(11), customerUnread: try row.optionalInt4(12) ?? 0,
            customerUnseen: try row.optionalInt4(13) ?? 0, customerCounts: try row.optionalText(14), type: try row.optionalText(15),
            upToSeq: try row.optionalInt8(16), body: body)
    }
}
