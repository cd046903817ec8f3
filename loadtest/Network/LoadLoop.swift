import NIOCore

/// One event loop's share of a run: its users, their streams, and the connections that send to them.
///
/// Bound to its loop, without locks. What another loop has to know goes there as a message. Streams and sending are in the
/// extensions.
final class LoadLoop {
    /// A loop as the others see it.
    struct Reference: Sendable {
        let eventLoop: any EventLoop
        let bound: NIOLoopBound<LoadLoop>
    }

    /// Nanoseconds until a connection that is not there will not come.
    private static let connectLimit: UInt64 = 5_000_000_000

    let plan: RunPlan
    let eventLoop: SocketLoop
    let index: Int
    let runID: [UInt8]
    var peers: [Reference] = []
    var counters = LoopCounters()
    var closing = false

    // Streams.
    let users: [UserState]
    let streams: [StreamState]
    var opening = CircularBuffer<StreamState>()
    var opensPending = 0
    /// Streams that this part of the run holds.
    var wanted = 0
    /// Streams refused for good.
    var gone = 0
    var openAllowance = OpenAllowance()
    var readyPromise: EventLoopPromise<Void>?
    var readyDeadline: UInt64 = 0
    var connect = LatencyRecorder(window: 0..<UInt64.max)
    var random: OperationMix

    // Sending.
    var window: SendWindow<DueRequest>
    var connections: [ObjectIdentifier: RequestConnection] = [:]
    var connecting: [ObjectIdentifier: RequestConnection] = [:]
    var free = CircularBuffer<RequestConnection>()
    var connectionsOpened = 0
    var nextUser = 0
    var operationUser = 0
    var notifications: OpenLoopSchedule?
    var operations: OpenLoopSchedule?
    var receipt = LatencyRecorder(window: 0..<0)
    /// Of the streams that read slowly.
    var slowReceipt = LatencyRecorder(window: 0..<0)
    var phase: SendPhase
    /// Whether slow streams read as fast as the others: when sending is over.
    var hurry = false
    /// What each stream must have shown to have caught up with the storm, by its place in `streams`.
    var caughtUpTargets: [UInt64] = []
    var request = LatencyRecorder(window: 0..<0)
    var operation = LatencyRecorder(window: 0..<0)
    var tool = LatencyRecorder(window: 0..<0)
    var sentPromise: EventLoopPromise<Void>?
    /// Calls of notify so far; the number of the next one.
    var calls = 0
    /// How often sending, and asking for counts, has begun: which of them a timer belongs to.
    var sendings = 0
    var countings = 0
    var countsAsked = 0
    /// Notifications that the API lists in another way than a stream showed them, and inboxes compared.
    var inboxWrong: UInt64 = 0
    var inboxesCompared: UInt64 = 0
    /// Calls to all streams, for those of other processes.
    var relayed: [RelayedCall] = []
    var countsPromise: EventLoopPromise<Void>?

    /// How many streams may be opened now.
    struct OpenAllowance {
        var since: UInt64 = 0
        var opened = 0.0
    }

    init(plan: RunPlan, index: Int, eventLoop: SocketLoop) {
        eventLoop.assertInEventLoop()
        self.plan = plan
        self.index = index
        self.eventLoop = eventLoop
        runID = Array(plan.runID.utf8)
        phase = plan.parts[0]
        users = stride(from: index, to: plan.users.count, by: plan.loops).map(UserState.init)
        streams = (0..<plan.connections).compactMap { [users] stream in
            let user = plan.user(ofStream: stream)
            guard plan.loop(ofUser: user) == index else { return nil }
            let state = StreamState(index: stream, user: users[user / plan.loops], slow: plan.isSlow(stream: stream))
            state.user.streams.append(state)
            return state
        }
        // Evenly chosen among the users.
        let inboxes = (plan.inboxUsers + plan.loops - 1) / plan.loops
        if inboxes > 0 {
            for index in Swift.stride(from: 0, to: users.count, by: max(1, (users.count + inboxes - 1) / inboxes)) {
                guard let first = users[index].streams.first else { continue }
                users[index].mirror = InboxMirror()
                first.isMirrored = true
            }
        }
        random = OperationMix(seed: UInt64(plan.worker * plan.loops + index) &+ plan.origin)
        window = SendWindow(bound: max(1, plan.outstandingLimit / plan.loops))
    }

