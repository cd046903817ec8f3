import Foundation
import NIOConcurrencyHelpers
import Testing

@testable import carillon_loadtest

/// Whole runs against a server that does right, or wrong in one known way.
@Suite(.serialized)
struct RunTests {
    private func run(
        _ faults: [FakeServer.Fault] = [], framing: FakeServer.Framing = .close, connections: Int = 6, users: Int = 6, rate: Double = 100, mix: Double = 0,
        group: Int = 1, warmup: Double = 0, adjust: (inout RunPlan) -> Void = { _ in }
    ) async throws -> (report: RunReport, stalled: (from: UInt64, to: UInt64)?) {
        let server = try await FakeServer(faults, framing: framing)
        let target = try Target("http://127.0.0.1:\(server.port)", allowRemote: false)
        var plan = try RunPlan(
            runID: "test", targets: [target], publishTargets: [target], apiKey: "ck_test",
            users: (0..<users).map { RunPlan.User(name: "u\($0)", token: "u\($0)") }, connections: connections
        )
        plan.rate = rate
        plan.duration = 0.6
        plan.warmup = warmup
        plan.mix = mix
        plan.group = group
        plan.publishConnections = 8
        plan.settle = 1
        adjust(&plan)
        let report = try await LoadRun(plan: plan).run()
        let stalled = server.stalled.withLockedValue { $0 }
        try await server.stop()
        return (report, stalled)
    }

    @Test("a faultless server passes, its streams delimited by close or in chunks", arguments: FakeServer.Framing.allCases)
    func faultless(framing: FakeServer.Framing) async throws {
        let report = try await run(framing: framing, mix: 1, warmup: 0.2).report
        #expect(report.ok, "\(report.text)")
        #expect(report.throughput.due == 80)
        #expect(report.throughput.received == 80)
        #expect(report.throughput.acknowledged == 80)
        #expect(report.throughput.operations > 0)
        #expect(report.latency.publishToReceipt.count == 60)
        #expect(report.latency.request.count == 60)
        #expect(report.correctness.usersCompared == 6)
        #expect(report.correctness.unreadUnchecked == 0)
        #expect(report.servers.first?.body == "{\"version\":\"fake\"}")
    }

    @Test("several streams of a user each show everything")
    func severalStreams() async throws {
        let report = try await run(connections: 6, users: 2, mix: 0.5).report
        #expect(report.ok, "\(report.text)")
        #expect(report.throughput.received == 180)
    }

    @Test("a group that spans the event loops is acknowledged on each", arguments: [3, 5])
    func groups(size: Int) async throws {
        let report = try await run(group: size) { $0.rate = Double(size) * 50 }.report
        #expect(report.ok, "\(report.text)")
        #expect(report.throughput.due == UInt64(size) * 30)
        #expect(report.throughput.received == UInt64(size) * 30)
    }

    @Test("one user is enough for two loops")
    func oneUser() async throws {
        #expect(try await run(connections: 1, users: 1, mix: 0.5).report.ok)
    }

    @Test("lost notifications are counted, in the middle and at the end")
    func lost() async throws {
        let report = try await run([.lose(10), .lose(11), .lose(60)]).report
        #expect(report.correctness == Correctness(lost: 3, usersCompared: 6))
        #expect(!report.ok)
    }

    @Test("a lost notification counts once for each stream that should have shown it")
    func lostTwice() async throws {
        let report = try await run([.lose(10)], connections: 4, users: 2).report
        #expect(report.correctness.lost == 2)
    }

    @Test("a notification shown twice is counted, even as the last of all")
    func doubled() async throws {
        let report = try await run([.double(7), .double(60)]).report
        #expect(report.correctness == Correctness(duplicated: 2, usersCompared: 6))
        #expect(!report.ok)
        #expect(report.throughput.received == 60)
    }

    @Test("a late number is out of order and not lost")
    func reordered() async throws {
        let report = try await run([.swap(12)]).report
        #expect(report.correctness == Correctness(reordered: 1, usersCompared: 6))
        #expect(!report.ok)
    }

    @Test("a wrong unread count is one error for each lie")
    func lies() async throws {
        let report = try await run([.lie(5, by: 3), .lie(20, by: -1)]).report
        #expect(report.correctness == Correctness(unreadWrong: 2, usersCompared: 6))
        #expect(!report.ok)
    }

    @Test("a count that the API answers differently is wrong")
    func lyingCount() async throws {
        #expect(try await run([.lyingCount]).report.correctness == Correctness(unreadWrong: 6, usersCompared: 6))
    }

    @Test("an acknowledged notification that no stream showed is lost, though its number came")
    func wrongID() async throws {
        #expect(try await run([.wrongID(9)]).report.correctness == Correctness(lost: 1, usersCompared: 6))
    }

    @Test("a failed request is an error by its status")
    func failed() async throws {
        let report = try await run([.fail(4)]).report
        #expect(report.errors.requests == ["500": 1])
        #expect(report.correctness.isClean)
        #expect(!report.ok)
    }

    @Test("broken streams resume and lose nothing")
    func disconnected() async throws {
        let report = try await run([.disconnect(30)], mix: 0.5).report
        #expect(report.ok, "\(report.text)")
        #expect(report.errors.disconnected == 6)
        #expect(report.errors.resumed == 6)
        #expect(report.throughput.received == 60)
    }

