import ArgumentParser
import Foundation

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Holds streams, sends on an open-loop schedule, checks everything, and reports."
    )

    enum Publish: String, ExpressibleByArgument, CaseIterable { case notify }

    @OptionGroup var connection: ConnectionOptions

    @Option(name: .long, help: "Notifications a second in total.")
    var rate: Double

    @Option(name: .long, help: "Seconds that are measured.")
    var duration: Double

    @Option(name: .long, help: "Seconds at the same rate before that, checked but not measured.")
    var warmup: Double = 3

    @Option(name: .long, help: "Users of one notify call.")
    var group = 1

    @Option(name: .long, help: "Reads, deletes and read-alls for each notify call.")
    var mix: Double = 0.1

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
        guard rate > 0, rate <= 1_000_000, duration > 0, duration <= 604_800, (0...3_600).contains(warmup), (1...10_000).contains(group),
            (0...10).contains(mix), outstanding > 0, (0...600).contains(settle), verify >= 0
        else {
            throw LoadtestError.usage("A number is out of its bounds", "See --help; rates and durations are positive, a group has 1 to 10000 users")
        }
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
        FileHandle.standardOutput.write(Data(report.text.utf8))
        if let json {
            do { try report.json.write(to: URL(fileURLWithPath: json)) } catch {
                throw LoadtestError.environment("The report could not be written to '\(json)' (\(error))", "Give a path that can be written")
            }
        }
        if !report.ok { throw ExitCode(1) }
    }
}
