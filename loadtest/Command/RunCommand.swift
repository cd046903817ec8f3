import ArgumentParser
import Foundation

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Holds streams, sends on an open-loop schedule, checks everything, and reports."
    )

    enum Publish: String, ExpressibleByArgument, CaseIterable { case notify }

    enum Scenario: String, ExpressibleByArgument, CaseIterable { case steady, chaos }

    @OptionGroup var connection: ConnectionOptions

    @Option(name: .long, help: "steady, or chaos: breaks a deploy/local cluster meanwhile and compares every stream with the database.")
    var scenario = Scenario.steady

    @Option(name: .long, help: "Of the faults of chaos. Default: random; it is printed.")
    var seed: UInt64?

    @Option(name: .long, help: "Notifications a second in total.")
    var rate: Double

    @Option(name: .long, help: "Seconds that are measured.")
    var duration: Double

    @Option(name: .long, help: "Seconds at the same rate before that, checked but not measured.")
    var warmup: Double = 3

    @Option(name: .long, help: "Users of one notify call.")
    var group = 1

    @Option(name: .long, help: "Reads, deletes and read-alls for each notify call. Default: 0.1, in chaos 0.5.")
    var mix: Double?

    @Option(name: .long, help: "How notifications are published.")
    var publish = Publish.notify

    @Option(name: .long, help: "Requests due and not answered; past it they count as overrun.")
    var outstanding = 20_000

    @Option(name: .long, help: "Seconds without progress after which nothing more is waited for.")
    var settle: Double = 5

    @Option(name: .long, help: "Users whose count is compared with the API's at the end.")
    var verify = 1_000

    @Option(name: .long, help: "Write the report there as JSON.")
    var json: String?

    func run() async throws {
        let mix = self.mix ?? (scenario == .chaos ? 0.5 : 0.1)
        guard rate > 0, rate <= 1_000_000, duration > 0, duration <= 604_800, (0...3_600).contains(warmup), (1...10_000).contains(group),
            (0...10).contains(mix), outstanding > 0, (0...600).contains(settle), verify >= 0
        else {
            throw LoadtestError.usage("A number is out of its bounds", "See --help; rates and durations are positive, a group has 1 to 10000 users")
        }
        if scenario == .chaos { return try await runChaos(mix: mix) }
        var plan = try connection.plan(seconds: warmup + duration)
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
        let writer = ProgressWriter()
        let report = try await LoadRun(plan: plan, progress: { writer.write($0) }).run()
        writer.finish()
        try write(report.text, try report.json)
        if !report.ok { throw ExitCode(1) }
    }

    func write(_ text: String, _ data: Data) throws {
        FileHandle.standardOutput.write(Data(text.utf8))
        if let json {
            do { try data.write(to: URL(fileURLWithPath: json)) } catch {
                throw LoadtestError.environment("The report could not be written to '\(json)' (\(error))", "Give a path that can be written")
            }
        }
    }
}
