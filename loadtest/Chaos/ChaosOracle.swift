/// Something that must not be.
struct WrongEvent: Codable, Sendable, Equatable {
    enum Kind: String, Codable, Sendable, CaseIterable {
        /// A number of the log that a stream never showed.
        case lost
        case duplicated
        case reordered
        /// Another kind or another notification than the log has under that number.
        case content
        /// A count that differs from the log, or a log that differs from its own changes, or from the head, or from the API.
        case unread
        /// A `resync` although the stream was not far behind and the epoch is the same.
        case resync
        /// An event or a head of another epoch.
        case epoch
        /// A `ready` on a resume that is not the resume point.
        case resume
        /// Bytes that are no event, or an event without a number.
        case malformed
        /// Answered 2xx, and not in the log.
        case missing
        /// In the log, and never asked for.
        case unasked
        /// In the log more often than asked for.
        case twice
        /// Numbers of the log that have a hole.
        case hole
        /// A stream that was not live, or a count that was not answered, when everything was up again.
        case unavailable
        /// An answer that no fault explains: to a stream anything but 200, to a request a 4xx other than 429.
        case refused
    }

    var kind: Kind
    var user: String
    /// Which of the user's streams, if it concerns one.
    var stream: Int?
    var seq: UInt64?
    var expected: String
    var seen: String
    /// CLOCK_MONOTONIC in nanoseconds, if it is known when it happened.
    var at: UInt64?
}

/// A change that was acknowledged, and when a stream showed it.
struct Receipt: Sendable, Equatable {
    var acknowledged: UInt64
    var received: UInt64
}

/// Compares what was asked and what was shown with the database's change log, a user at a time. No I/O.
struct ChaosOracle: Sendable {
    /// Wrong events kept in full; all of them are counted.
    static let kept = 200
    /// Changes behind which a resume may be answered with `resync`.
    static let replayLimit: UInt64 = 1_000

    private(set) var counts: [WrongEvent.Kind: UInt64] = [:]
    private(set) var wrong: [WrongEvent] = []
    /// Acknowledged changes with their receipt, for the silences.
    private(set) var receipts: [Receipt] = []
    private(set) var rows: UInt64 = 0
    private(set) var events: UInt64 = 0
    private(set) var streams: UInt64 = 0
    private(set) var users: UInt64 = 0
    /// `resync` events with a cause.
    private(set) var resyncsWithCause: UInt64 = 0
    /// Creations of the log that were in doubt.
    private(set) var doubtfulDone: UInt64 = 0
    /// Seconds since 1970 when CLOCK_MONOTONIC was 0, so that the log's times can be compared with the tool's.
    let monotonicOrigin: Double
    /// The epoch before the run.
    let epoch: UInt64

    init(epoch: UInt64, monotonicOrigin: Double = 0) {
        self.epoch = epoch
        self.monotonicOrigin = monotonicOrigin
    }

    var isClean: Bool { counts.isEmpty }

    mutating func add(_ event: WrongEvent) {
        counts[event.kind, default: 0] += 1
        if wrong.count < Self.kept { wrong.append(event) }
    }

    mutating func check(user: String, _ evidence: UserEvidence, head: LogHead, log: [LogRow]) {
        users += 1
        rows += UInt64(log.count)
        checkLog(user, head, log)
        checkWrites(user, evidence, log)
        checkCount(user, evidence, head)
        for (index, records) in evidence.streams.enumerated() { checkStream(user, index, records, evidence, head, log) }
    }

    // MARK: The log by itself

    private mutating func checkLog(_ user: String, _ head: LogHead, _ log: [LogRow]) {
        var model = InboxModel()
        var last: UInt64 = 0
        for row in log {
            if row.seq != last + 1 { report(.hole, user, seq: row.seq, "number \(last + 1)", "number \(row.seq)", row) }
            last = row.seq
            model.apply(row)
            if (model.unread, model.unseen) != (row.unread, row.unseen) {
                report(
                    .unread, user, seq: row.seq, "unread \(model.unread), unseen \(model.unseen) by the changes before",
                    "unread \(row.unread), unseen \(row.unseen) in the log", row
                )
                model.adopt(row)
            }
        }
        let final = log.last.map { ($0.seq, $0.unread, $0.unseen) } ?? (0, 0, 0)
        if final != (head.seq, head.unread, head.unseen) {
            report(
                .unread, user, seq: head.seq, "the head at \(final.0) with unread \(final.1), unseen \(final.2)",
                "the head at \(head.seq) with unread \(head.unread), unseen \(head.unseen)", log.last
            )
        }
        if head.epoch != epoch, head.seq > 0 { report(.epoch, user, seq: head.seq, "epoch \(epoch)", "epoch \(head.epoch) in the head", log.last) }
    }

