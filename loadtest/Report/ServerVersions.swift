/// Versions of Postgres and Redis, and the settings that durability hangs on, asked with their own clients where the environment says where they are.
enum ServerVersions {
    static let settings = ["server_version", "fsync", "full_page_writes", "synchronous_commit"]

    static func read(_ environment: ClusterEnvironment) -> [String: String] {
        var versions: [String: String] = [:]
        if let url = environment["CARILLON_DATABASE_URL"] {
            let query = "select string_agg(name || ' ' || setting, ', ' order by name) from pg_settings where name in ('"
            let answer = said("psql", ["-XAtw", "-c", query + settings.joined(separator: "','") + "')", url])
            versions["postgres"] = answer ?? "not reached"
        }
        if let url = environment["CARILLON_REDIS_URL"] {
            let answer = said("redis-cli", ["-u", url, "--no-auth-warning", "info", "server"])
            let line = answer?.split(whereSeparator: \.isNewline).first { $0.hasPrefix("redis_version:") }
            versions["redis"] = line.map { String($0.dropFirst("redis_version:".count)) } ?? "not reached"
        }
        return versions
    }

    /// Nil when the program is missing or fails: the report then says that the server was not reached.
    private static func said(_ program: String, _ arguments: [String]) -> String? {
        var output: [UInt8] = []
        do throws(LoadtestError) {
            guard try Subprocess.run(program, arguments, seconds: 5, output: { output.append(contentsOf: $0.prefix(65_536)) }) == 0 else { return nil }
        } catch {
            return nil
        }
        let text = String(decoding: output, as: UTF8.self)
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }
}
