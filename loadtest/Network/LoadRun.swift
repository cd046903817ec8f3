import Foundation
import NIOConcurrencyHelpers

/// `run`: opens the streams, sends on schedule, waits for what must come, compares, and reports.
struct LoadRun: Sendable {
    let plan: RunPlan
    /// The processes that hold the streams and send; nil: this one alone.
    var workers: WorkerFleet.Settings?
    /// Told about once a second what is going on.
    var progress: @Sendable (Progress) -> Void = { _ in }

    /// What is collected beside the loops.
    private final class Notes: Sendable {
        let samples = NIOLockedValueBox<[Sample]>([])
        let marks = NIOLockedValueBox<[Mark]>([])
    }

    /// Samples kept; a longer run keeps the first ones.
    static let samplesAtMost = 86_400

    func run() async throws -> RunReport {
        let engine: any LoadDriver
        if let workers { engine = try await WorkerFleet.start(plan, workers) } else { engine = try await LoadEngine.start(plan) }
        let notes = Notes()
        do {
            let report = try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await watch(engine, notes) }
                defer { group.cancelAll() }
                return try await drive(engine, notes)
            }
            try await engine.stop()
            return report
        } catch {
            try await engine.stop()
            throw error
        }
    }

    private func drive(_ engine: any LoadDriver, _ notes: Notes) async throws -> RunReport {
        let servers = await HealthProbe.probe(plan.targets + plan.publishTargets + plan.nodes)
        let before = ProcessTable.usage(of: plan.processes)
        let connecting = monotonicNow()
        if let command = plan.parts[0].before { try await Self.shell(command) }
        try await engine.hold(plan.parts[0].connections ?? plan.connections)
        let opened = try await engine.counters()
        guard opened.live > 0 else {
            throw LoadtestError.environment(
                "None of \(plan.connections) streams became ready (\(RunReport.list(opened.refused)))",
                "Check that the targets run, and that the tokens are signed with their key"
            )
        }
        // Connecting is not what an event costs.
        let open = ProcessTable.usage(of: plan.processes)
        let ownBefore = ProcessTable.usage(of: [.own])
        let connectSeconds = Double(max(1, opened.lastReadyAt - min(opened.lastReadyAt, connecting))) / 1e9
        let ramp = plan.ramp != nil
        var phases: [PhaseReport] = []
        var storm: StormReport?
        var merged: LoopResult?
        for phase in plan.parts {
            let wanted = phase.connections ?? plan.connections
            let opening = phases.isEmpty ? nil : try await reopen(wanted, engine, before: phase.before)
            let held = try await engine.counters().live
            // A moment ahead, so that every loop has begun before the first message is due.
            let origin = monotonicNow() + 50_000_000
            let errors = try await engine.counters().failures
            notes.marks.withLockedValue { if plan.parts.count > 1 { $0.append(Mark(at: seconds(origin), name: phase.name)) } }
            if let stormAt = plan.stormAt, storm == nil {
                async let sending: Void = engine.send(origin: origin, phase: phase)
                storm = try await self.storm(engine, after: stormAt, notes)
                try await sending
            } else {
                try await engine.send(origin: origin, phase: phase)
            }
            try await engine.hurry()
            try await engine.settle()
            let result = try await engine.result()
            var report = PhaseReport(
                phase: phase, at: seconds(origin), sentPerSecond: result.request.perSecond * Double(phase.group),
                receivedPerSecond: result.receipt.perSecond, latency: result.receipt.percentiles,
                slowReaders: plan.slowPercent > 0 ? result.slowReceipt.percentiles : nil, streams: held, wanted: wanted, errors: result.counters.failures - errors, held: nil, opening: opening,
                intervals: result.receipt.timeline(at: seconds(origin) + phase.warmup)
            )
            if let limit = plan.ramp {
                // The last answers may take as long as any: in a short step they would make the rate look too low.
                let kept = result.request.perSecond(forgiving: UInt64(limit.p99 * 1e6)) * Double(phase.group)
                report.held = report.errors == 0 && report.latency.p99 <= limit.p99 && kept >= limit.share * phase.rate
                    && result.correctness.isClean
            }
            phases.append(report)
            if merged == nil { merged = result } else if report.held != false { merged!.merge(latenciesOf: result) }
            if ramp, report.held == false { break }
        }
        let after = ProcessTable.usage(of: plan.processes)
        let ownAfter = ProcessTable.usage(of: [.own])
        if plan.adapter.isCarillon { try await engine.askCounts() }
        try await engine.settle()
        if plan.adapter.isCarillon { try await engine.askInboxes() }
        // What is shown twice comes after what was waited for.
        try await Task.sleep(for: .seconds(min(0.5, plan.settle)))
        let clocks = try await engine.clocks()
        var result = try await engine.result()
        if let merged { result.takeLatencies(of: merged) }
        return RunReport(
            plan: plan, servers: servers, streamsReady: opened.live, connectSeconds: connectSeconds, result: result, phases: phases, storm: storm,
            samples: notes.samples.withLockedValue { $0 }, marks: notes.marks.withLockedValue { $0 }, usage: (before, open, after), processes: workers.map { $0.children + $0.remote.count } ?? 1, clocks: clocks,
            toolCpu: (ownAfter.values.first?.cpu ?? 0) - (ownBefore.values.first?.cpu ?? 0)
        )
    }

    /// Closes streams, or opens those that are missing and waits until each has shown what its user was sent meanwhile.
    private func reopen(_ wanted: Int, _ engine: any LoadDriver, before command: String?) async throws -> OpeningReport? {
        if let command { try await Self.shell(command) }
        let missing = try await wanted - engine.counters().live
        try await engine.markCaughtUpTargets()
        let begin = monotonicNow()
        try await engine.hold(wanted)
        guard missing > 0 else { return nil }
        let ready = try await Double(max(begin, engine.counters().lastReadyAt) - begin) / 1e9
        let caughtUp = try await self.caughtUp(engine, since: begin, within: plan.connectTimeout + ready)
        return OpeningReport(streams: missing, ready: ready, caughtUp: caughtUp)
    }

    /// Seconds until every stream had shown what it was marked for; nil after so many of patience.
    private func caughtUp(_ engine: any LoadDriver, since begin: UInt64, within patience: Double) async throws -> Double? {
        while try await engine.streamsNotCaughtUp() > 0 {
            try await Task.sleep(for: .milliseconds(10))
            if Double(monotonicNow() - begin) / 1e9 > patience { return nil }
        }
        return Double(monotonicNow() - begin) / 1e9
    }

    private static func shell(_ command: String) async throws {
        let status = try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Int32, any Error>) in
            DispatchQueue.global().async {
                do throws(LoadtestError) {
                    continuation.resume(returning: try Subprocess.run("sh", ["-c", command]) { FileHandle.standardError.write(Data($0)) })
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
        guard status == 0 else { throw LoadtestError.environment("'\(command)' ended with status \(status)", "Run it by hand, or leave 'before' out") }
    }

    /// Cuts every stream and waits until all are back.
    private func storm(_ engine: any LoadDriver, after: Double, _ notes: Notes) async throws -> StormReport {
        try await Task.sleep(for: .seconds(after))
        let cut = monotonicNow()
        let streams = try await engine.counters().live
        notes.marks.withLockedValue { $0.append(Mark(at: seconds(cut), name: "all streams cut")) }
        try await engine.dropAndResume()
        let back = try await engine.counters()
        let ready = Double(max(cut, back.lastReadyAt) - cut) / 1e9
        notes.marks.withLockedValue { $0.append(Mark(at: seconds(monotonicNow()), name: "all ready")) }
        try await engine.markCaughtUpTargets()
        let caughtUp = try await self.caughtUp(engine, since: cut, within: plan.connectTimeout + ready)
        return StormReport(streams: streams, ready: ready, caughtUp: caughtUp)
    }

    private func seconds(_ time: UInt64) -> Double { Double(time - min(time, plan.origin)) / 1e9 }

    private func watch(_ engine: any LoadDriver, _ notes: Notes) async throws {
        var second = 0
        var before = LoopCounters()
        while !Task.isCancelled {
            do { try await Task.sleep(for: .seconds(1)) } catch is CancellationError { return }
            let now = try await engine.counters()
            second += 1
            progress(Progress(plan: plan, second: second, before: before, now: now))
            let sample = Sample(
                at: seconds(monotonicNow()), live: now.live, sent: now.sent - before.sent, received: now.received - before.received,
                errors: now.failures - before.failures, processes: ProcessTable.usage(of: plan.processes)
            )
            notes.samples.withLockedValue { if $0.count < Self.samplesAtMost { $0.append(sample) } }
            before = now
        }
    }
}
