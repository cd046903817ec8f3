import Foundation
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import carillon_loadtest

/// Runs whose streams are held by other processes.
@Suite("Several processes", .serialized)
struct FleetTests {
    private static let program = Bundle.main.executableURL!.deletingLastPathComponent().appendingPathComponent("carillon-loadtest").path

    private func run(
        _ faults: [FakeServer.Fault] = [], children: Int = 2, remote: [String] = [], adjust: (inout RunPlan) -> Void = { _ in }
    ) async throws -> RunReport {
        let server = try await FakeServer(faults)
        let target = try Target("http://127.0.0.1:\(server.port)", allowRemote: false)
        var plan = try RunPlan(
            runID: "test", targets: [target], publishTargets: [target], apiKey: "ck_test",
            users: (0..<7).map { RunPlan.User(name: "u\($0)", token: "u\($0)") }, connections: 10
        )
        plan.rate = 100
        plan.duration = 0.6
        plan.publishConnections = 8
        plan.settle = 1
        plan.inboxUsers = 100
        adjust(&plan)
        var run = LoadRun(plan: plan)
        run.workers = WorkerFleet.Settings(children: children, program: Self.program, remote: remote, secret: "a secret for tests")
        let report = try await run.run()
        try await server.stop()
        return report
    }

    @Test("two processes make one report: counts and histograms are added up")
    func two() async throws {
        let report = try await run { $0.mix = 0.5 }
        #expect(report.ok, "\(report.text)")
        #expect(report.settings.processes == 2)
        #expect(report.connect.ready == 10)
        #expect(report.throughput.due == 60)
        #expect(report.throughput.acknowledged == 60)
        #expect(report.latency.publishToReceipt.count == report.throughput.received)
        #expect(report.latency.request.count == 60)
        #expect(report.correctness.usersCompared == 7)
        #expect(report.correctness.inboxesCompared == 7)
        #expect(report.phases[0].intervals.map(\.latency.count).reduce(0, +) == report.throughput.received)
    }

    @Test("what is wrong in one process is wrong in the report, and counted once")
    func wrong() async throws {
        let report = try await run([.lie(20, by: 3), .fail(30)]) {
            // One stream a user, so that a lie is one.
            $0 = try! RunPlan(
                runID: $0.runID, targets: $0.targets, publishTargets: $0.publishTargets, apiKey: $0.apiKey, users: $0.users, connections: 7
            )
            ($0.rate, $0.duration, $0.settle) = (100, 0.6, 1)
        }
        #expect(report.correctness == Correctness(unreadWrong: 1, usersCompared: 7))
        #expect(report.errors.requests == ["500": 1])
        #expect(!report.ok)
    }

    @Test("a stall is charged in the merged percentiles as it is in one process")
    func stall() async throws {
        let report = try await run([.stall(20, milliseconds: 300)])
        #expect(report.ok, "\(report.text)")
        #expect(report.latency.publishToReceipt.max >= 299)
    }

    @Test("a broadcast by one process is expected on the streams of all, and lost and doubled there")
    func broadcast() async throws {
        let right = try await run { $0.publish = .broadcast }
        #expect(right.ok, "\(right.text)")
        #expect(right.throughput.due == 60)
        #expect(right.throughput.received == 600)
        let wrong = try await run([.lose(20), .double(30)]) { $0.publish = .broadcast }
        #expect(wrong.correctness.lost == 10)
        #expect(wrong.correctness.duplicated == 10)
    }

    @Test("all streams are cut in every process, and come back")
    func storm() async throws {
        let report = try await run { $0.stormAt = 0.2 }
        #expect(report.ok, "\(report.text)")
        #expect(report.storm?.streams == 10)
        #expect(report.errors.resumed == 10)
    }

    @Test("a worker that listens takes a share, and its clock is known to be this one")
    func listening() async throws {
        let (ports, port) = AsyncStream.makeStream(of: Int.self)
        let listening = Task {
            try await Worker(secret: "a secret for tests").listen(at: SocketAddress(ipAddress: "127.0.0.1", port: 0)) { port.yield($0?.port ?? 0) }
        }
        defer { listening.cancel() }
        let at = try #require(await ports.first { _ in true })
        let report = try await run(children: 1, remote: ["127.0.0.1:\(at)"]) { $0.publish = .broadcast }
        #expect(report.ok, "\(report.text)")
        #expect(report.throughput.received == 600)
        let clock = try #require(report.clocks.first)
        #expect(report.clocks.count == 1)
        #expect(abs(clock.offset) <= clock.error)
    }

