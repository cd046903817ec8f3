import ArgumentParser
import Foundation
import NIOCore
import NIOPosix

struct WorkerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker",
        abstract: "Holds a share of another process's run: `run --processes` starts these, and `run --worker` finds those that listen."
    )

    @Option(name: .long, help: "HOST:PORT to wait for runs at; the run has to know CARILLON_LOADTEST_SECRET. Default: the socket of standard input.")
    var listen: String?

    @Flag(name: .long, help: "Accept an address that is not loopback.")
    var allowRemote = false

    func run() async throws {
        guard let listen else {
            return try await Worker(secret: nil).run { $0.withConnectedSocket(STDIN_FILENO) }
        }
        guard let secret = ProcessInfo.processInfo.environment["CARILLON_LOADTEST_SECRET"], secret.utf8.count >= 16 else {
            throw LoadtestError.usage("A worker that listens does what it is told", "Set CARILLON_LOADTEST_SECRET, 16 characters at least, here and for the run")
        }
        let address = try Target("http://\(listen)", allowRemote: allowRemote).address
        try await Worker(secret: secret).listen(at: address) { Entry.report("listening at \($0.map(String.init(describing:)) ?? listen)") }
    }
}