    // MARK: What was asked

    private mutating func checkWrites(_ user: String, _ evidence: UserEvidence, _ log: [LogRow]) {
        let bySeq = Dictionary(log.map { ($0.seq, $0) }) { first, _ in first }
        // Which call a notification came from, by whoever knows: the database, the answer, a stream.
        var calls: [NotificationID: CallNumber] = [:]
        for records in evidence.streams {
            for record in records where record.kind == .created || record.kind == .updated {
                if let id = record.id, let call = record.call { calls[id] = call }
            }
        }
        for acknowledgement in evidence.acknowledgements { calls[acknowledgement.id] = acknowledgement.call }

        let asked = Dictionary(evidence.creations.map { ($0.call, $0.outcome) }) { first, _ in first }
        var done: [CallNumber: UInt64] = [:]
        var updates: [NotificationID: Int] = [:]
        var deletions: [NotificationID: Int] = [:]
        var allReads = 0
        var lastAllRead: UInt64 = 0
        for row in log {
            switch row.kind {
            case .created:
                guard let call = row.call ?? row.id.flatMap({ calls[$0] }) else {
                    report(.unasked, user, seq: row.seq, "no such creation", "\(describe(row)), whose request is not known", row)
                    continue
                }
                switch asked[call] {
                case .accepted: break
                case .doubtful: doubtfulDone += 1
                case .unsent, .refused, nil:
                    report(.unasked, user, seq: row.seq, "no creation by call \(call)", describe(row), row)
                }
                if let first = done.updateValue(row.seq, forKey: call) {
                    report(.twice, user, seq: row.seq, "call \(call) once, under \(first)", describe(row), row)
                }
            case .updated: if let id = row.id { updates[id, default: 0] += 1 }
            case .deleted: if let id = row.id { deletions[id, default: 0] += 1 }
            case .allRead:
                allReads += 1
                lastAllRead = row.seq
            case .allSeen, .expired, .replaced:
                report(.unasked, user, seq: row.seq, "no such change", describe(row), row)
            }
        }
        for acknowledgement in evidence.acknowledgements {
            let row = bySeq[acknowledgement.seq]
            guard row?.kind != .created || row?.id != acknowledgement.id else { continue }
            add(
                WrongEvent(
                    kind: .missing, user: user, seq: acknowledgement.seq, expected: "created \(acknowledgement.id), answered 201 (call \(acknowledgement.call))",
                    seen: row.map(describe) ?? "no such number in the log", at: acknowledgement.at
                )
            )
        }
        let acknowledged = Set(evidence.acknowledgements.map(\.call))
        for creation in evidence.creations where creation.outcome == .accepted && !acknowledged.contains(creation.call) {
            add(WrongEvent(kind: .missing, user: user, expected: "the id and seq of call \(creation.call), answered 201", seen: "an answer without the user"))
        }

        let mayRead = operations(evidence, .read)
        let mayDelete = operations(evidence, .delete)
        for row in log {
            guard let id = row.id, row.kind == .updated || row.kind == .deleted else { continue }
            let may = row.kind == .updated ? mayRead[id] : mayDelete[id]
            if may == nil || may == .unsent || may == .refused { report(.unasked, user, seq: row.seq, "no such change asked for", describe(row), row) }
        }
        for (id, times) in updates.merging(deletions, uniquingKeysWith: max) where times > 1 {
            add(WrongEvent(kind: .twice, user: user, expected: "one change of that kind of \(id)", seen: "\(times)"))
        }
        for operation in evidence.operations where operation.outcome == .accepted {
            switch operation.kind {
            case .read:
                // A read of what a read-all has read changes nothing and takes no number.
                guard let id = operation.id, updates[id] == nil, lastAllRead == 0 else { continue }
                add(WrongEvent(kind: .missing, user: user, expected: "read \(id), answered 200", seen: "no such change in the log", at: operation.at))
            case .delete:
                guard let id = operation.id, deletions[id] == nil else { continue }
                add(WrongEvent(kind: .missing, user: user, expected: "deleted \(id), answered 204", seen: "no such change in the log", at: operation.at))
            case .readAll: break
            }
        }
        let asks = evidence.operations.filter { $0.kind == .readAll && ($0.outcome == .accepted || $0.outcome == .doubtful) }
        let changed = asks.filter { $0.outcome == .accepted && $0.updated }.count
        if allReads > asks.count {
            add(WrongEvent(kind: .twice, user: user, expected: "at most \(asks.count) read-alls", seen: "\(allReads)"))
        } else if allReads < changed {
            add(WrongEvent(kind: .missing, user: user, expected: "\(changed) read-alls that changed something, answered 200", seen: "\(allReads) in the log"))
        }
        for operation in evidence.operations where operation.outcome == .refused {
            add(WrongEvent(kind: .refused, user: user, expected: "2xx, 429, 5xx or no answer", seen: "4xx to \(operation.kind)", at: operation.at))
        }
        for creation in evidence.creations where creation.outcome == .refused {
            add(WrongEvent(kind: .refused, user: user, expected: "2xx, 429, 5xx or no answer", seen: "4xx to call \(creation.call)"))
        }
    }

