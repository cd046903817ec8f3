import DequeModule
import Dispatch
public import Logging
public import NotificationCore
public import PostgresClient
import Synchronization

/// Writes inboxes, from all requests of this node, in batches.
///
/// A lane is one connection on which one batch is under way; what comes meanwhile waits for the next one, so that a busy node writes
/// larger batches, not more of them: a batch costs the database far more than what is in it. So the first lane takes
/// everything that there is to batch, until it is behind; then what comes is spread over the others, by the user, but for users of whom something waits or is under way: that goes behind it, so that a node never
/// overtakes itself. Large requests have a lane of their own.
public final class InboxWriter: Sendable {
    public struct Settings: Sendable {
        public var lanes = 4
        /// Commands a batch.
        public var batch = 400
        /// Bytes that may wait in all lanes together.
        public var queueBytes = 64 * 1024 * 1024
        /// How long a batch in doubt is looked after before its requests are told so.
        public var doubt: Duration = .seconds(8)

        public init() {}
    }

    public struct Counters: Sendable {
        public var batches: Int
        public var commands: Int
        public var isolated: Int
        public var recovered: Int
        public var refused: Int
        public var queuedBytes: Int
    }

    private let lanes: [WriterLane]
    private let bulk: WriterLane
    private let shared: WriterState
    private let routes = Mutex(Routes())

    /// Where the requests are that wait or are under way, whose bytes are bounded.
    private struct Routes {
        /// By the user that a request begins with.
        var users: [UserID: (lane: Int, requests: Int)] = [:]
        var requests = 0
    }

    /// - Parameters:
    ///   - identity: told the epoch whenever a lane has a fresh connection.
    ///   - onTasks: hears which queues have got tasks, right after the commit. It must not block.
    public init(
        configuration: PostgresConfiguration, settings: Settings = Settings(), identity: ClusterIdentity, observer: any CommitObserver, logger: Logger,
        onTasks: @escaping @Sendable (Set<TaskQueue>) -> Void = { _ in }
    ) {
        let shared = WriterState(settings: settings, onTasks: onTasks)
        self.shared = shared
        func lane(_ name: String) -> WriterLane {
            let connection = PostgresConnection(configuration: configuration, name: name, logger: logger)
            identity.watch(connection)
            return WriterLane(connection: connection, identity: identity, shared: shared, observer: observer, logger: logger)
        }
        self.lanes = (0..<max(1, settings.lanes)).map { lane("lane-\($0)") }
        self.bulk = lane("lane-bulk")
    }

    public func start() {
        for lane in self.lanes { lane.connection.start() }
        self.bulk.connection.start()
    }

    /// Ends the connections. What waits is answered with ``StoreError/Code/unavailable``.
    public func close() async {
        for lane in self.lanes { await lane.connection.close() }
        await self.bulk.connection.close()
    }

    public var isAvailable: Bool { self.bulk.connection.isConnected && self.lanes.allSatisfy { $0.connection.isConnected } }

    public var counters: Counters { self.shared.counters }

