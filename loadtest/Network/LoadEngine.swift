import NIOCore

/// The event loops of a run and what can be asked of all of them.
struct LoadEngine: LoadDriver {
    let plan: RunPlan
    private let loops: [LoadLoop.Reference]

    static func start(_ plan: RunPlan) async throws -> LoadEngine {
        var loops: [LoadLoop.Reference] = []
        for index in 0..<plan.loops {
            let eventLoop = try SocketLoop.start(name: "load-\(index)")
            loops.append(
                try await eventLoop.submit {
                    LoadLoop.Reference(eventLoop: eventLoop, bound: NIOLoopBound(LoadLoop(plan: plan, index: index, eventLoop: eventLoop), eventLoop: eventLoop))
                }.get()
            )
        }
        for loop in loops {
            try await loop.eventLoop.submit { [loops] in
                loop.bound.value.peers = loops
                loop.bound.value.watch()
            }.get()
        }
        return LoadEngine(plan: plan, loops: loops)
    }

    func openStreams() async throws { try await hold(plan.connections) }
    func hold(_ connections: Int) async throws { try await all { $0.hold(connections) } }
    func dropAndResume() async throws { try await all { $0.dropAndResume() } }
    func send(origin: UInt64, phase: SendPhase) async throws { try await all { $0.startSending(origin: origin, phase: phase) } }
    func hurry() async throws { _ = try await each { $0.hurry = true } }
    func markCaughtUpTargets() async throws { _ = try await each { $0.markCaughtUpTargets() } }
    func streamsNotCaughtUp() async throws -> Int { try await each { $0.streamsNotCaughtUp() }.reduce(0, +) }
    func notifyEach() async throws { try await all { $0.notifyEach() } }
    func askCounts() async throws {
        let share = (plan.verifyUsers + plan.loops - 1) / plan.loops
        try await all { $0.askCounts(limit: share) }
    }

    func askInboxes() async throws { try await all { $0.askInboxes() } }

    func counters() async throws -> LoopCounters {
        var sum = LoopCounters()
        for counters in try await each({ $0.snapshot() }) { sum.add(counters) }
        return sum
    }

    func streamsBehind() async throws -> Int { try await each { $0.streamsBehind() }.reduce(0, +) }

    func result() async throws -> LoopResult {
        let results = try await each { $0.result() }
        return results.dropFirst().reduce(into: results[0]) { $0.merge($1) }
    }

    func isClosing() async throws -> Bool { try await each { $0.closing }.contains(true) }

    /// By the user's index.
    func evidence() async throws -> [Int: UserEvidence] {
        try await each { $0.evidence() }.reduce(into: [:]) { all, some in all.merge(some) { first, _ in first } }
    }

    /// Closes every connection, so that whatever is waited for ends.
    func interrupt() async throws { _ = try await each { $0.close() } }

    /// There is one clock only.
    func clocks() -> [ClockCheck] { [] }

    /// Calls to all streams that the other processes have not been told of.
    func takeRelayedCalls() async throws -> [RelayedCall] { try await each { $0.takeRelayedCalls() }.flatMap(\.self) }
    func expect(_ calls: [RelayedCall]) async throws { _ = try await each { $0.expect(calls) } }

    /// Closes every connection and ends the threads.
    func stop() async throws {
        _ = try await each { $0.close() }
        for loop in loops { try await loop.eventLoop.shutdownGracefully() }
    }

    private func each<Value: Sendable>(_ body: @escaping @Sendable (LoadLoop) -> Value) async throws -> [Value] {
        var values: [Value] = []
        for loop in loops { values.append(try await loop.eventLoop.submit { body(loop.bound.value) }.get()) }
        return values
    }

    private func all(_ body: @escaping @Sendable (LoadLoop) -> EventLoopFuture<Void>) async throws {
        let futures = loops.map { loop in loop.eventLoop.flatSubmit { body(loop.bound.value) } }
        for future in futures { try await future.get() }
    }
}