    @Test("a resync is counted and what it covers is not lost")
    func resynced() async throws {
        let report = try await run([.resync(15)]).report
        #expect(report.correctness == Correctness(resynced: 1, usersCompared: 6))
        #expect(!report.ok)
    }

    @Test("a stream refused at first is tried again and counted")
    func refused() async throws {
        let report = try await run([.refuse(2, status: 503)]).report
        #expect(report.connect.refused == ["503": 2])
        #expect(report.connect.ready == 6)
        #expect(!report.ok)
    }

    @Test("streams that are refused for good end the run with a reason")
    func refusedForGood() async throws {
        await #expect(throws: LoadtestError.environment(
            "None of 6 streams became ready (401: 6)", "Check that the targets run, and that the tokens are signed with their key"
        )) {
            try await run([.refuse(1_000, status: 401)])
        }
    }

    @Test("a stalled server is charged for everything that was due meanwhile")
    func stalled() async throws {
        let (report, stalled) = try await run([.stall(20, milliseconds: 300)], rate: 200)
        let stall = try #require(stalled)
        #expect(report.correctness.isClean)
        #expect(report.throughput.received == 120)
        // Every message that was due before the stall and came after it waited at least the stall's whole length.
        let length = Double(stall.to - stall.from) / 1e6
        #expect(report.latency.publishToReceipt.max >= length * 0.999)
        // At 200/s, 30 more were due in the first half of it, a quarter of all: the upper percentiles have to show that half,
        // although a tool that sends only when it is answered would have seen a single slow one.
        #expect(report.latency.publishToReceipt.p90 >= length / 2 * 0.9)
        #expect(report.latency.request.p90 >= length / 2 * 0.9)
    }

    @Test("one delayed event is the slowest, and the rest are not charged for it")
    func delayed() async throws {
        let report = try await run([.delay(30, milliseconds: 400)]).report
        #expect(report.ok, "\(report.text)")
        #expect(report.latency.publishToReceipt.max >= 399)
        // Six of the sixty wait, the user's later ones among them: half of all have nothing to do with it.
        #expect(report.latency.publishToReceipt.p50 < report.latency.publishToReceipt.p99)
        #expect(report.latency.publishToReceipt.count == 60)
    }

    @Test("inboxes that the API lists as the streams showed them are right, over several pages")
    func inboxes() async throws {
        let report = try await run(connections: 4, users: 2, mix: 0.5) { $0.inboxUsers = 100 }.report
        #expect(report.ok, "\(report.text)")
        #expect(report.correctness.inboxesCompared == 2)
    }

    @Test("an inbox that lacks a notification, or has it in the wrong state, is wrong in that one", arguments: [FakeServer.Fault.hide(20), .wrongState(20)])
    func wrongInbox(fault: FakeServer.Fault) async throws {
        let report = try await run([fault]) { $0.inboxUsers = 100 }.report
        #expect(report.correctness == Correctness(usersCompared: 6, inboxWrong: 1, inboxesCompared: 6))
        #expect(!report.ok)
    }

    @Test("a notification that was lost on its stream is not counted again in the inbox")
    func lostAndListed() async throws {
        let report = try await run([.lose(20)]) { $0.inboxUsers = 100 }.report
        #expect(report.correctness == Correctness(lost: 1, usersCompared: 6, inboxesCompared: 5))
    }

    @Test("what is over the bound while the server stalls is counted as overrun")
    func overrun() async throws {
        let report = try await run([.stall(20, milliseconds: 300)], rate: 200) {
            $0.outstandingLimit = 8
            $0.publishConnections = 2
        }.report
        #expect(report.errors.overrun > 0)
        #expect(report.throughput.due == 120)
        #expect(report.throughput.acknowledged + report.errors.overrun == 120)
        #expect(report.correctness.isClean)
        #expect(!report.ok)
    }

    @Test("an idle run shows each user one notification and resumes each stream")
    func idle() async throws {
        let server = try await FakeServer()
        let target = try Target("http://localhost:\(server.port)", allowRemote: false)
        let plan = try RunPlan(
            runID: "test", targets: [target], publishTargets: [target], apiKey: "ck_test",
            users: (0..<20).map { RunPlan.User(name: "u\($0)", token: "u\($0)") }, connections: 20
        )
        let report = try await IdleRun(plan: plan, pids: [ProcessInfo.processInfo.processIdentifier], rest: 0).run()
        try await server.stop()
        #expect(report.ready == 20)
        #expect(report.received == 20)
        #expect(report.resumed == 20)
        #expect(report.correctness.isClean)
        #expect(report.refused.isEmpty)
        #expect(report.residentPerConnection != nil)
    }

    @Test("the JSON report can be read back")
    func json() async throws {
        let report = try await run().report
        let object = try #require(try JSONSerialization.jsonObject(with: report.json) as? [String: Any])
        let correctness = try #require(object["correctness"] as? [String: Any])
        #expect(correctness["unread_wrong"] as? Int == 0)
        let latency = try #require(object["latency"] as? [String: Any])
        #expect((latency["publish_to_receipt"] as? [String: Any])?["count"] as? Int == 60)
    }
}
