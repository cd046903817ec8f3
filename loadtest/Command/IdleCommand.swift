import ArgumentParser
import Foundation

struct IdleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "idle",
        abstract: "Measures the memory of an idle stream: opens them, sends each user one notification, has each resume once, then looks."
    )

    @OptionGroup var connection: ConnectionOptions

    @Option(name: .long, help: "The server's process; several are added up. Default: the edges of CARILLON_PIDS.")
    var pid: [Int32] = []

    @Option(name: .long, help: "Seconds to wait before memory is read at the end.")
    var rest: Double = 3

    @Option(name: .long, help: "Write the report there as JSON.")
    var json: String?

    func run() async throws {
        guard (0...3_600).contains(rest) else { throw LoadtestError.usage("--rest is out of its bounds", "Give 0 to 3600 seconds") }
        var plan = try connection.plan(seconds: rest + connection.connectTimeout * 3)
        // Every user's one notification is due at once.
        plan.outstandingLimit = (plan.users.count + 1) * plan.loops
        let pids = try pid.isEmpty ? edges() : pid
        let report = try await IdleRun(plan: plan, pids: pids, rest: rest).run()
        FileHandle.standardOutput.write(Data(report.text.utf8))
        if let json {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            do { try encoder.encode(report).write(to: URL(fileURLWithPath: json)) } catch {
                throw LoadtestError.environment("The report could not be written to '\(json)' (\(error))", "Give a path that can be written")
            }
        }
    }

    private func edges() throws -> [Int32] {
        try ClusterEnvironment.current(script: connection.script).list("CARILLON_PIDS").compactMap { pair in
            let parts = pair.split(separator: "=")
            return parts.count == 2 && parts[0].hasPrefix("edge") ? Int32(parts[1]) : nil
        }
    }
}
