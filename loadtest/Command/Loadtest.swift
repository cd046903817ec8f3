import ArgumentParser
import Foundation

struct Loadtest: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "carillon-loadtest",
        abstract: "Loads a Carillon cluster and checks that every stream shows every change once, in order, with the right count.",
        subcommands: [RunCommand.self, IdleCommand.self, CompareCommand.self, WorkerCommand.self]
    )
}

/// The entry point; wrong usage ends with status 2, whatever the parser's own convention is.
@main
struct Entry {
    static func main() async {
        do {
            var command = try Loadtest.parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch let error as LoadtestError {
            report("error: \(error)")
            exit(error.code == .usage ? 2 : 1)
        } catch {
            guard Loadtest.exitCode(for: error) == .validationFailure else { Loadtest.exit(withError: error) }
            report(Loadtest.fullMessage(for: error))
            exit(2)
        }
    }

    static func report(_ line: String) {
        FileHandle.standardError.write(Data((line + "\n").utf8))
    }
}
