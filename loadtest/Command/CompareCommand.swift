import ArgumentParser
import Foundation

struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare", abstract: "Compares the JSON reports of two runs: B against A. Exits 1 when B is worse by more than the tolerance."
    )

    @Argument(help: "The report to compare with.") var a: String
    @Argument(help: "The report that is judged.") var b: String

    @Option(name: .long, help: "By what share a figure may be worse: 0.1 is ten percent.")
    var tolerance = 0.1

    func run() throws {
        guard (0...1_000).contains(tolerance) else { throw LoadtestError.usage("--tolerance is out of its bounds", "Give 0 to 1000") }
        let comparison = Comparison(try RunReport.read(a), try RunReport.read(b), tolerance: tolerance)
        FileHandle.standardOutput.write(Data(comparison.text.utf8))
        if !comparison.ok { throw ExitCode(1) }
    }
}
