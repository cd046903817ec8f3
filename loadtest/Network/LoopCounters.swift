/// What one event loop counted. Loops share nothing; these are added up.
struct LoopCounters: Codable, Sendable, Equatable {
    var live = 0
    var everReady = 0
    var lastReadyAt: UInt64 = 0
    /// Notifications that were due, sent in a request, and acknowledged.
    var due: UInt64 = 0
    var sent: UInt64 = 0
    var acknowledged: UInt64 = 0
    var skipped: UInt64 = 0
    var operationsSent: UInt64 = 0
    var operationsDone: UInt64 = 0
    /// Operations that were due while no user of this loop had a notification to operate on.
    var operationsIdle: UInt64 = 0
    var received: UInt64 = 0
    var receivedBytes: UInt64 = 0
    var disconnected: UInt64 = 0
    var resumed: UInt64 = 0
    var overruns: UInt64 = 0
    var outstanding = 0
    /// Failed requests by status, or by what happened instead of one.
    var requestErrors: [String: UInt64] = [:]
    /// Refused streams by status, or by what happened instead of one.
    var refused: [String: UInt64] = [:]
    /// `close` events by reason.
    var closed: [String: UInt64] = [:]

    /// Requests that failed or overran, and streams refused.
    var failures: UInt64 { requestErrors.values.reduce(0, +) + overruns + refused.values.reduce(0, +) }

    mutating func add(_ other: LoopCounters) {
        live += other.live
        everReady += other.everReady
        lastReadyAt = max(lastReadyAt, other.lastReadyAt)
        due += other.due
        sent += other.sent
        acknowledged += other.acknowledged
        skipped += other.skipped
        operationsSent += other.operationsSent
        operationsDone += other.operationsDone
        operationsIdle += other.operationsIdle
        received += other.received
        receivedBytes += other.receivedBytes
        disconnected += other.disconnected
        resumed += other.resumed
        overruns += other.overruns
        outstanding += other.outstanding
        requestErrors.merge(other.requestErrors, uniquingKeysWith: +)
        refused.merge(other.refused, uniquingKeysWith: +)
        closed.merge(other.closed, uniquingKeysWith: +)
    }
}

/// What was wrong with the streams.
struct Correctness: Codable, Sendable, Equatable {
    var lost: UInt64 = 0
    var duplicated: UInt64 = 0
    var reordered: UInt64 = 0
    var unreadWrong: UInt64 = 0
    var resynced: UInt64 = 0
    var wrongEpoch: UInt64 = 0
    /// Events before any `ready`, and bytes that are no event.
    var malformed: UInt64 = 0
    /// Events whose count could not be checked, because something before them was missing. No error by itself.
    var unreadUnchecked: UInt64 = 0
    /// Users whose count and position were compared with the API's.
    var usersCompared: UInt64 = 0
    /// Notifications that the API's list has in another way than the stream showed them: missing on either side, under another number, or read
    /// and unread.
    var inboxWrong: UInt64 = 0
    /// Users whose list was compared. Those of whom a stream missed something are not.
    var inboxesCompared: UInt64 = 0

    mutating func add(_ other: Correctness) {
        lost += other.lost
        duplicated += other.duplicated
        reordered += other.reordered
        unreadWrong += other.unreadWrong
        resynced += other.resynced
        wrongEpoch += other.wrongEpoch
        malformed += other.malformed
        unreadUnchecked += other.unreadUnchecked
        usersCompared += other.usersCompared
        inboxWrong += other.inboxWrong
        inboxesCompared += other.inboxesCompared
    }

    var isClean: Bool { lost + duplicated + reordered + unreadWrong + resynced + wrongEpoch + malformed + inboxWrong == 0 }
}

/// All that one event loop has to say at the end.
struct LoopResult: Codable, Sendable {
    var counters: LoopCounters
    var correctness: Correctness
    /// From due to the bytes on a stream.
    var receipt: LatencyRecorder
    /// The same on streams that read slowly.
    var slowReceipt: LatencyRecorder
    /// From due to the answer to `notify`.
    var request: LatencyRecorder
    /// From due to the answer to a read, delete or read-all.
    var operation: LatencyRecorder
    /// From due to the moment the tool noticed: how late the tool itself was.
    var tool: LatencyRecorder
    /// From connecting to `ready`.
    var connect: LatencyRecorder

    /// Of a later part of the same run.
    mutating func merge(latenciesOf other: LoopResult) {
        receipt.append(other.receipt)
        slowReceipt.append(other.slowReceipt)
        request.append(other.request)
        operation.append(other.operation)
        tool.append(other.tool)
    }

    mutating func takeLatencies(of other: LoopResult) {
        (receipt, slowReceipt, request, operation, tool) = (other.receipt, other.slowReceipt, other.request, other.operation, other.tool)
    }

    /// Takes it from another machine's clock, which is that much ahead, to this one's.
    mutating func shift(by offset: Int64) {
        guard offset != 0 else { return }
        counters.lastReadyAt = counters.lastReadyAt == 0 ? 0 : counters.lastReadyAt &- UInt64(bitPattern: offset)
        receipt.shift(by: offset)
        slowReceipt.shift(by: offset)
        request.shift(by: offset)
        operation.shift(by: offset)
        tool.shift(by: offset)
    }

    mutating func merge(_ other: LoopResult) {
        counters.add(other.counters)
        correctness.add(other.correctness)
        receipt.merge(other.receipt)
        slowReceipt.merge(other.slowReceipt)
        request.merge(other.request)
        operation.merge(other.operation)
        tool.merge(other.tool)
        connect.merge(other.connect)
    }
}
