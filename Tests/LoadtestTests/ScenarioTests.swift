import Foundation
import Testing

@testable import carillon_loadtest

/// Whole runs of each way to publish and each scenario against a server that does right, or wrong in one known way.
@Suite(.serialized)
struct ScenarioTests {
    private func run(_ faults: [FakeServer.Fault] = [], connections: Int = 6, adjust: (inout RunPlan) -> Void = { _ in }) async throws -> RunReport {
        let server = try await FakeServer(faults)
        let target = try Target("http://127.0.0.1:\(server.port)", allowRemote: false)
        var plan = try RunPlan(
            runID: "test", targets: [target], publishTargets: [target], apiKey: "ck_test",
            users: (0..<connections).map { RunPlan.User(name: "u\($0)", token: "u\($0)") }, connections: connections
        )
        plan.rate = 100
        plan.duration = 0.6
        plan.publishConnections = 8
        plan.settle = 1
        adjust(&plan)
        let report = try await LoadRun(plan: plan).run()
        try await server.stop()
        return report
    }

    @Test("every way to publish passes on a server that does right", arguments: Publish.allCases)
    func publish(_ publish: Publish) async throws {
        let report = try await run { $0.publish = publish }
        #expect(report.ok, "\(report.text)")
        #expect(report.throughput.due == 60)
        #expect(report.throughput.acknowledged == 60)
        #expect(report.throughput.received == (publish == .broadcast ? 360 : 60))
        #expect(report.latency.publishToReceipt.count == report.throughput.received)
    }

    @Test("an event that was lost on its way is one, for a broadcast one of each stream", arguments: Publish.allCases)
    func lost(_ publish: Publish) async throws {
        let report = try await run([.lose(20)]) { $0.publish = publish }
        #expect(report.correctness.lost == (publish == .broadcast ? 6 : 1))
        #expect(report.correctness.duplicated == 0)
        #expect(!report.ok)
    }

    @Test("an event that is shown twice is one, for a broadcast one of each stream", arguments: Publish.allCases)
    func doubled(_ publish: Publish) async throws {
        let report = try await run([.double(20)]) { $0.publish = publish }
        #expect(report.correctness.duplicated == (publish == .broadcast ? 6 : 1))
        #expect(report.correctness.lost == 0)
        #expect(!report.ok)
    }

    @Test("a rival is held to the same: what it loses and shows twice is counted", arguments: [Adapter.nchan, .pushpin], [Publish.direct, .broadcast])
    func rivals(adapter: Adapter, publish: Publish) async throws {
        func run(_ faults: [FakeServer.Fault]) async throws -> RunReport {
            try await self.run(faults) {
                $0.adapter = adapter
                $0.publish = publish
            }
        }
        let streams: UInt64 = publish == .broadcast ? 6 : 1
        let right = try await run([])
        #expect(right.ok, "\(right.text)")
        #expect(right.throughput.received == 60 * streams)
        let wrong = try await run([.lose(20), .double(30)])
        #expect(wrong.correctness == Correctness(lost: streams, duplicated: streams))
        #expect(!wrong.ok)
    }

    @Test("streams that are all cut at once come back and catch up")
    func storm() async throws {
        let report = try await run { $0.stormAt = 0.2 }
        #expect(report.ok, "\(report.text)")
        #expect(report.storm?.streams == 6)
        #expect(report.storm?.caughtUp != nil)
        #expect(report.errors.resumed == 6)
    }

    @Test("slow readers get everything, and are measured apart")
    func slow() async throws {
        let report = try await run(connections: 100) { $0.slowPercent = 10 }
        #expect(report.ok, "\(report.text)")
        #expect(report.phases[0].slowReaders.map { $0.count > 0 } == true)
        #expect(report.throughput.received == 60)
    }

    @Test("a ramp ends at the first rate that breaks, and names the last that held")
    func ramp() async throws {
        let report = try await run([.fail(70)]) {
            $0.ramp = RampLimit(p99: 10_000)
            $0.phases = [50, 100, 200].map { SendPhase(name: "\($0)", rate: Double($0), duration: 0.5, warmup: 0) }
        }
        #expect(report.phases.map(\.held) == [true, false])
        #expect(report.text.contains("last rate that held: 50/s"))
        #expect(report.ok)
    }

    @Test("a part that holds fewer streams closes some, and those that come back later have lost nothing", arguments: [Publish.notify, .direct, .trigger])
    func connections(publish: Publish) async throws {
        let report = try await run {
            ($0.verifyUsers, $0.inboxUsers) = (6, 6)
            $0.phases = [3, 6, 2, 5].map { count in
                SendPhase(name: "part", rate: 100, duration: 0.3, warmup: 0, publish: publish, connections: count)
            }
        }
        #expect(report.ok, "\(report.text)")
        #expect(report.phases.map(\.streams) == [3, 6, 2, 5])
        #expect(report.errors.disconnected == 0)
        #expect(report.throughput.acknowledged == 120)
    }

