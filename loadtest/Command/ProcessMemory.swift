import Foundation

/// Resident memory of a process, in bytes (proc(5)).
struct ProcessMemory: Codable, Sendable, Equatable {
    /// VmRSS: pages in memory, shared ones included.
    var resident: UInt64
    /// Pss: the same with shared pages divided among those that share them. Absent where the kernel does not tell.
    var proportional: UInt64?

    static func of(_ pid: Int32) throws(LoadtestError) -> ProcessMemory {
        guard let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8), let resident = kilobytes("VmRSS", status) else {
            throw .environment("The memory of process \(pid) cannot be read", "Check the pid, and that it belongs to the same user")
        }
        let rollup = try? String(contentsOfFile: "/proc/\(pid)/smaps_rollup", encoding: .utf8)
        return ProcessMemory(resident: resident, proportional: rollup.flatMap { kilobytes("Pss", $0) })
    }

    /// The value of a `Name:  123 kB` line in bytes.
    static func kilobytes(_ name: String, _ text: String) -> UInt64? {
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name + ":") }) else { return nil }
        return line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { UInt64($0) }.map { $0 * 1_024 }
    }
}
