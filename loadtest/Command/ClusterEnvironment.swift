import Foundation

/// What the environment, or `deploy/local env`, says about the cluster.
struct ClusterEnvironment: Sendable {
    let values: [String: String]

    /// The environment; when it names no cluster and the script is there, what the script says beside it.
    static func current(
        _ environment: [String: String] = ProcessInfo.processInfo.environment, script: LocalScript
    ) throws(LoadtestError) -> ClusterEnvironment {
        let named = environment["CARILLON_URL"] != nil || environment["CARILLON_EDGE_URLS"] != nil
        guard script.isChosen || (!named && script.exists) else { return ClusterEnvironment(values: environment) }
        let said = exports(try script.output(of: ["env"], seconds: 30))
        // A cluster that was named on the command line is not the one of the environment.
        return ClusterEnvironment(values: said.merging(environment) { said, own in script.isChosen ? said : own })
    }

    /// The cluster that the options name: the script's when they name no target, else what this process's environment says.
    static func known(_ options: ConnectionOptions) throws(LoadtestError) -> ClusterEnvironment {
        options.target.isEmpty ? try current(script: options.script) : ClusterEnvironment(values: ProcessInfo.processInfo.environment)
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
}
