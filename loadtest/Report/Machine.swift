import Foundation

/// Where the figures were measured.
struct Machine: Codable, Sendable {
    var cpu: String
    var cores: Int
    var memoryBytes: UInt64
    var system: String

    static var current: Machine {
        let information = ProcessInfo.processInfo
        let cpu = try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
        let model = cpu?.split(separator: "\n").first { $0.hasPrefix("model name") }?.split(separator: ":").last
        let kernel = try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)
        return Machine(
            cpu: model.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown", cores: information.activeProcessorCount,
            memoryBytes: information.physicalMemory,
            system: information.operatingSystemVersionString + (kernel.map { ", kernel " + $0.trimmingCharacters(in: .whitespacesAndNewlines) } ?? "")
        )
    }
}