    /// Makes all of these changes in one transaction, or none of them.
    ///
    /// - Throws: ``StoreError``: `unavailable`, `overloaded` and `refused` say that nothing was written; `inDoubt` that it is not known.
    public func write(
        _ commands: [InboxCommand], claim: IdempotencyClaim? = nil, bulk: Bool = false, trace: TraceContext? = nil
    ) async throws(StoreError) -> [InboxOutcome] {
        let result: Result<[InboxOutcome], StoreError> = await withCheckedContinuation { continuation in
            self.submit(commands, claim: claim, bulk: bulk, trace: trace) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// The same with a callback, which comes on a thread that must not be blocked.
    ///
    /// - Parameters:
    ///   - claim: when it was made before, nothing is written, and every outcome is ``InboxOutcome/Status/claimed``.
    ///   - bulk: whether it is a part of something large, which goes by the lane for that however small the part is.
    ///   - isCall: whether it is all of one notify call, which is one event for webhooks.
    ///   - trace: goes with what waits for it: deliveries, and calls of webhooks.
    public func submit(
        _ commands: [InboxCommand], claim: IdempotencyClaim? = nil, bulk: Bool = false, isCall: Bool = false, trace: TraceContext? = nil,
        completion: @escaping @Sendable (Result<[InboxOutcome], StoreError>) -> Void
    ) {
        guard let first = commands.first else {
            completion(.success([]))
            return
        }
        let size = Self.size(of: commands) + (claim?.answer.utf8.count ?? 0)
        guard self.shared.reserve(size) else {
            completion(.failure(StoreError(code: .overloaded, message: "too many writes are waiting; try again in a moment")))
            return
        }
        var (lane, over) = (self.bulk, completion)
        if !bulk, commands.count <= self.shared.settings.batch {
            let user = first.user
            lane = self.lanes[self.enter(user)]
            over = { result in
                self.leave(user)
                completion(result)
            }
        }
        lane.submit(WriterLane.Request(commands: commands, claim: claim, size: size, completion: over, queues: Self.queues(of: commands), isCall: isCall, trace: trace))
    }

    /// The lane of a request that begins with that user.
    private func enter(_ user: UserID) -> Int {
        self.routes.withLock { routes in
            let lane = routes.users[user]?.lane ?? self.lane(for: user, beside: routes.requests)
            routes.users[user, default: (lane, 0)].requests += 1
            routes.requests += 1
            return lane
        }
    }

    private func leave(_ user: UserID) {
        self.routes.withLock { routes in
            guard let route = routes.users[user] else { return }
            routes.users[user] = route.requests > 1 ? (route.lane, route.requests - 1) : nil
            routes.requests -= 1
        }
    }

    private static func queues(of commands: [InboxCommand]) -> Set<TaskQueue> {
        var queues: Set<TaskQueue> = []
        for command in commands {
            guard case .create(let new) = command.action, !new.deliveries.isEmpty else { continue }
            for delivery in new.deliveries where delivery.state == .queued { queues.insert(delivery.queue) }
        }
        return queues
    }

    /// A body that several commands share is held once.
    private static func size(of commands: [InboxCommand]) -> Int {
        var size = 0
        // One for each language.
        var last: [String] = []
        for command in commands {
            size += command.size
            let body: String
            switch command.action {
            case .create(let new):
                body = new.body
                // Held once too, and with the first of them.
                if last.isEmpty, let payload = new.deliveries.lazy.compactMap(\.payload).first { size += payload.utf8.count }
            case .correct(_, let correction): body = correction.members
            case .setFlags, .delete, .readAll, .seenAll, .comeDue, .expire, .retire, .skip, .erase: continue
            }
            if last.contains(where: { $0.utf8.elementsEqual(body.utf8) }) { continue }
            size += body.utf8.count
            if last.count == 8 { last.removeFirst() }
            last.append(body)
        }
        return size
    }

    /// - Parameter requests: how many wait or are under way. One alone is not waited for: who is as idle as that gains nothing by larger batches.
    private func lane(for user: UserID, beside requests: Int) -> Int {
        let first = self.lanes[0]
        if self.lanes.count == 1 || !(first.isBehind || (first.isBusy && requests == 1)) { return 0 }
        // FNV-1a of its bytes.
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in user.value.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return 1 + Int(hash % UInt64(self.lanes.count - 1))
    }
}

/// What the lanes share: the bound of the queue, and the counters.
final class WriterState: Sendable {
    let settings: InboxWriter.Settings
    let onTasks: @Sendable (Set<TaskQueue>) -> Void
    private let state = Mutex(InboxWriter.Counters(batches: 0, commands: 0, isolated: 0, recovered: 0, refused: 0, queuedBytes: 0))

    init(settings: InboxWriter.Settings, onTasks: @escaping @Sendable (Set<TaskQueue>) -> Void) {
        self.settings = settings
        self.onTasks = onTasks
    }

    var counters: InboxWriter.Counters { self.state.withLock { $0 } }

    /// One request is always taken, however large, when nothing waits: its size is bounded at the door.
    func reserve(_ bytes: Int) -> Bool {
        self.state.withLock {
            if $0.queuedBytes > 0, $0.queuedBytes + bytes > self.settings.queueBytes { return false }
            $0.queuedBytes += bytes
            return true
        }
    }

    func release(_ bytes: Int) { self.state.withLock { $0.queuedBytes -= bytes } }
    func count(_ body: (inout InboxWriter.Counters) -> Void) { self.state.withLock { body(&$0) } }
}

/// One connection, one batch under way.
final class WriterLane: Sendable {
    struct Request: Sendable {
        var commands: [InboxCommand]
        var claim: IdempotencyClaim?
        var size: Int
        var completion: @Sendable (Result<[InboxOutcome], StoreError>) -> Void
        /// Those that get tasks by it; none, mostly.
        var queues: Set<TaskQueue>
        /// An event for webhooks.
        var isCall: Bool
        var trace: TraceContext?
        /// It is to be written by itself, since a batch that it was in was refused.
        var alone = false
    }

    private struct Batch: Sendable {
        var id: NotificationID
        var requests: [Request]
        /// All commands, sorted by user; `places` leads back to (request, command).
        var commands: [InboxCommand]
        var places: [(request: Int, command: Int)]
        /// In the order in which they are made; `claimed` leads from a command to its request's, from 1, or is 0.
        var claims: [IdempotencyClaim]
        var claimed: [Int32]
        /// From a command to its notify call, from 1, or 0; empty when there is none.
        var calls: [Int32]
        /// From a command to its request's `traceparent`; empty when none is traced.
        var traces: [String?]
        var attempts = 0
        var doubtSince: ContinuousClock.Instant?
    }

    let connection: PostgresConnection
    private let identity: ClusterIdentity
    private let shared: WriterState
    private let observer: any CommitObserver
    private let logger: Logger
    private let queue = BatchQueue<Request>()
    /// Commands that wait for a batch.
    private let waiting = Atomic(0)
    /// When the batch under way began, in nanoseconds of the system's uptime; 0: there is none.
    private let began = Atomic<UInt64>(0)
    /// A batch takes some milliseconds. One that takes this long is something else: a lock that is held, a server that does not answer.
    private static let patience: UInt64 = 100_000_000

    init(connection: PostgresConnection, identity: ClusterIdentity, shared: WriterState, observer: any CommitObserver, logger: Logger) {
        self.connection = connection
        self.identity = identity
        self.shared = shared
        self.observer = observer
        self.logger = logger
    }

    var isBusy: Bool { self.began.load(ordering: .relaxed) > 0 }

    /// Whether what comes now would wait for more than the batch under way and two more, or for one that takes unusually long.
    var isBehind: Bool {
        if self.waiting.load(ordering: .relaxed) >= 2 * self.shared.settings.batch || !self.connection.isConnected { return true }
        let began = self.began.load(ordering: .relaxed)
        return began > 0 && DispatchTime.now().uptimeNanoseconds > began + Self.patience
    }

    func submit(_ request: Request) {
        self.waiting.add(request.commands.count, ordering: .relaxed)
        if self.queue.append(request) { self.next() }
    }

    private func next() {
        self.began.store(0, ordering: .relaxed)
        self.queue.next(take: self.take) { self.send(self.makeBatch($0)) }
    }

    /// Whole requests, up to the batch's bound; one that goes alone goes alone.
    private func take(_ waiting: inout Deque<Request>) -> [Request] {
        let first = waiting.removeFirst()
        var requests = [first]
        var rows = first.commands.count
        while !first.alone, let next = waiting.first, !next.alone, rows + next.commands.count <= self.shared.settings.batch {
            rows += next.commands.count
            requests.append(waiting.removeFirst())
        }
        self.waiting.subtract(rows, ordering: .relaxed)
        self.began.store(DispatchTime.now().uptimeNanoseconds, ordering: .relaxed)
        return requests
    }

    private func makeBatch(_ requests: [Request]) -> Batch {
        var places: [(request: Int, command: Int)] = []
        for (request, value) in requests.enumerated() {
            for command in value.commands.indices { places.append((request, command)) }
        }
        // Stable: commands of one user keep the order in which they came.
        places.sort { left, right in
            let (a, b) = (requests[left.request].commands[left.command].user, requests[right.request].commands[right.command].user)
            if a != b { return a < b }
            return (left.request, left.command) < (right.request, right.command)
        }
        let claiming = requests.indices.filter { requests[$0].claim != nil }.sorted {
            IdempotencyClaim.precedes(requests[$0].claim!, requests[$1].claim!)
        }
        var claimOf = [Int32](repeating: 0, count: requests.count)
        for (index, request) in claiming.enumerated() { claimOf[request] = Int32(index + 1) }
        return Batch(
            id: NotificationID.make(), requests: requests, commands: places.map { requests[$0.request].commands[$0.command] }, places: places,
            claims: claiming.map { requests[$0].claim! }, claimed: places.map { claimOf[$0.request] },
            calls: requests.contains { $0.isCall } ? places.map { requests[$0.request].isCall ? Int32($0.request + 1) : 0 } : [],
            traces: requests.contains { $0.trace != nil } ? places.map { requests[$0.request].trace?.header } : [])
    }

    private func send(_ batch: Batch) {
        let values = ApplyChanges.values(
            batch: batch.id, again: batch.doubtSince != nil, batch.commands, claims: batch.claims, claimed: batch.claimed, calls: batch.calls,
            traces: batch.traces)
        let progress = Mutex(Progress.sent)
        self.connection.execute(ApplyChanges.statement, values) { result in
            switch result {
            case .success(let rows):
                let hasLooked = progress.withLock { progress in
                    if case .looked = progress { return true }
                    progress = .written(rows)
                    return false
                }
                // What it saw was before the commit: nothing is known of the place.
                if hasLooked { self.committed(batch, rows, place: nil) }
                // The next batch goes out behind the look; its answer comes after it.
                self.next()
            case .failure(let error): self.failed(batch, error)
            }
        }
        // In the same write, and answered right after it: before anybody hears of this batch, it is known how far the log was with it. It
        // comes first when it is refused, or when the other has to be sent again (a statement that had to be prepared anew).
        self.connection.execute(ClusterIdentity.look, []) { result in
            let rows = progress.withLock { progress -> PostgresRows? in
                if case .written(let rows) = progress { return rows }
                progress = .looked
                return nil
            }
            if let rows { self.committed(batch, rows, place: Self.place(result)) }
        }
    }

    /// Of a batch and the look at the log behind it: who is answered second goes on.
    private enum Progress {
        case sent
        case written(PostgresRows)
        case looked
    }

    private static func place(_ result: Result<PostgresRows, PostgresError>) -> LogPosition? {
        guard case .success(let rows) = result, let row = rows.first, let timeline = try? row.int4(0), let lsn = try? row.text(1) else { return nil }
        return LogPosition(timeline: timeline, lsn: lsn)
    }

    private func committed(_ batch: Batch, _ rows: PostgresRows, place: LogPosition?) {
        if let place { self.identity.advance(heard: place, epoch: .max) }
        let result: ApplyChanges.Result
        do throws(PostgresError) {
            result = try ApplyChanges.decode(rows, batch.commands, place: place)
        } catch {
            self.logger.error("writing function's answer not understood", metadata: ["error": "\(error)"])
            self.fail(batch, StoreError(code: .failed, message: "the database's answer was not understood"))
            return
        }
        for user in result.committed where user.changes.contains(where: { $0.kind == .erased }) {
            self.identity.advance(given: user.head.position.epoch)
        }
        self.shared.count {
            $0.batches += 1
            $0.commands += batch.commands.count
        }
        let outcomes = self.distribute(result.outcomes, batch)
        if result.committed.isEmpty {
            self.complete(batch, outcomes)
        } else {
            // The next batch does not wait for those who hear of this one.
            self.observer.committed(result.committed) { self.complete(batch, outcomes) }
        }
    }

    private func distribute(_ outcomes: [InboxOutcome], _ batch: Batch) -> [[InboxOutcome]] {
        var sorted = batch.requests.map { [InboxOutcome?](repeating: nil, count: $0.commands.count) }
        for (place, outcome) in zip(batch.places, outcomes) { sorted[place.request][place.command] = outcome }
        return sorted.map { $0.compactMap { $0 } }
    }

    private func complete(_ batch: Batch, _ outcomes: [[InboxOutcome]]) {
        let queues = batch.requests.reduce(into: Set<TaskQueue>()) { queues, request in
            if !request.queues.isEmpty { queues.formUnion(request.queues) }
        }
        if !queues.isEmpty { self.shared.onTasks(queues) }
        for (request, outcomes) in zip(batch.requests, outcomes) {
            self.shared.release(request.size)
            request.completion(.success(outcomes))
        }
    }

    private func failed(_ batch: Batch, _ error: PostgresError) {
        let state = error.sqlState ?? ""
        let isRefusal = error.code == .server && (state.hasPrefix("22") || state.hasPrefix("23"))
        if error.code == .server, state == "23505", error.constraint == "commits_pkey" {
            self.recover(batch)
        } else if error.code == .server, state == "40P01" || state == "40001", batch.attempts < 5 {
            var again = batch
            again.attempts += 1
            self.send(again)
        } else if isRefusal, batch.requests.count > 1 {
            // One of them is the cause: each is written by itself, so that only that one fails.
            self.shared.count { $0.isolated += 1 }
            let alone = batch.requests.map { request in
                var request = request
                request.alone = true
                return request
            }
            self.waiting.add(batch.commands.count, ordering: .relaxed)
            self.queue.putBack(alone)
            self.next()
        } else if error.isInDoubt || (batch.doubtSince != nil && !isRefusal) {
            // Whatever else the repetition met, it says nothing about the first attempt.
            self.resolve(batch, error)
        } else {
            self.fail(batch, Self.translate(error))
            self.next()
        }
    }

    /// The same batch once more: if it was committed, its id is taken.
    private func resolve(_ batch: Batch, _ error: PostgresError) {
        var again = batch
        let since = batch.doubtSince ?? .now
        again.doubtSince = since
        if ContinuousClock.now - since > self.shared.settings.doubt || error.code == .closed {
            self.logger.warning("batch left in doubt", metadata: ["error": "\(error)"])
            self.fail(batch, StoreError(code: .inDoubt, message: "the connection to the database broke; whether this was written is not known"))
            self.next()
            return
        }
        let waiting = again
        Task {
            // The lane stays busy meanwhile: what waits must not overtake this batch.
            try? await Task.sleep(for: .milliseconds(50))
            self.send(waiting)
        }
    }

    private func recover(_ batch: Batch) {
        self.shared.count { $0.recovered += 1 }
        let outcomes = batch.commands.map { _ in
            InboxOutcome(
                status: .recovered, changes: [], updated: 0, more: false,
                head: InboxHead(position: StreamPosition(epoch: 0, seq: 0), unread: 0, unseen: 0, counts: "{}"))
        }
        // Nobody published it: the commit tail does.
        self.complete(batch, self.distribute(outcomes, batch))
        self.next()
    }

    private func fail(_ batch: Batch, _ error: StoreError) {
        self.shared.count { $0.refused += batch.requests.count }
        for request in batch.requests {
            self.shared.release(request.size)
            request.completion(.failure(error))
        }
    }

    static func translate(_ error: PostgresError) -> StoreError {
        switch error.code {
        case .server:
            let state = error.sqlState ?? ""
            if state.hasPrefix("22") || state.hasPrefix("23") { return StoreError(code: .refused, message: error.message, sqlState: state) }
            // Shutting down, too many connections, out of disk, read only: it is the server's state, not this write.
            if state.hasPrefix("57") || state.hasPrefix("53") || state.hasPrefix("08") || state == "25006" {
                return StoreError(code: .unavailable, message: error.message, sqlState: state)
            }
            return StoreError(code: .failed, message: error.message, sqlState: state)
        case .connectionLost: return StoreError(code: .inDoubt, message: error.message)
        default: return StoreError(code: .unavailable, message: error.message)
        }
    }
}