    @Test("a worker that listens turns away who does not know the secret")
    func secret() async throws {
        let (ports, port) = AsyncStream.makeStream(of: Int.self)
        let listening = Task {
            try await Worker(secret: "another secret, not that of the run").listen(at: SocketAddress(ipAddress: "127.0.0.1", port: 0)) {
                port.yield($0?.port ?? 0)
            }
        }
        defer { listening.cancel() }
        let at = try #require(await ports.first { _ in true })
        await #expect(throws: LoadtestError.self) { try await run(children: 1, remote: ["127.0.0.1:\(at)"]) }
    }

    @Test("a program that is no worker ends the run with a reason")
    func noWorker() async throws {
        let target = try Target("http://127.0.0.1:1", allowRemote: false)
        let plan = try RunPlan(
            runID: "test", targets: [target], publishTargets: [target], apiKey: "k", users: (0..<4).map { RunPlan.User(name: "u\($0)", token: "t") }, connections: 4
        )
        await #expect(throws: LoadtestError.self) { try await WorkerFleet.start(plan, .init(children: 2, program: "/bin/true")) }
    }
}

@Suite("Shares and clocks")
struct ShareTests {
    @Test("the shares of several processes make up the whole", arguments: [(10, 7, 2), (100, 10, 3), (5, 5, 5), (40_000, 40_000, 2)])
    func shares(example: (Int, Int, Int)) throws {
        let (connections, users, processes) = example
        let target = try Target("http://127.0.0.1:1", allowRemote: false)
        let plan = try RunPlan(
            runID: "r", targets: [target], publishTargets: [target], apiKey: "k", users: (0..<users).map { RunPlan.User(name: "u\($0)", token: "t") },
            connections: connections
        )
        let shares = (0..<processes).map { WorkerShare(of: plan, process: $0, processes: processes, allowRemote: false, origin: plan.origin) }
        #expect(shares.map(\.connections).reduce(0, +) == connections)
        #expect(Set(shares.flatMap { $0.users.map(\.name) }).count == users)
        // Every user has as many streams as without processes.
        for share in shares {
            let part = try share.plan()
            let counts = Dictionary(grouping: 0..<part.connections) { part.users[part.user(ofStream: $0)].name }.mapValues(\.count)
            for (name, count) in counts {
                let user = try #require(plan.userIndex[name])
                #expect(count == (plan.connections - user + users - 1) / users)
            }
        }
        // Ports are for each address: two processes share none when there are many streams.
        if connections > RunPlan.streamsPerSource { #expect(Set(shares[0].sources).isDisjoint(with: shares[1].sources)) }
    }

    @Test("a recorder that was sent to another process is the same, on the other's clock")
    func coding() throws {
        var recorder = LatencyRecorder(window: 1_000_000_000..<4_000_000_000, intervals: true)
        for number in 0..<1_000 { recorder.record(due: 1_000_000_000 + UInt64(number) * 2_500_000, at: 1_000_000_000 + UInt64(number) * 3_000_000) }
        var again = try JSONDecoder().decode(LatencyRecorder.self, from: JSONEncoder().encode(recorder))
        #expect(again.percentiles == recorder.percentiles)
        #expect(again.perSecond == recorder.perSecond)
        #expect(again.timeline(at: 0).map(\.latency) == recorder.timeline(at: 0).map(\.latency))
        again.shift(by: -500)
        #expect(again.window == 1_000_000_500..<4_000_000_500)
        again.shift(by: 500)
        #expect(again.last == recorder.last)
    }

    @Test("a last answer that was late as any other does not make a short step look slow")
    func tail() {
        var recorder = LatencyRecorder(window: 0..<1_000_000_000)
        for number in 0..<100 { recorder.record(due: UInt64(number) * 10_000_000, at: UInt64(number) * 10_000_000 + 110_000_000) }
        #expect(recorder.perSecond < 95)
        #expect(recorder.perSecond(forgiving: 250_000_000) == 100)
    }

    @Test("the fastest exchange says how two clocks stand, within half of what it took")
    func clock() {
        var estimate = ClockEstimate()
        // The other clock is 1,000 behind; the way there takes 400 of 500, then 30 of 50.
        estimate.exchange(sent: 10_000, theirs: 9_400, received: 10_500)
        #expect(estimate.error == 250)
        estimate.exchange(sent: 20_000, theirs: 19_030, received: 20_050)
        estimate.exchange(sent: 30_000, theirs: 29_900, received: 31_000)
        #expect(estimate.error == 25)
        #expect(abs(estimate.offset + 1_000) <= 25)
    }
}