    @Test("a part runs its command before its streams come back, and says when they had shown what they missed")
    func before() async throws {
        let path = NSTemporaryDirectory() + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: path) }
        let report = try await run {
            $0.phases = [6, 1, 6].map { SendPhase(name: "part", rate: 100, duration: 0.3, warmup: 0, connections: $0) }
            $0.phases[2].before = "touch '\(path)'"
        }
        #expect(report.ok, "\(report.text)")
        #expect(FileManager.default.fileExists(atPath: path))
        #expect(report.phases.map { $0.opening?.streams } == [nil, nil, 5])
        #expect(report.phases[2].opening?.caughtUp != nil)
    }

    @Test("a command that fails ends the run")
    func beforeFails() async throws {
        await #expect(throws: LoadtestError.self) {
            try await run { $0.phases = [SendPhase(name: "part", rate: 100, duration: 0.3, warmup: 0, before: "exit 3")] }
        }
    }

    @Test("what was lost on a stream that was closed since is counted")
    func lostBeforeClosed() async throws {
        let report = try await run([.lose(12)]) {
            $0.phases = [6, 1].map { SendPhase(name: "part", rate: 100, duration: 0.3, warmup: 0, connections: $0) }
        }
        #expect(report.correctness.lost == 1)
    }

    @Test("the patience for an earlier part does not end a later one")
    func patience() async throws {
        // The first part's patience (1 s, and 1 s for an answer) is over while the second one is being sent.
        let report = try await run {
            $0.ramp = RampLimit(p99: 10_000)
            $0.requestTimeout = 1
            $0.settle = 1
            $0.phases = [SendPhase(name: "short", rate: 100, duration: 0.2, warmup: 0), SendPhase(name: "long", rate: 100, duration: 3, warmup: 0)]
        }
        #expect(report.phases.map(\.held) == [true, true], "\(report.text)")
        #expect(report.throughput.acknowledged == 320)
        #expect(report.phases[1].latency.count == 300)
    }

    @Test("a stall of two seconds in the middle shows in the percentiles and in its interval")
    func stall() async throws {
        let report = try await run([.stall(20, milliseconds: 2_000)]) { $0.duration = 3 }
        #expect(report.ok, "\(report.text)")
        #expect(report.latency.publishToReceipt.p99 > 1_900)
        #expect(report.phases[0].intervals.count == 3)
        #expect(report.phases[0].intervals.map(\.latency.count).reduce(0, +) == 300)
        #expect(report.phases[0].intervals[0].latency.max > 1_900)
    }

    @Test("the HTML report needs nothing else, and hides nothing that is wrong")
    func html() async throws {
        let page = HTMLReport(try await run([.lose(20)])).page
        #expect(page.contains("<svg") && page.contains("failed"))
        for outside in ["http-equiv", "src=", "href=", "url(", "@import"] { #expect(!page.contains(outside)) }
    }

    @Test("a report that was written is read again, and is no worse than itself")
    func compare() async throws {
        let report = try await run()
        let path = NSTemporaryDirectory() + UUID().uuidString + ".json"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try report.json.write(to: URL(fileURLWithPath: path))
        let again = try RunReport.read(path)
        let same = Comparison(again, again, tolerance: 0)
        #expect(same.ok, "\(same.text)")
        var slower = again
        slower.latency.publishToReceipt.p99 *= 1.2
        #expect(!Comparison(again, slower, tolerance: 0.1).ok)
        #expect(Comparison(again, slower, tolerance: 0.3).ok)
        #expect(Comparison(slower, again, tolerance: 0.1).ok)
    }
}

@Suite("Scenario files and options")
struct ScenarioFileTests {
    private let base = SendPhase(name: "steady", rate: 10, duration: 1, warmup: 3)

    @Test("phases take what they do not say from the command line")
    func phases() throws {
        let text = "phases:\n  - {name: calm, rate: 5, duration: 2, warm-up: 1}\n  - {duration: 3, publish: direct, group: 4, connections: 70, before: ls}\n"
        let phases = try ScenarioFile.phases(text, name: "f.yaml", base: base)
        #expect(phases == [
            SendPhase(name: "calm", rate: 5, duration: 2, warmup: 1),
            SendPhase(name: "phase 2", rate: 10, duration: 3, warmup: 0, publish: .direct, group: 4, connections: 70, before: "ls"),
        ])
    }

    @Test("an error in a scenario file names its line", arguments: [
        ("phases:\n  - duration: 1\n    rate: fast\n", 3), ("phases:\n  - duration: 1\n    speed: 3\n", 3), ("other: 1\n", 1),
        ("phases:\n  - rate: 1\n", 2), ("phases:\n  - duration: 1\n    publish: pigeon\n", 3), ("phases:\n  - duration: 1\n    group: 1.5\n", 3), ("phases:\n  - duration: 1\n    connections: 0\n", 3),
    ])
    func errors(example: (String, Int)) {
        do {
            _ = try ScenarioFile.phases(example.0, name: "f.yaml", base: base)
            Issue.record("it was accepted")
        } catch { #expect(error.message.hasPrefix("f.yaml:\(example.1): "), "\(error)") }
    }

    @Test("source addresses are ranges and lists")
    func sources() throws {
        #expect(try SourceAddresses.parse("127.0.0.254-127.0.1.1,127.0.0.9") == ["127.0.0.254", "127.0.0.255", "127.0.1.0", "127.0.1.1", "127.0.0.9"])
        for wrong in ["", "127.0.0", "127.0.0.9-127.0.0.2", "127.0.0.1-", "0.0.0.0-255.255.255.255"] {
            #expect(throws: LoadtestError.self) { try SourceAddresses.parse(wrong) }
        }
    }
}
