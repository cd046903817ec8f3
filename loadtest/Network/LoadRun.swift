/// `run`: opens the streams, sends on schedule, waits for what must come, compares, and reports.
struct LoadRun: Sendable {
    let plan: RunPlan
    /// Told about once a second what is going on.
    var progress: @Sendable (Progress) -> Void = { _ in }

    func run() async throws -> RunReport {
        let engine = try await LoadEngine.start(plan)
        do {
            let report = try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await watch(engine) }
                defer { group.cancelAll() }
                return try await drive(engine)
            }
            try await engine.stop()
            return report
        } catch {
            try await engine.stop()
            throw error
        }
    }

    private func drive(_ engine: LoadEngine) async throws -> RunReport {
        let servers = await HealthProbe.probe(plan.targets + plan.publishTargets)
        let connecting = monotonicNow()
        try await engine.openStreams()
        let opened = try await engine.counters()
        guard opened.live > 0 else {
            throw LoadtestError.environment(
                "None of \(plan.connections) streams became ready (\(RunReport.list(opened.refused)))",
                "Check that the targets run, and that the tokens are signed with their key"
            )
        }
        let connectSeconds = Double(max(1, opened.lastReadyAt - min(opened.lastReadyAt, connecting))) / 1e9
        // A moment ahead, so that every loop has begun before the first message is due.
        try await engine.send(origin: monotonicNow() + 50_000_000)
        try await engine.settle()
        try await engine.askCounts()
        try await engine.settle()
        // What is shown twice comes after what was waited for.
        try await Task.sleep(for: .seconds(min(0.5, plan.settle)))
        let result = try await engine.result()
        return RunReport(plan: plan, servers: servers, streamsReady: opened.live, connectSeconds: connectSeconds, result: result)
    }

    private func watch(_ engine: LoadEngine) async throws {
        var second = 0
        var before = LoopCounters()
        while !Task.isCancelled {
            do { try await Task.sleep(for: .seconds(1)) } catch is CancellationError { return }
            let now = try await engine.counters()
            second += 1
            progress(Progress(plan: plan, second: second, before: before, now: now))
            before = now
        }
    }
}
