import ArgumentParser
import Foundation

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Holds streams, sends on an open-loop schedule, checks everything, and reports."
    )

    /// A scenario by name, or a file.
    enum Scenario: ExpressibleByArgument, Equatable {
        case steady, ramp, broadcast, reconnectStorm, slowReaders, chaos
        case file(String)

        init?(argument: String) {
            switch argument {
            case "steady": self = .steady
            case "ramp": self = .ramp
            case "broadcast": self = .broadcast
            case "reconnect-storm": self = .reconnectStorm
            case "slow-readers": self = .slowReaders
            case "chaos": self = .chaos
            default:
                guard argument.hasSuffix(".yaml") || argument.hasSuffix(".yml") else { return nil }
                self = .file(argument)
            }
        }
    }

    @OptionGroup var connection: ConnectionOptions

    @Option(name: .long, help: "steady, ramp, broadcast, reconnect-storm, slow-readers, chaos (breaks a deploy/local cluster), or a FILE.yaml of phases.")
    var scenario = Scenario.steady

    @Option(name: .long, help: "Of the faults of chaos. Default: random; it is printed.")
    var seed: UInt64?

    @Option(name: .long, help: "Notifications a second in total.")
    var rate: Double

    @Option(name: .long, help: "Seconds that are measured.")
    var duration: Double

    @Option(name: [.customLong("warm-up"), .customLong("warmup")], help: "Seconds at the same rate before that, checked but not measured.")
    var warmup: Double = 3

    @Option(name: .long, help: "Users of one notify call.")
    var group = 1

    @Option(name: .long, help: "Reads, deletes and read-alls for each notify call. Default: 0.1, in chaos 0.5.")
    var mix: Double?

    @Option(name: .long, help: "ramp: by how much each step is faster than the one before.")
    var rampFactor = 1.25

    @Option(name: .long, help: "ramp: milliseconds that p99 may have.")
    var rampP99 = 250.0

    @Option(name: .long, help: "reconnect-storm: seconds of sending before every stream is cut. Default: a third of the duration.")
    var stormAt: Double?

    @Option(name: .long, help: "slow-readers: how many of a hundred streams read slowly.")
    var slowPercent = 10

    @Option(name: .long, help: "Addresses that streams come from: 127.0.0.2-127.0.0.9.")
    var sources: String?

    @Option(name: .customLong("publish"), help: "notify, trigger, direct or broadcast. Default: notify, for rivals direct.")
    var chosenPublish: Publish?

    @Option(name: .long, help: "carillon, or a rival for comparison: nchan, pushpin (see loadtest/rivals).")
    var adapter = Adapter.carillon

    @Option(name: .long, help: "Processes that hold the streams and send, this program's own.")
    var processes = 1

    @Option(name: .long, parsing: .upToNextOption, help: "HOST:PORT of `carillon-loadtest worker --listen` on other machines, which take a share.")
    var worker: [String] = []

    private var publish: Publish { chosenPublish ?? (adapter.isCarillon ? .notify : .direct) }

    @Option(name: .long, help: "Requests due and not answered; past it they count as overrun.")
    var outstanding = 20_000

    @Option(name: .long, help: "Seconds without progress after which nothing more is waited for.")
    var settle: Double = 5

    @Option(name: .long, help: "Users whose count is compared with the API's at the end.")
    var verify = 1_000

    @Option(name: .long, help: "Users whose whole inbox is read at the end and compared, notification by notification, with what their stream showed.")
    var verifyInboxes = 100

    @Option(name: .long, help: "Write the report there as one HTML file with plots.")
    var html: String?

    @Option(name: .long, help: "Write the report there as JSON.")
    var json: String?

    func run() async throws {
        let mix = self.mix ?? (scenario == .chaos ? 0.5 : 0.1)
        guard rate > 0, rate <= 1_000_000, duration > 0, duration <= 604_800, (0...3_600).contains(warmup), (1...10_000).contains(group),
            (0...10).contains(mix), outstanding > 0, (0...600).contains(settle), verify >= 0, verifyInboxes >= 0, rampFactor > 1, rampFactor <= 10, rampP99 > 0, (1...99).contains(slowPercent),
            stormAt.map({ (0..<duration + warmup).contains($0) }) ?? true
        else {
            throw LoadtestError.usage("A number is out of its bounds", "See --help; rates and durations are positive, a group has 1 to 10000 users")
        }
        guard (1...256).contains(processes), worker.count <= 256 else { throw LoadtestError.usage("--processes is out of its bounds", "Give 1 to 256") }
        guard scenario != .chaos || processes + worker.count == 1 else { throw LoadtestError.usage("chaos runs in one process", "Leave --processes and --worker out") }
        guard scenario != .chaos || publish == .notify else { throw LoadtestError.usage("chaos publishes by notify", "Leave --publish out") }
        guard scenario != .chaos || adapter.isCarillon else { throw LoadtestError.usage("chaos needs a Carillon cluster", "Leave --adapter out") }
        if scenario == .chaos { return try await runChaos(mix: mix) }
        // The file's parts may hold more streams than the command line says.
        var file: [SendPhase] = []
        if case .file(let path) = scenario { file = try phases(of: path, mix: mix) }
        var connection = connection
        connection.connections = max(connection.connections, file.compactMap(\.connections).max() ?? 0)
        for index in file.indices where file[index].connections == nil { file[index].connections = self.connection.connections }
        var plan = try connection.plan(seconds: max(3_600, max(warmup + duration, file.reduce(0) { $0 + $1.warmup + $1.duration })), adapter: adapter, processes: processes + worker.count)
        guard group <= plan.users.count else {
            throw LoadtestError.usage("A group of \(group) is more than \(plan.users.count) users", "Give a smaller --group or more --users")
        }
        plan.rate = rate
        plan.duration = duration
        plan.warmup = warmup
        plan.group = group
        plan.mix = mix
        plan.outstandingLimit = outstanding
        plan.settle = settle
        plan.verifyUsers = verify
        plan.inboxUsers = adapter.isCarillon ? verifyInboxes : 0
        plan.phases = file
        try arrange(&plan)
        for phase in plan.parts where phase.group > plan.users.count / (processes + worker.count) {
            throw LoadtestError.usage("A group of \(phase.group) is more than the users of a process", "Give a smaller group or more --users")
        }
        guard adapter.isCarillon || Set(plan.parts.map(\.publish)).count == 1 && plan.parts.allSatisfy({ $0.publish.isDirect && $0.group == 1 }) else {
            throw LoadtestError.usage("A rival takes direct events, one channel each, or broadcasts", "Give --publish direct or broadcast, and no --group")
        }
        // Without numbers of their own answers, streams are known to be complete only from the counts of all users.
        if plan.parts.contains(where: { $0.publish == .trigger }) { plan.verifyUsers = plan.users.count }
        let cluster = try ClusterEnvironment.known(connection)
        plan.processes = WatchedProcess.parse(cluster.list("CARILLON_PIDS"))
        if adapter.isCarillon {
            plan.nodes = try (cluster.list("CARILLON_API_URLS") + cluster.list("CARILLON_EDGE_URLS")).map {
                try Target($0, allowRemote: connection.allowRemote)
            }
        }
        let writer = ProgressWriter()
        var run = LoadRun(plan: plan, progress: { writer.write($0) })
        if processes + worker.count > 1 {
            run.workers = WorkerFleet.Settings(
                children: processes, remote: worker, allowRemote: connection.allowRemote,
                secret: ProcessInfo.processInfo.environment["CARILLON_LOADTEST_SECRET"] ?? ""
            )
        }
        var report = try await run.run()
        writer.finish()
        report.versions = ServerVersions.read(cluster)
        if let html { try Self.write(Data(HTMLReport(report).page.utf8), to: html) }
        try write(report.text, try report.json)
        if !report.ok { throw ExitCode(1) }
    }

    func write(_ text: String, _ data: Data) throws {
        FileHandle.standardOutput.write(Data(text.utf8))
        if let json { try Self.write(data, to: json) }
    }

    static func write(_ data: Data, to path: String) throws(LoadtestError) {
        do { try data.write(to: URL(fileURLWithPath: path)) } catch {
            throw .environment("The report could not be written to '\(path)' (\(error))", "Give a path that can be written")
        }
    }

    /// What the scenario changes in the plan.
    private func arrange(_ plan: inout RunPlan) throws {
        plan.publish = publish
        if let sources { plan.sources = try SourceAddresses.parse(sources) }
        switch scenario {
        case .steady, .chaos: break
        case .broadcast: plan.publish = .broadcast
        case .reconnectStorm: plan.stormAt = stormAt ?? warmup + duration / 3
        case .slowReaders: plan.slowPercent = slowPercent
        case .ramp:
            plan.ramp = RampLimit(p99: rampP99)
            var rate = rate
            while plan.phases.count < Self.rampSteps, rate <= 1_000_000 {
                plan.phases.append(
                    SendPhase(
                        name: "\(Plot.label(rate))/s", rate: rate, duration: duration, warmup: plan.phases.isEmpty ? warmup : min(1, warmup), publish: publish,
                        group: group, mix: plan.mix
                    )
                )
                rate *= rampFactor
            }
        case .file: break
        }
        // A direct event has no id, so that there is nothing to read or to delete; every stream is in a broadcast.
        if plan.publish.isDirect { plan.mix = 0 }
        if plan.publish == .broadcast { plan.group = 1 }
        for index in plan.phases.indices where plan.phases[index].publish.isDirect {
            plan.phases[index].mix = 0
            if plan.phases[index].publish == .broadcast { plan.phases[index].group = 1 }
        }
    }

    private func phases(of path: String, mix: Double) throws -> [SendPhase] {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw LoadtestError.usage("The file '\(path)' cannot be read", "Give a name of --help, or a YAML file")
        }
        let base = SendPhase(name: "steady", rate: rate, duration: duration, warmup: warmup, publish: publish, group: group, mix: mix)
        return try ScenarioFile.phases(text, name: path, base: base)
    }

    /// Steps of a ramp.
    private static let rampSteps = 64
}
