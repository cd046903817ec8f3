import Foundation
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// `run --scenario chaos`: breaks a `deploy/local` cluster while it is under load, and compares what every stream showed with the database.
struct ChaosRun: Sendable {
    let plan: RunPlan
    let control: ClusterControl
    let seed: UInt64
    var progress: @Sendable (Progress) -> Void = { _ in }
    /// Told in words what is done to the cluster.
    var tell: @Sendable (String) -> Void = { _ in }

    /// Seconds that everything has to be as it should be in once all is up again.
    static let patience = 90.0

    /// Whatever happens, and after the first of `interrupts`, the cluster runs again as before when it returns.
    func run(interrupts: AsyncStream<Void>) async throws -> ChaosReport {
        let faults = FaultPlan(seed: seed, seconds: plan.warmup + plan.duration, shape: control.shape)
        tell(ChaosReport.text(of: faults))
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        var proxies: [Int: LinkProxy.Reference] = [:]
        let result: Result<ChaosReport, any Error>
        do {
            proxies = try await startProxies(group)
            result = .success(try await load(faults, proxies, interrupts))
        } catch {
            result = .failure(error)
        }
        // Also after a failure and after Ctrl-C: everything runs as before.
        await restore(proxies)
        for proxy in proxies.values { try await proxy.stop() }
        try await group.shutdownGracefully()
        return try result.get()
    }

    // MARK: The cluster

    private func startProxies(_ group: MultiThreadedEventLoopGroup) async throws -> [Int: LinkProxy.Reference] {
        guard let url = control.environment["CARILLON_REDIS_URL"], var parts = URLComponents(string: url), let host = parts.host else {
            throw LoadtestError.environment("deploy/local env names no CARILLON_REDIS_URL", "Use the program of the same version")
        }
        let redis = try SocketAddress.makeAddressResolvingHost(host, port: parts.port ?? 6_379)
        var proxies: [Int: LinkProxy.Reference] = [:]
        for (index, edge) in control.edges.enumerated() {
            let proxy = try await LinkProxy.start(target: redis, on: group.next())
            proxies[index + 1] = proxy
            parts.host = "127.0.0.1"
            parts.port = proxy.port
            tell("\(edge): its Redis is behind a proxy on port \(proxy.port)")
            try await control.stop(edge)
            try await control.start(edge, ["--set", "CARILLON_REDIS_URL=\(parts.string ?? url)"])
        }
        return proxies
    }

    private func restore(_ proxies: [Int: LinkProxy.Reference]) async {
        tell("putting the cluster back as it was")
        for proxy in proxies.values { try? await proxy.set(.pass) }
        for edge in control.edges {
            do {
                try await control.stop(edge)
                _ = try await control.script.run(["start", edge, "--no-wait", "--unset", "CARILLON_REDIS_URL"], seconds: 60)
            } catch { tell("\(edge) could not be put back: \(error)") }
        }
        do { try await startAll() } catch { tell("not everything could be started: \(error)") }
    }

    /// Starts what does not run and waits until all of it is ready.
    private func startAll() async throws {
        let first = ["postgres", "redis"]
        let rest = control.servers.keys.filter { !first.contains($0) && $0 != "haproxy" }.sorted()
        for name in first + rest + ["haproxy"] { try await control.start(name) }
    }

    // MARK: The load