    private func operations(_ evidence: UserEvidence, _ kind: UserEvidence.Operation.Kind) -> [NotificationID: Outcome] {
        evidence.operations.reduce(into: [:]) { all, operation in
            if operation.kind == kind, let id = operation.id { all[id] = operation.outcome }
        }
    }

    private mutating func checkCount(_ user: String, _ evidence: UserEvidence, _ head: LogHead) {
        guard let count = evidence.count else {
            add(WrongEvent(kind: .unavailable, user: user, expected: "an answer to GET /v1/notifications/count at the end", seen: "none"))
            return
        }
        let right = UserEvidence.Count(
            unread: head.unread, unseen: head.unseen, position: StreamPosition(epoch: max(head.epoch, epoch), seq: head.seq)
        )
        if count != right {
            add(
                WrongEvent(
                    kind: .unread, user: user, seq: head.seq, expected: "unread \(right.unread), unseen \(right.unseen) at \(right.position) (head)",
                    seen: "unread \(count.unread), unseen \(count.unseen) at \(count.position) (count)"
                )
            )
        }
    }

    // MARK: What was shown

    private mutating func checkStream(
        _ user: String, _ index: Int, _ records: [StreamRecord], _ evidence: UserEvidence, _ head: LogHead, _ log: [LogRow]
    ) {
        streams += 1
        let bySeq = Dictionary(log.map { ($0.seq, $0) }) { first, _ in first }
        // A notification that was deleted later may be shown as deleted under every earlier number.
        let deletedAt = Dictionary(log.filter { $0.kind == .deleted }.compactMap { row in row.id.map { ($0, row.seq) } }) { first, _ in first }
        var acknowledged = answers(evidence, log)
        for acknowledgement in evidence.acknowledgements { acknowledged[acknowledgement.seq] = acknowledgement.at }
        var position: StreamPosition?
        var missing: Set<UInt64> = []

        func wrong(_ kind: WrongEvent.Kind, _ seq: UInt64?, _ expected: String, _ seen: String, _ at: UInt64?) -> WrongEvent {
            WrongEvent(kind: kind, user: user, stream: index, seq: seq, expected: expected, seen: seen, at: at)
        }

        for record in records {
            let seq = record.position.seq
            switch record.kind {
            case .malformed:
                add(wrong(.malformed, nil, "an event with a number", "none", record.at))
                continue
            case .ready:
                guard let before = position else {
                    position = record.position
                    let row = bySeq[seq]
                    if seq > 0, row == nil { add(wrong(.content, seq, "a join at or below the head", "ready at \(record.position)", record.at)) }
                    if let unread = record.unread, unread != row?.unread ?? 0 {
                        add(wrong(.unread, seq, "unread \(row?.unread ?? 0)", "ready with unread \(unread)", record.at))
                    }
                    continue
                }
                if before != record.position { add(wrong(.resume, seq, "ready at \(before)", "ready at \(record.position)", record.at)) }
                continue
            case .resync:
                let before = position ?? record.position
                // A join at the head may be told by a resync where the position that was asked for does not exist.
                if record.position.epoch != before.epoch || seq > before.seq + Self.replayLimit {
                    resyncsWithCause += 1
                } else {
                    add(wrong(.resync, seq, "the changes after \(before)", "resync at \(record.position)", record.at))
                }
                position = record.position
                missing.removeAll()
                continue
            case .created, .updated, .deleted, .allRead, .allSeen, .position:
                break
            }
            events += 1
            guard let before = position else {
                add(wrong(.malformed, seq, "ready first", describe(record), record.at))
                position = record.position
                continue
            }
            guard record.position.epoch == before.epoch else {
                add(wrong(.epoch, seq, "epoch \(before.epoch)", describe(record), record.at))
                position = record.position
                continue
            }
            if seq > before.seq {
                position = record.position
                // A number past the head is wrong by itself, and none between is missing for it.
                let end = min(seq, head.seq + 1)
                if end > before.seq + 1 { missing.formUnion((before.seq + 1)..<end) }
            } else if missing.remove(seq) != nil {
                add(wrong(.reordered, seq, "\(seq) before \(before.seq)", describe(record), record.at))
            } else {
                add(wrong(.duplicated, seq, "\(seq) once", describe(record), record.at))
                continue
            }
            guard let row = bySeq[seq] else {
                add(wrong(.content, seq, "nothing: the log ends at \(head.seq)", describe(record), record.at))
                continue
            }
            if !shows(record, row, deletedAt) { add(wrong(.content, seq, describe(row), describe(record), record.at)) }
            if record.unread != row.unread || (record.unseen.map { $0 != row.unseen } ?? false) {
                add(wrong(.unread, seq, "unread \(row.unread), unseen \(row.unseen)", describe(record), record.at))
            }
            if let at = acknowledged[seq] { receipts.append(Receipt(acknowledged: at, received: record.at)) }
        }

        guard let position else {
            add(wrong(.unavailable, nil, "ready", "a stream that never joined", nil))
            return
        }
        let behind = head.seq > position.seq ? (position.seq + 1)...head.seq : nil
        for seq in missing.sorted() + (behind.map(Array.init) ?? []) {
            report(.lost, user, stream: index, seq: seq, bySeq[seq].map(describe) ?? "number \(seq)", "nothing", bySeq[seq])
        }
    }

