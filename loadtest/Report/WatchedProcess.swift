import Foundation

/// A process of the servers under test, as `CARILLON_PIDS` names it.
struct WatchedProcess: Codable, Sendable, Equatable {
    var name: String
    var pid: Int32

    /// This tool, with the workers that it started.
    static var own: WatchedProcess { WatchedProcess(name: "carillon-loadtest", pid: getpid()) }

    /// `name=pid` pairs.
    static func parse(_ pairs: [String]) -> [WatchedProcess] {
        pairs.compactMap { pair in
            let parts = pair.split(separator: "=")
            guard parts.count == 2, let pid = Int32(parts[1]) else { return nil }
            return WatchedProcess(name: String(parts[0]), pid: pid)
        }
    }
}

/// What a process and all that it started use at one moment.
struct ProcessUsage: Codable, Sendable, Equatable {
    /// Seconds of CPU, user and system, of those that live and of those that were waited for.
    var cpu: Double
    /// VmRSS in bytes; pages shared within the tree count for each.
    var resident: UInt64
}

/// Reads `/proc` (proc(5)); processes that are gone are left out.
enum ProcessTable {
    private struct Row {
        var pid: Int32
        var parent: Int32
        var cpu: Double
        var resident: UInt64
    }

    /// Usage by the watched process's name; one pass over `/proc` for all.
    static func usage(of watched: [WatchedProcess]) -> [String: ProcessUsage] {
        guard !watched.isEmpty, let entries = try? FileManager.default.contentsOfDirectory(atPath: "/proc") else { return [:] }
        let rows = entries.compactMap { Int32($0) }.compactMap(row)
        let children = Dictionary(grouping: rows, by: \.parent)
        let byPid = Dictionary(rows.map { ($0.pid, $0) }) { first, _ in first }
        var usage: [String: ProcessUsage] = [:]
        for process in watched {
            guard let root = byPid[process.pid] else { continue }
            var sum = ProcessUsage(cpu: 0, resident: 0)
            var waiting = [root]
            while let next = waiting.popLast() {
                sum.cpu += next.cpu
                sum.resident += next.resident
                waiting += children[next.pid] ?? []
            }
            usage[process.name] = sum
        }
        return usage
    }

    private static func row(_ pid: Int32) -> Row? {
        // A process may end between the listing and this.
        guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return nil }
        return parse(text, pid: pid)
    }

    private static func parse(_ text: String, pid: Int32) -> Row? {
        // The name stands in parentheses and may hold anything; the fields after it are numbered from 3.
        guard let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 21, let parent = Int32(fields[1]), let pages = UInt64(fields[21]) else { return nil }
        let ticks = fields[11...14].compactMap { Double($0) }.reduce(0, +)
        return Row(pid: pid, parent: parent, cpu: ticks / Double(sysconf(Int32(_SC_CLK_TCK))), resident: pages * UInt64(sysconf(Int32(_SC_PAGESIZE))))
    }
}