    private func load(_ faults: FaultPlan, _ proxies: [Int: LinkProxy.Reference], _ interrupts: AsyncStream<Void>) async throws -> ChaosReport {
        guard let database = control.environment["CARILLON_DATABASE_URL"] else {
            throw LoadtestError.environment("deploy/local env names no CARILLON_DATABASE_URL", "Use the program of the same version")
        }
        let reader = try ChangeLogReader(databaseURL: database, prefix: "lt-\(plan.runID)-")
        let epoch = try await reader.epoch()
        let injector = FaultInjector(plan: faults, control: control, proxies: proxies, tell: tell)
        let engine = try await LoadEngine.start(plan)
        let samples = NIOLockedValueBox<[Sample]>([])
        do {
            let report = try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await watch(engine, samples) }
                group.addTask {
                    for await _ in interrupts {
                        tell("interrupted")
                        await injector.stop()
                        try await engine.interrupt()
                        return
                    }
                }
                defer { group.cancelAll() }
                return try await drive(engine, injector, faults, reader, epoch, samples)
            }
            await injector.release()
            try await engine.stop()
            return report
        } catch {
            await injector.stop()
            await injector.release()
            try await engine.stop()
            throw error
        }
    }

    private func drive(
        _ engine: LoadEngine, _ injector: FaultInjector, _ faults: FaultPlan, _ reader: ChangeLogReader, _ epoch: UInt64,
        _ samples: NIOLockedValueBox<[Sample]>
    ) async throws -> ChaosReport {
        try await engine.openStreams()
        let opened = try await engine.counters()
        guard opened.live == plan.connections else {
            throw LoadtestError.environment(
                "\(opened.live) of \(plan.connections) streams became ready (\(RunReport.list(opened.refused)))",
                "Chaos begins with a cluster that works: look at its logs"
            )
        }
        let origin = monotonicNow() + 50_000_000
        async let injected: Void = injector.run(origin: origin)
        try await engine.send(origin: origin, phase: plan.parts[0])
        await injected
        try await goOn(engine)

        tell("everything is up again: waiting for what must come")
        try await startAll()
        let quiet = try await settle(engine)
        let result = try await engine.result()
        let evidence = try await engine.evidence()
        try await goOn(engine)

        tell("comparing with the database")
        let live = result.counters.live
        var oracle = ChaosOracle(epoch: epoch, monotonicOrigin: Date().timeIntervalSince1970 - Double(monotonicNow()) / 1e9)
        oracle = try await compare(oracle, evidence, reader)
        // Refused with 200, `retry:` and the end, or no connection at all: that is what an EventSource can live with.
        let bearable: Set<String> = ["connect failed", "closed before ready", "connection lost", "malformed"]
        for (reason, times) in result.counters.refused.sorted(by: { $0.key < $1.key }) where !bearable.contains(reason) {
            for _ in 0..<times {
                oracle.add(WrongEvent(kind: .refused, user: "unknown", expected: "200 and an event stream", seen: reason))
            }
        }
        for _ in live..<max(live, plan.connections) {
            oracle.add(WrongEvent(kind: .unavailable, user: "unknown", expected: "every stream live at the end", seen: "one that is not"))
        }
        return ChaosReport(
            plan: plan, faults: faults, records: await injector.records, skipped: await injector.skipped, origin: origin, result: result, oracle: oracle,
            epochs: (epoch, try await reader.epoch()), quietSeconds: quiet,
            samples: samples.withLockedValue { $0 }
        )
    }

    private func goOn(_ engine: LoadEngine) async throws {
        if try await engine.isClosing() { throw LoadtestError.environment("The run was interrupted", "The cluster is put back as it was") }
    }

    /// Waits until every stream is live and stands where the API says that its user is, and nothing comes any more.
    /// - Returns: Seconds that it took.
    private func settle(_ engine: LoadEngine) async throws -> Double {
        let began = monotonicNow()
        func waited() -> Double { Double(monotonicNow() - began) / 1e9 }
        var calm = 0
        var received: UInt64 = 0
        while waited() < Self.patience, calm < 3 {
            try await goOn(engine)
            try await Task.sleep(for: .seconds(1))
            try await engine.askCounts()
            let now = try await engine.counters()
            let behind = try await engine.streamsBehind()
            calm = now.live == plan.connections && behind == 0 && now.receivedBytes == received ? calm + 1 : 0
            received = now.receivedBytes
        }
        return waited()
    }

    private func compare(_ oracle: ChaosOracle, _ evidence: [Int: UserEvidence], _ reader: ChangeLogReader) async throws -> ChaosOracle {
        var oracle = oracle
        let heads = try await reader.heads()
        var left = Set(plan.users.indices)
        try await reader.changes { user, log in
            guard let index = plan.userIndex[user] else {
                oracle.add(WrongEvent(kind: .unasked, user: user, expected: "users of this run", seen: "\(log.count) changes"))
                return
            }
            left.remove(index)
            oracle.check(user: user, evidence[index] ?? UserEvidence(), head: heads[user] ?? LogHead(), log: log)
        }
        for index in left.sorted() {
            let name = plan.users[index].name
            oracle.check(user: name, evidence[index] ?? UserEvidence(), head: heads[name] ?? LogHead(epoch: oracle.epoch), log: [])
        }
        let strays = try await reader.strays()
        for _ in 0..<strays {
            oracle.add(WrongEvent(kind: .content, user: "unknown", expected: "notifications as the log has them", seen: "one that the log does not have"))
        }
        return oracle
    }

    /// Seconds after which the processes are looked up again: faults replace them.
    private static let lookUp = 5

    private func watch(_ engine: LoadEngine, _ samples: NIOLockedValueBox<[Sample]>) async throws {
        var watched = WatchedProcess.parse(control.environment.list("CARILLON_PIDS"))
        var second = 0
        var before = LoopCounters()
        while !Task.isCancelled {
            do { try await Task.sleep(for: .seconds(1)) } catch is CancellationError { return }
            let now = try await engine.counters()
            second += 1
            progress(Progress(plan: plan, second: second, before: before, now: now))
            if second % Self.lookUp == 0, let found = try? await control.processes() { watched = found }
            let sample = Sample(
                at: Double(monotonicNow() - plan.origin) / 1e9, live: now.live, sent: now.sent - before.sent, received: now.received - before.received,
                errors: now.failures - before.failures, processes: ProcessTable.usage(of: watched)
            )
            samples.withLockedValue { if $0.count < LoadRun.samplesAtMost { $0.append(sample) } }
            before = now
        }
    }
}
