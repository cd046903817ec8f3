import Foundation
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// Several processes that hold the streams and send, as one: children of this one, and workers that listen on other machines.
///
/// Each has users of its own, publishes to them and measures that by its own clock; of other machines only what one worker sends to all
/// (`broadcast`) is measured across clocks. Histograms and counts are added up, never percentiles.
struct WorkerFleet: LoadDriver {
    struct Settings: Sendable {
        /// Children, this one's own program unless a test says otherwise.
        var children: Int
        var program = "/proc/self/exe"
        /// HOST:PORT of workers that listen.
        var remote: [String] = []
        var allowRemote = false
        var secret = ""
    }

    private struct Member: Sendable {
        let link: WorkerLink
        /// Nanoseconds that its clock is ahead, as found at the start; 0 on this machine.
        var offset: Int64 = 0
        var error: UInt64 = 0
        let isRemote: Bool

        func theirs(_ time: UInt64) -> UInt64 { time &+ UInt64(bitPattern: offset) }
        func ours(_ time: UInt64) -> UInt64 { time &- UInt64(bitPattern: offset) }
    }

    let plan: RunPlan
    private let group: MultiThreadedEventLoopGroup
    private let members: [Member]

    static func start(_ plan: RunPlan, _ settings: Settings) async throws -> WorkerFleet {
        let total = settings.children + settings.remote.count
        guard plan.users.count >= total else {
            throw LoadtestError.usage("\(plan.users.count) users are too few for \(total) processes", "Give each process one at least")
        }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        var members: [Member] = []
        do {
            for number in 0..<settings.children { members.append(Member(link: try await child(settings.program, number, group), isRemote: false)) }
            for name in settings.remote { members.append(Member(link: try await remote(name, settings, group), isRemote: true)) }
            for index in members.indices {
                if members[index].isRemote {
                    let clock = try await estimate(members[index].link)
                    guard Double(clock.error) / 1e6 <= ClockCheck.errorAtMost else {
                        throw LoadtestError.environment(
                            "The clock of \(members[index].link.name) is known to within \(clock.error / 1_000_000) ms only", "Use a machine that is nearer"
                        )
                    }
                    (members[index].offset, members[index].error) = (clock.offset, clock.error)
                }
                let share = WorkerShare(
                    of: plan, process: index, processes: total, allowRemote: settings.allowRemote, origin: members[index].theirs(plan.origin)
                )
                _ = try await members[index].link.ask(.begin(secret: settings.secret, share))
            }
        } catch {
            await end(members, group)
            throw error
        }
        return WorkerFleet(plan: plan, group: group, members: members)
    }

    private static func child(_ program: String, _ number: Int, _ group: MultiThreadedEventLoopGroup) async throws -> WorkerLink {
        let (pid, socket) = try Subprocess.startConnected(program, ["worker"])
        return try await WorkerLink.start(name: "worker process \(number + 1)", pid: pid, on: group.next()) { $0.withConnectedSocket(socket) }
    }

    private static func remote(_ name: String, _ settings: Settings, _ group: MultiThreadedEventLoopGroup) async throws -> WorkerLink {
        let target = try Target("http://\(name)", allowRemote: settings.allowRemote)
        do {
            return try await WorkerLink.start(name: "worker \(name)", pid: nil, on: group.next()) {
                $0.connectTimeout(.seconds(5)).channelOption(.tcpOption(.tcp_nodelay), value: 1).connect(to: target.address)
            }
        } catch {
            throw LoadtestError.environment("Nobody listens at \(name) (\(error))", "Start `carillon-loadtest worker --listen \(name)` there")
        }
    }

    private static func estimate(_ link: WorkerLink) async throws -> ClockEstimate {
        var estimate = ClockEstimate()
        for _ in 0..<ClockCheck.exchanges {
            let sent = monotonicNow()
            let theirs = try await link.ask(.clock).number ?? 0
            estimate.exchange(sent: sent, theirs: theirs, received: monotonicNow())
        }
        return estimate
    }

    // MARK: What a run asks

