import Foundation

/// Everything a run found out; its JSON form is the `--json` file. Latencies are in milliseconds.
struct RunReport: Codable, Sendable {
    struct Settings: Codable, Sendable {
        var connections: Int
        var users: Int
        var rate: Double
        var duration: Double
        var warmup: Double
        var group: Int
        var mix: Double
        var publish: Publish
        var adapter: Adapter
        var processes: Int
        var loops: Int
        var publishConnections: Int
        var targets: [String]
        var publishTargets: [String]
    }

    struct Connect: Codable, Sendable {
        var ready: Int
        var perSecond: Double
        var seconds: Double
        var latency: Percentiles
        var refused: [String: UInt64]
    }

    struct Latency: Codable, Sendable {
        var publishToReceipt: Percentiles
        var request: Percentiles
        var operation: Percentiles
        /// How late the tool itself was; figures of a run where this is large say little about the server.
        var toolLateness: Percentiles
    }

    struct Throughput: Codable, Sendable {
        /// Notifications a second within the measured part, and what came of them.
        var sentPerSecond: Double
        var receivedPerSecond: Double
        /// Over the whole run, warm-up included.
        var due: UInt64
        var sent: UInt64
        var acknowledged: UInt64
        var received: UInt64
        var operations: UInt64
        var operationsIdle: UInt64
        var receivedBytes: UInt64
    }

    struct Errors: Codable, Sendable {
        var requests: [String: UInt64]
        var overrun: UInt64
        var skipped: UInt64
        var disconnected: UInt64
        var resumed: UInt64
        var closed: [String: UInt64]
    }

    var program = "carillon-loadtest"
    var command: [String]
    var startedAt: Date
    var machine: Machine
    var servers: [ServerHealth]
    var settings: Settings
    var connect: Connect
    var latency: Latency
    var throughput: Throughput
    var errors: Errors
    var correctness: Correctness
    var phases: [PhaseReport]
    var storm: StormReport?
    /// Publish to receipt, for plots.
    var curve: [CurvePoint]
    var samples: [Sample]
    var marks: [Mark]
    /// Seconds of CPU of this tool's processes while it sent and received.
    var toolCpu: Double
    /// Seconds of CPU of the servers' processes from the last stream's being ready to the last event, by name.
    var serverCpu: [String: Double]
    /// Microseconds of CPU of all of them for each event that a stream received; connecting is left out.
    var serverCpuPerEvent: Double?
    /// Microseconds of CPU of all of them for each stream that was opened at the beginning.
    var serverCpuPerConnection: Double?
    /// Bytes of RSS that all of them grew by while the streams were opened, for each.
    var serverResidentPerConnection: Double?
    /// Of workers on other machines.
    var clocks: [ClockCheck]
    /// Versions and settings of what stands behind the nodes, where it could be asked.
    var versions: [String: String] = [:]
    /// Whether nothing was wrong: exit status 0.
    var ok: Bool

    init(plan: RunPlan, servers: [ServerHealth], streamsReady: Int, connectSeconds: Double, result: LoopResult, phases: [PhaseReport] = [], storm: StormReport? = nil,
        samples: [Sample] = [], marks: [Mark] = [], usage: (before: [String: ProcessUsage], open: [String: ProcessUsage], after: [String: ProcessUsage]) = ([:], [:], [:]), processes: Int = 1, clocks: [ClockCheck] = [], toolCpu: Double = 0
    ) {
        let first = plan.parts[0]
        let counters = result.counters
        command = CommandLine.arguments.redacted
        let elapsed = Double(monotonicNow() - plan.origin) / 1e9
        startedAt = Date(timeIntervalSinceNow: -elapsed)
        machine = .current
        self.servers = servers
        settings = Settings(
            connections: plan.connections, users: plan.users.count, rate: first.rate, duration: first.duration, warmup: first.warmup, group: first.group,
            mix: first.mix, publish: first.publish, adapter: plan.adapter, processes: processes, loops: plan.loops, publishConnections: plan.publishConnections, targets: plan.targets.map(\.description),
            publishTargets: plan.publishTargets.map(\.description)
        )
        connect = Connect(
            ready: streamsReady, perSecond: Double(streamsReady) / connectSeconds, seconds: connectSeconds, latency: result.connect.percentiles,
            refused: counters.refused
        )
        latency = Latency(
            publishToReceipt: result.receipt.percentiles, request: result.request.percentiles, operation: result.operation.percentiles,
            toolLateness: result.tool.percentiles
        )
        throughput = Throughput(
            sentPerSecond: result.request.perSecond * Double(first.group), receivedPerSecond: result.receipt.perSecond, due: counters.due,
            sent: counters.sent, acknowledged: counters.acknowledged, received: counters.received, operations: counters.operationsDone,
            operationsIdle: counters.operationsIdle, receivedBytes: counters.receivedBytes
        )
        errors = Errors(
            requests: counters.requestErrors, overrun: counters.overruns, skipped: counters.skipped, disconnected: counters.disconnected,
            resumed: counters.resumed, closed: counters.closed
        )
        correctness = result.correctness
        self.clocks = clocks
        self.toolCpu = toolCpu
        self.phases = phases
        self.storm = storm
        self.samples = samples
        self.marks = marks
        curve = result.receipt.curve
        serverCpu = usage.after.reduce(into: [:]) { all, entry in
            if let before = usage.open[entry.key] { all[entry.key] = entry.value.cpu - before.cpu }
        }
        func resident(_ usage: [String: ProcessUsage]) -> Double { usage.values.reduce(0) { $0 + Double($1.resident) } }
        serverResidentPerConnection = usage.open.isEmpty || streamsReady == 0 ? nil : (resident(usage.open) - resident(usage.before)) / Double(streamsReady)
        func cpu(_ usage: [String: ProcessUsage]) -> Double { usage.values.reduce(0) { $0 + $1.cpu } }
        serverCpuPerConnection = usage.open.isEmpty || streamsReady == 0 ? nil : (cpu(usage.open) - cpu(usage.before)) * 1e6 / Double(streamsReady)
        serverCpuPerEvent = serverCpu.isEmpty || counters.received == 0 ? nil : serverCpu.values.reduce(0, +) * 1e6 / Double(counters.received)
        ok =
            correctness.isClean && counters.skipped == 0 && streamsReady == first.connections ?? plan.connections && phases.allSatisfy { $0.streams == $0.wanted }
            // A ramp ends where errors begin, and a storm may be held off.
            && (plan.ramp != nil ? phases.first?.held == true : counters.requestErrors.isEmpty && counters.overruns == 0)
            && (plan.ramp != nil || plan.stormAt != nil || counters.refused.isEmpty)
            && (plan.stormAt == nil || storm?.caughtUp != nil)
    }

    var json: Data {
        get throws {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.dateEncodingStrategy = .iso8601
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return try encoder.encode(self) + Data("\n".utf8)
        }
    }

    /// `name: count` pairs, or "none".
    static func list(_ counts: [String: UInt64]) -> String {
        counts.isEmpty ? "none" : counts.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: ", ")
    }
}

extension [String] {
    /// The command line without its secrets: a report is meant to be shown.
    var redacted: [String] {
        let secret = ["--api-key", "--jwt-secret"]
        return enumerated().map { index, word in
            if index > 0, secret.contains(self[index - 1]) { return "…" }
            if let name = secret.first(where: { word.hasPrefix($0 + "=") }) { return name + "=…" }
            return word
        }
    }
}
