public import NotificationCore
public import PostgresClient
import Synchronization

/// What an edge asks of one user's log.
public struct FeedRequest: Sendable {
    public var user: UserID
    public var after: StreamPosition?
    /// Whether all of the replay is needed at once, not only its first portion.
    public var whole: Bool
    public var completion: @Sendable (Result<FeedAnswer, StoreError>) -> Void

    public init(user: UserID, after: StreamPosition?, whole: Bool = true, completion: @escaping @Sendable (Result<FeedAnswer, StoreError>) -> Void) {
        self.user = user
        self.after = after
        self.whole = whole
        self.completion = completion
    }
}

public struct FeedAnswer: Sendable {
    public var head: StreamPosition
    public var unread: Int32
    public var unseen: Int32
    /// JSON: customer to [unread, unseen].
    public var customers: String
    /// Preferences or a contact of the user are kept, or were.
    public var isKnown: Bool
    /// Counts right after the change that was asked from, where the log still has it.
    public var countsAtStart: (unread: Int32, unseen: Int32)?
    /// All changes after the point asked for, or the first portion of them; nil when there is no complete replay from it.
    public var changes: [InboxChange]?
}

/// Reads logs for an edge, many users in one statement: while reads are under way, what comes waits and goes together. When many come at once, as after the
/// restart of an edge, those that follow are gathered for a moment.
public final class FeedReader: Sendable {
    /// The most changes that are replayed; past it `resync`.
    public static let replayBound = 1000
    /// The most changes of one user in one answer: about what a stream takes at once, so that many that catch up cost little memory.
    public static let portion = 128
    /// Users a statement, statements under way.
    private static let batch = 300
    private static let concurrency = 2
    /// So many users in one statement are many at once.
    private static let many = 32
    /// How long those that follow are gathered: nothing beside the time that so many streams take to open.
    private static let gathering: Duration = .milliseconds(100)

    private struct State {
        var waiting: [FeedRequest] = []
        var running = 0
        var statements = 0
        /// Less than a batch waits until this is over.
        var isGathering = false
        var isClosed = false
    }

    private let pool: PostgresPool
    private let state = Mutex(State())

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    /// Statements sent so far.
    public var statements: Int { self.state.withLock { $0.statements } }

    // Index: heads_pkey, changes_pkey of each partition, notifications_pkey.
    private static let statement = PostgresStatement(
        """
        SELECT request, epoch, head_seq, head_unread, head_unseen, head_customers, seq, kind, notification_id, state, read_at, unread, unseen,
               customer_id, customer_unread, customer_unseen, customer_counts, type, up_to_seq, body, customer_counts_before, is_known
        FROM read_feed($1, $2, $3, $4, $5)
        """)

    public func read(_ request: FeedRequest) { self.read([request]) }

    public func read(_ requests: [FeedRequest]) {
        let batches: [[FeedRequest]]? = self.state.withLock { state in
            if state.isClosed { return nil }
            state.waiting.append(contentsOf: requests)
            return Self.take(&state)
        }
        guard let batches else { return Self.refuse(requests) }
        for batch in batches { self.send(batch) }
    }

    /// What waits fails, and what comes later does.
    public func close() {
        let waiting = self.state.withLock { state in
            defer { state.waiting = [] }
            state.isClosed = true
            return state.waiting
        }
        Self.refuse(waiting)
    }

    private static func refuse(_ requests: [FeedRequest]) {
        for request in requests { request.completion(.failure(StoreError(code: .unavailable, message: "this node is closing"))) }
    }

    private static func take(_ state: inout State) -> [[FeedRequest]] {
        var batches: [[FeedRequest]] = []
        while state.running < Self.concurrency, state.waiting.count >= (state.isGathering ? Self.batch : 1) {
            batches.append(Array(state.waiting.prefix(Self.batch)))
            state.waiting.removeFirst(min(Self.batch, state.waiting.count))
            state.running += 1
            state.statements += 1
        }
        return batches
    }

