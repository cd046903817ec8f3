import Foundation

/// What the environment, or `deploy/local env`, says about the cluster.
struct ClusterEnvironment: Sendable {
    let values: [String: String]

    /// The program that knows the cluster of this machine, relative to the working directory.
    static let script = "deploy/local"

    /// The environment; when it names no cluster and the script is there, what the script says beside it.
    static func current(_ environment: [String: String] = ProcessInfo.processInfo.environment) throws(LoadtestError) -> ClusterEnvironment {
        guard environment["CARILLON_URL"] == nil, environment["CARILLON_EDGE_URLS"] == nil, FileManager.default.isExecutableFile(atPath: script) else {
            return ClusterEnvironment(values: environment)
        }
        let said = exports(try output(of: ["env"], seconds: 30))
        return ClusterEnvironment(values: said.merging(environment) { _, own in own })
    }

    subscript(name: String) -> String? {
        values[name].flatMap { $0.isEmpty ? nil : $0 }
    }

    func list(_ name: String) -> [String] {
        self[name]?.split(separator: " ").map(String.init) ?? []
    }

    /// The values of `export NAME=value` lines in a shell's quoting: bare, `'…'`, `"…"`, `$'…'`-free, with backslashes.
    static func exports(_ text: String) -> [String: String] {
        var values: [String: String] = [:]
        for line in text.split(separator: "\n") {
            guard line.hasPrefix("export "), let equals = line.firstIndex(of: "=") else { continue }
            let name = line.dropFirst(7)[..<equals].trimmingCharacters(in: .whitespaces)
            values[name] = unquoted(line[line.index(after: equals)...])
        }
        return values
    }

    private static func unquoted(_ text: Substring) -> String {
        var value = ""
        var quote: Character?
        var escaped = false
        for character in text {
            if escaped {
                // Between double quotes a backslash is taken away only before these (POSIX 2.2.3).
                if quote == "\"", !"\\\"$`".contains(character) { value.append("\\") }
                value.append(character)
                escaped = false
            } else if character == "\\", quote != "'" {
                escaped = true
            } else if character == quote {
                quote = nil
            } else if quote == nil, character == "'" || character == "\"" {
                quote = character
            } else if quote == nil, character == " " {
                break
            } else {
                value.append(character)
            }
        }
        return value
    }

    /// What the script prints; it is ended after `seconds`.
    static func output(of arguments: [String], seconds: Double) throws(LoadtestError) -> String {
        let command = ([script] + arguments).joined(separator: " ")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: script)
        process.arguments = arguments
        process.standardInput = FileHandle.nullDevice
        let pipe = Pipe()
        process.standardOutput = pipe
        do { try process.run() } catch {
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
}
