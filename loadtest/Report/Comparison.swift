import Foundation

extension RunReport {
    static func read(_ path: String) throws(LoadtestError) -> RunReport {
        do {
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            decoder.dateDecodingStrategy = .iso8601
            return try decoder.decode(RunReport.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw .usage("'\(path)' is no report of a run (\(error))", "Give files that `run --json` wrote")
        }
    }
}

/// Two runs beside each other.
struct Comparison: Sendable {
    struct Row: Sendable {
        enum Verdict: String, Sendable { case better, same, worse, unknown = "-" }

        var name: String
        var a: Double?
        var b: Double?
        var ratio: Double?
        var verdict: Verdict
    }

    private(set) var rows: [Row] = []
    /// What differs in how the runs were made: ratios then say less.
    private(set) var differences: [String] = []
    /// Runs whose streams did not show what they should.
    private(set) var failed: [String] = []

    /// Whether the second run is correct and in nothing worse by more than the tolerance.
    var ok: Bool { failed.isEmpty && !rows.contains { $0.verdict == .worse } }

    init(_ a: RunReport, _ b: RunReport, tolerance: Double) {
        func add(_ name: String, _ value: (RunReport) -> Double?, lowerIsBetter: Bool) {
            let (first, second) = (value(a), value(b))
            var row = Row(name: name, a: first, b: second, ratio: nil, verdict: .unknown)
            if let first, let second, first > 0, second > 0 {
                let ratio = second / first
                let worse = lowerIsBetter ? ratio : 1 / ratio
                row.ratio = ratio
                row.verdict = worse > 1 + tolerance ? .worse : worse < 1 / (1 + tolerance) ? .better : .same
            }
            rows.append(row)
        }
        add("receipt p50, ms", { $0.latency.publishToReceipt.p50 }, lowerIsBetter: true)
        add("receipt p99, ms", { $0.latency.publishToReceipt.p99 }, lowerIsBetter: true)
        add("receipt p99.9, ms", { $0.latency.publishToReceipt.p999 }, lowerIsBetter: true)
        add("request p50, ms", { $0.latency.request.p50 }, lowerIsBetter: true)
        add("request p99, ms", { $0.latency.request.p99 }, lowerIsBetter: true)
        add("sent/s", { $0.throughput.sentPerSecond }, lowerIsBetter: false)
        add("received/s", { $0.throughput.receivedPerSecond }, lowerIsBetter: false)
        add("connects/s", { $0.connect.perSecond }, lowerIsBetter: false)
        add("server CPU, µs per event", { $0.serverCpuPerEvent }, lowerIsBetter: true)
        add("server RSS per stream, KiB", { $0.serverResidentPerConnection.map { $0 / 1_024 } }, lowerIsBetter: true)
        func differ<Value: Equatable>(_ name: String, _ value: (RunReport) -> Value) {
            if value(a) != value(b) { differences.append("\(name): \(value(a)) and \(value(b))") }
        }
        differ("adapter") { $0.settings.adapter.rawValue }
        differ("machine") { $0.machine.cpu }
        differ("cores") { $0.machine.cores }
        differ("connections") { $0.settings.connections }
        differ("rate") { $0.settings.rate }
        differ("duration") { $0.settings.duration }
        differ("publish") { $0.settings.publish }
        differ("group") { $0.settings.group }
        differ("mix") { $0.settings.mix }
        if !a.ok { failed.append("A") }
        if !b.ok { failed.append("B") }
    }

    var text: String {
        func cell(_ value: Double?, _ digits: Int = 2) -> String {
            let text = value.map { String(format: "%.\(digits)f", $0) } ?? "-"
            return String(repeating: " ", count: max(1, 12 - text.count)) + text
        }
        var text = differences.map { "differs: \($0)\n" }.joined()
        text += "".padding(toLength: 28, withPad: " ", startingAt: 0) + "           A           B         B/A\n"
        for row in rows {
            text += row.name.padding(toLength: 28, withPad: " ", startingAt: 0) + cell(row.a) + cell(row.b) + cell(row.ratio, 3)
            text += "  \(row.verdict.rawValue)\n"
        }
        for run in failed { text += "\(run) was not correct: see its report\n" }
        return text + (ok ? "OK\n" : "WORSE\n")
    }
}