    /// The user if it lives on this loop.
    func local(_ user: Int) -> UserState? {
        plan.loop(ofUser: user) == index ? users[user / plan.loops] : nil
    }

    /// Checks what has been waiting for too long, once a second for all of it: a timer for each would cost more.
    func watch() {
        let now = monotonicNow()
        let limit = UInt64(plan.requestTimeout * 1e9)
        for stream in streams where stream.phase == .opening {
            guard let connection = stream.connection else { continue }
            let waiting = now - min(now, stream.openedAt)
            if connection.isConnecting, waiting > Self.connectLimit { connection.fail("connect failed") }
            // An EventSource waits for ever.
            if !plan.chaos, waiting > limit { connection.fail("no ready in time") }
        }
        for connection in connecting.values where now - min(now, connection.since) > Self.connectLimit { connection.fail("connect failed") }
        for connection in connections.values where connection.request != nil && now - min(now, connection.since) > limit {
            connection.fail("timeout")
        }
        if readyPromise != nil, now > readyDeadline { finishOpening() }
        guard !closing else { return }
        eventLoop.assumeIsolated().scheduleTask(in: .seconds(1)) { self.watch() }
    }

    func snapshot() -> LoopCounters {
        var copy = counters
        copy.overruns = window.overruns
        copy.outstanding = window.outstanding
        return copy
    }

    /// Streams that have not shown what they are known to have to, and those that have shown more than their user's count speaks for: its copy is repaired
    /// within seconds, and one that is not is told at the end.
    func streamsBehind() -> Int {
        streams.lazy.filter { stream in
            guard stream.phase != .parked else { return false }
            if stream.calls.isWaiting { return true }
            guard let seq = stream.checker.sequence.position?.seq else { return false }
            return seq < stream.user.expectedSeq || stream.user.evidence.count.map { $0.position.seq < seq } ?? false
        }.count
    }

    /// The verdict. Nothing may be under way any more.
    func result() -> LoopResult {
        window.abandon()
        var correctness = Correctness()
        correctness.inboxWrong = inboxWrong
        correctness.inboxesCompared = inboxesCompared
        for user in users where user.head != nil { correctness.usersCompared += user.streams.isEmpty ? 0 : 1 }
        for stream in streams {
            let checker = stream.checker
            correctness.duplicated += checker.sequence.duplicated + stream.calls.duplicated
            correctness.reordered += checker.sequence.reordered
            correctness.wrongEpoch += checker.sequence.wrongEpoch
            correctness.malformed += checker.malformed + checker.sequence.beforeReady
            correctness.unreadWrong += checker.unreadWrong
            correctness.unreadUnchecked += checker.unreadUnchecked
            correctness.resynced += checker.resynced
            guard stream.phase != .parked else {
                // It owes nothing after its place, but what it showed must be whole.
                correctness.lost += checker.lost(head: 0)
                continue
            }
            var head = stream.user.acknowledgedSeq
            if let api = stream.user.head, let position = checker.sequence.position {
                if api.epoch == position.epoch { head = max(head, api.seq) } else { correctness.wrongEpoch += 1 }
                if let unread = stream.user.unread, !checker.agrees(unread: unread, at: api) { correctness.unreadWrong += 1 }
            }
            // What was accepted by trigger and lost leaves a hole in the numbers too: one loss, seen from both sides.
            correctness.lost += max(checker.lost(head: head), stream.calls.lost)
        }
        return LoopResult(counters: snapshot(), correctness: correctness, receipt: receipt, slowReceipt: slowReceipt, request: request, operation: operation, tool: tool, connect: connect)
    }

    /// What the oracle needs of this loop's users, by the user's index.
    func evidence() -> [Int: UserEvidence] {
        users.reduce(into: [:]) { all, user in
            var evidence = user.evidence
            evidence.streams = user.streams.map(\.records)
            all[user.index] = evidence
        }
    }

    /// Closes everything that is open.
    func close() {
        closing = true
        opening.removeAll()
        for stream in streams { stream.connection?.close() }
        for connection in connections.values { connection.close() }
        for connection in connecting.values { connection.close() }
        for promise in [readyPromise, sentPromise, countsPromise] { promise?.succeed() }
        (readyPromise, sentPromise, countsPromise) = (nil, nil, nil)
    }
}
