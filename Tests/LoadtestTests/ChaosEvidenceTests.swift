import Testing

@testable import carillon_loadtest

/// What a real run leaves for the oracle, with the server's log in place of a database.
@Suite("Evidence of chaos")
struct ChaosEvidenceTests {
    /// The oracle's verdict after a run in which the server did this.
    private func verdict(_ faults: [FakeServer.Fault]) async throws -> (ChaosOracle, LoopCounters) {
        let server = try await FakeServer(faults)
        let target = try Target("http://127.0.0.1:\(server.port)", allowRemote: false)
        var plan = try RunPlan(
            runID: "test", targets: [target], publishTargets: [target], apiKey: "ck_test",
            users: (0..<4).map { RunPlan.User(name: "u\($0)", token: "u\($0)") }, connections: 8
        )
        plan.chaos = true
        plan.rate = 100
        plan.duration = 0.6
        plan.mix = 1
        plan.publishConnections = 8
        plan.settle = 0.3
        let engine = try await LoadEngine.start(plan)
        try await engine.openStreams()
        try await engine.send(origin: monotonicNow(), phase: plan.parts[0])
        try await engine.settle()
        try await engine.askCounts()
        try await engine.settle()
        let counters = try await engine.counters()
        let evidence = try await engine.evidence()
        try await engine.stop()
        var oracle = ChaosOracle(epoch: 1)
        for (index, user) in plan.users.enumerated() {
            var evidence = try #require(evidence[index])
            let log = try await server.log(of: user.name)
            // The fake's counts know nothing of what was seen.
            evidence.count?.unseen = log.last?.unseen ?? 0
            let head = LogHead(seq: log.last?.seq ?? 0, unread: log.last?.unread ?? 0, unseen: log.last?.unseen ?? 0)
            oracle.check(user: user.name, evidence, head: head, log: log)
        }
        try await server.stop()
        return (oracle, counters)
    }

    @Test("a server that does right leaves nothing wrong, also when it fails a request and drops every stream")
    func right() async throws {
        let (oracle, counters) = try await verdict([.fail(3), .disconnect(9)])
        #expect(oracle.isClean, "\(oracle.wrong)")
        #expect(oracle.streams == 8)
        #expect(oracle.events > 100)
        #expect(oracle.receipts.count >= 118)
        #expect(counters.resumed > 0)
        #expect(counters.requestErrors == ["500": 1])
    }

    @Test("one wrong thing is found", arguments: [
        (FakeServer.Fault.lose(10), WrongEvent.Kind.lost), (.double(10), .duplicated), (.swap(10), .reordered), (.lie(10, by: 1), .unread),
        (.wrongID(10), .missing), (.resync(10), .resync), (.lyingCount, .unread),
    ])
    func wrong(example: (FakeServer.Fault, WrongEvent.Kind)) async throws {
        let (oracle, _) = try await verdict([example.0])
        #expect(oracle.counts[example.1, default: 0] >= 1, "\(oracle.wrong)")
        #expect(oracle.counts.count == 1, "\(oracle.wrong)")
    }
}