    /// When reads and deletes were answered, by their numbers.
    private func answers(_ evidence: UserEvidence, _ log: [LogRow]) -> [UInt64: UInt64] {
        var read: [NotificationID: UInt64] = [:]
        var deleted: [NotificationID: UInt64] = [:]
        for operation in evidence.operations where operation.outcome == .accepted {
            guard let id = operation.id else { continue }
            if operation.kind == .read { read[id] = operation.at } else { deleted[id] = operation.at }
        }
        return log.reduce(into: [:]) { all, row in
            guard let id = row.id else { return }
            if row.kind == .updated { all[row.seq] = read[id] } else if row.kind == .deleted { all[row.seq] = deleted[id] }
        }
    }

    private func shows(_ record: StreamRecord, _ row: LogRow, _ deletedAt: [NotificationID: UInt64]) -> Bool {
        let gone = row.id.flatMap { deletedAt[$0] }.map { $0 > row.seq } ?? false
        switch row.kind {
        case .created: return record.id == row.id && (record.kind == .created || (record.kind == .deleted && gone))
        case .updated: return record.id == row.id && (record.kind == .updated || (record.kind == .deleted && gone))
        case .deleted, .expired, .replaced: return record.id == row.id && record.kind == .deleted
        case .allRead: return record.kind == .allRead
        case .allSeen: return record.kind == .allSeen
        }
    }

    private mutating func report(
        _ kind: WrongEvent.Kind, _ user: String, stream: Int? = nil, seq: UInt64, _ expected: String, _ seen: String, _ row: LogRow?
    ) {
        let at = row.flatMap { $0.at > monotonicOrigin ? UInt64(($0.at - monotonicOrigin) * 1e9) : nil }
        add(WrongEvent(kind: kind, user: user, stream: stream, seq: seq, expected: expected, seen: seen, at: at))
    }

    private func describe(_ row: LogRow) -> String {
        "\(row.kind)\(row.id.map { " \($0)" } ?? "") as \(row.seq), unread \(row.unread)"
    }

    private func describe(_ record: StreamRecord) -> String {
        "\(record.kind)\(record.id.map { " \($0)" } ?? "") as \(record.position), unread \(record.unread.map(String.init) ?? "absent")"
    }
}