    func hold(_ connections: Int) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, member) in members.enumerated() {
                let share = WorkerShare.streams(connections, users: plan.users.count, process: index, processes: members.count)
                group.addTask { _ = try await member.link.ask(.hold(share)) }
            }
            try await group.waitForAll()
        }
    }

    func dropAndResume() async throws { try await all(.drop) }
    func hurry() async throws { try await all(.hurry) }
    func markCaughtUpTargets() async throws { try await all(.markCaughtUpTargets) }
    func streamsNotCaughtUp() async throws -> Int { try await sum(.notCaughtUp) }
    func askCounts() async throws { try await all(.askCounts) }
    func askInboxes() async throws { try await all(.askInboxes) }

    func send(origin: UInt64, phase: SendPhase) async throws {
        _ = try await each { .send(origin: $0.theirs(origin), phase) }
    }

    func streamsBehind() async throws -> Int {
        // What was broadcast meanwhile has to be known to those who must show it.
        _ = try await counters()
        return try await sum(.behind)
    }

    func counters() async throws -> LoopCounters {
        let answers = try await each { _ in .counters }
        var sum = LoopCounters()
        var calls: [RelayedCall] = []
        for (member, answer) in zip(members, answers) {
            guard var counters = answer.counters else { continue }
            counters.lastReadyAt = counters.lastReadyAt == 0 ? 0 : member.ours(counters.lastReadyAt)
            sum.add(counters)
            // Only the first one sends to all.
            calls += answer.calls ?? []
        }
        if !calls.isEmpty {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for member in members.dropFirst() {
                    let theirs = calls.map { RelayedCall(call: $0.call, accepted: $0.accepted, at: member.theirs($0.at)) }
                    group.addTask { _ = try await member.link.ask(.expect(theirs)) }
                }
                try await group.waitForAll()
            }
        }
        return sum
    }

    func result() async throws -> LoopResult {
        _ = try await counters()
        var merged: LoopResult?
        for (member, answer) in zip(members, try await each({ _ in .result })) {
            guard var result = answer.result else { continue }
            result.shift(by: member.offset)
            if merged == nil { merged = result } else { merged!.merge(result) }
        }
        guard let merged else { throw LoadtestError.malformed("No worker answered with a result") }
        return merged
    }

    func clocks() async throws -> [ClockCheck] {
        var checks: [ClockCheck] = []
        for member in members where member.isRemote {
            let now = try await Self.estimate(member.link)
            checks.append(
                ClockCheck(
                    worker: member.link.name, offset: Double(member.offset) / 1e6, error: Double(member.error) / 1e6,
                    drift: Double(now.offset - member.offset) / 1e6
                )
            )
        }
        return checks
    }

    func stop() async throws {
        await Self.end(members, group)
    }

    // MARK: -

    /// Asks all at once.
    private func each(_ command: @escaping @Sendable (Member) -> WorkerRequest.Command) async throws -> [WorkerAnswer] {
        try await withThrowingTaskGroup(of: (Int, WorkerAnswer).self) { group in
            for (index, member) in members.enumerated() { group.addTask { (index, try await member.link.ask(command(member))) } }
            var answers: [Int: WorkerAnswer] = [:]
            for try await (index, answer) in group { answers[index] = answer }
            return members.indices.compactMap { answers[$0] }
        }
    }

    private func all(_ command: WorkerRequest.Command) async throws { _ = try await each { _ in command } }

    private func sum(_ command: WorkerRequest.Command) async throws -> Int {
        try await each { _ in command }.reduce(0) { $0 + Int($1.number ?? 0) }
    }

    /// Closes the connections, with which the workers' runs end, and waits for the children.
    private static func end(_ members: [Member], _ group: MultiThreadedEventLoopGroup) async {
        for member in members { member.link.close() }
        for member in members {
            if let pid = member.link.pid { await Subprocess.reap(pid, patience: 10) }
        }
        // The threads have nothing left; a failure to end them leaves nothing undone.
        try? await group.shutdownGracefully()
    }
}
