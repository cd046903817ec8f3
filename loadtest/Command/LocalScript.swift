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
        var said: [UInt8] = []
        let status = try Subprocess.run(path, arguments, seconds: seconds) { said.append(contentsOf: $0) }
        guard status == 0 else {
            throw .environment("\(command) ended with status \(status)", "Run it by hand, or give the options on the command line")
        }
        return String(decoding: said, as: UTF8.self)
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
