import Foundation

/// The program that knows the cluster of this machine, `deploy/local`.
struct LocalScript: Sendable {
    /// Relative to the working directory, or absolute.
    var path: String
    /// The state folder, if it is not the script's own.
    var state: String?
    /// Whether the command line named either.
    var isChosen: Bool

    init(
        path: String? = nil, state: String? = nil, environment: [String: String] = ProcessInfo.processInfo.environment
    ) {
        self.path = path ?? environment["CARILLON_LOCAL"] ?? "deploy/local"
        self.state = state ?? environment["CARILLON_LOCAL_STATE"]
        isChosen = path != nil || state != nil
    }

    var exists: Bool { FileManager.default.isExecutableFile(atPath: path) }

    /// What the script prints; it is ended after `seconds`. Blocks.
    func output(of arguments: [String], seconds: Double) throws(LoadtestError) -> String {
        let arguments = arguments + (state.map { ["--state", $0] } ?? [])
        let command = ([path] + arguments).joined(separator: " ")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.standardInput = FileHandle.nullDevice
        let pipe = Pipe()
        process.standardOutput = pipe
        do { try Self.withoutBlockedSignals { try process.run() } } catch {
            throw .environment("\(command) did not start (\(error))", "Run it by hand, or give the options on the command line")
        }
        let identifier = process.processIdentifier
        let watchdog = DispatchWorkItem { kill(identifier, SIGTERM) }
        DispatchQueue.global().asyncAfter(deadline: .now() + seconds, execute: watchdog)
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        watchdog.cancel()
        guard process.terminationStatus == 0 else {
            throw .environment("\(command) ended with status \(process.terminationStatus)", "Run it by hand, or give the options on the command line")
        }
        return String(decoding: data, as: UTF8.self)
    }

    /// The threads of dispatch queues block signals, and what is started from one would inherit that: a Redis that never hears a SIGTERM.
    private static func withoutBlockedSignals(_ body: () throws -> Void) rethrows {
        var none = sigset_t()
        var before = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        try body()
    }

    /// The same without blocking the caller's thread; it is not ended when the caller is cancelled, so that nothing is left half done.
    func run(_ arguments: [String], seconds: Double) async throws -> String {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async {
                do throws(LoadtestError) {
                    continuation.resume(returning: try output(of: arguments, seconds: seconds))
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
    }
}