    private func send(_ batch: [FeedRequest]) {
        let values: [PostgresValue] = [
            .textArray(batch.map { $0.user.value }), .int8Array(batch.map { $0.after?.epoch }), .int8Array(batch.map { request in request.after.map { min($0.seq, Int64.max - Int64(Self.replayBound)) } }),
            .int4Array(batch.map { Int32($0.whole ? Self.replayBound : Self.portion) }), .int4(Int32(Self.replayBound)),
        ]
        self.pool.execute(Self.statement, values) { result in
            var answers: [Result<FeedAnswer, StoreError>]
            do throws(PostgresError) {
                answers = try Self.decode(result.get(), batch).map { .success($0) }
            } catch {
                answers = batch.map { _ in .failure(InboxReader.translate(error)) }
            }
            for (request, answer) in zip(batch, answers) { request.completion(answer) }
            let (next, gathers) = self.state.withLock { state in
                state.running -= 1
                let gathers = batch.count >= Self.many && !state.isGathering
                if gathers { state.isGathering = true }
                return (Self.take(&state), gathers)
            }
            if gathers { self.gather() }
            for batch in next { self.send(batch) }
        }
    }

    private func gather() {
        Task {
            // Nobody cancels it.
            try? await Task.sleep(for: Self.gathering)
            let batches = self.state.withLock { state in
                state.isGathering = false
                return Self.take(&state)
            }
            for batch in batches { self.send(batch) }
        }
    }

    private static func decode(_ rows: PostgresRows, _ batch: [FeedRequest]) throws(PostgresError) -> [FeedAnswer] {
        var answers: [FeedAnswer] = []
        answers.reserveCapacity(batch.count)
        for row in rows {
            let index = Int(try row.int4(0)) - 1
            if index == answers.count {
                let customers = try row.text(5)
                answers.append(
                    FeedAnswer(
                        head: StreamPosition(epoch: try row.int8(1), seq: try row.int8(2)), unread: try row.int4(3), unseen: try row.int4(4),
                        customers: customers, isKnown: try row.bool(21), countsAtStart: nil, changes: []))
            }
            guard let seq = try row.optionalInt8(6) else { continue }
            if seq == batch[index].after?.seq {
                answers[index].countsAtStart = (try row.int4(11), try row.int4(12))
                continue
            }
            guard let kind = InboxChange.Kind(rawValue: try row.int2(7)) else {
                throw PostgresError(code: .decoding, message: "a change of an unknown kind")
            }
            answers[index].changes!.append(
                InboxChange(
                    seq: seq, kind: kind, notification: try row.optionalUUID(8).map { NotificationID(high: $0.high, low: $0.low) },
                    state: InboxChange.State(rawValue: try row.int2(9)),
                    readAt: try row.optionalTimestamptz(10).map { Timestamp(microseconds: $0) }, unread: try row.int4(11),
                    unseen: try row.int4(12), customer: try row.optionalText(13), customerUnread: try row.int4(14),
                    customerUnseen: try row.int4(15), customerCounts: try row.optionalText(16), type: try row.optionalText(17),
                    upToSeq: try row.optionalInt8(18), customerCountsBefore: try row.optionalText(20),
                    body: try row.optionalText(19).map { Array($0.utf8) }))
        }
        guard answers.count == batch.count else { throw PostgresError(code: .decoding, message: "an answer is missing") }
        for (index, request) in batch.enumerated() {
            guard let after = request.after else { continue }
            // Contiguity is the proof of a complete replay.
            let complete =
                after.epoch == answers[index].head.epoch && after.seq <= answers[index].head.seq
                && Int64(answers[index].changes!.count)
                    == min(answers[index].head.seq - after.seq, Int64(request.whole ? Self.replayBound : Self.portion))
            if !complete { answers[index].changes = nil }
            if after.seq == 0 { answers[index].countsAtStart = (0, 0) }
            if complete, after.seq == answers[index].head.seq { answers[index].countsAtStart = (answers[index].unread, answers[index].unseen) }
        }
        return answers
    }
}
