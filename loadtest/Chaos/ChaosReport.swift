import Foundation

/// What a chaos run found; its JSON form is the `--json` file.
struct ChaosReport: Codable, Sendable {
    struct Done: Codable, Sendable {
        var fault: String
        var kind: String
        /// Seconds after sending began.
        var planned: Double
        var began: Double
        var over: Double?
        var note: String?
    }

    struct Times: Codable, Sendable {
        var planned: Int
        var done: Int
    }

    struct Writes: Codable, Sendable {
        /// Notifications that were due, and those answered 201.
        var due: UInt64
        var acknowledged: UInt64
        /// Reads, deletes and read-alls answered 2xx.
        var operations: UInt64
        /// Requests by status, or by what happened instead of an answer.
        var answers: [String: UInt64]
        /// Answered 2xx, of all requests, 0 to 1.
        var share: Double
        /// Creations in doubt that the database has.
        var doubtfulDone: UInt64
    }

    struct Streams: Codable, Sendable {
        var connections: Int
        var liveAtEnd: Int
        var disconnected: UInt64
        var resumed: UInt64
        var refused: [String: UInt64]
        var closed: [String: UInt64]
        var resyncsWithCause: UInt64
    }

    struct Compared: Codable, Sendable {
        var users: UInt64
        var changes: UInt64
        var streams: UInt64
        var events: UInt64
    }

    struct Wrong: Codable, Sendable {
        var event: WrongEvent
        /// Seconds after sending began, if known.
        var at: Double?
        /// Faults under way then, or over for less than three seconds.
        var faults: [String]
    }

    var program = "carillon-loadtest"
    var scenario = "chaos"
    var command: [String]
    var machine: Machine
    var seed: UInt64
    var runId: String
    var duration: Double
    var rate: Double
    var faults: [Done]
    var faultsSkipped: [String]
    var kinds: [String: Times]
    var writes: Writes
    var streams: Streams
    var compared: Compared
    /// From due to the bytes on a stream, in milliseconds.
    var publishToReceipt: Percentiles
    /// For plots, in seconds since the run began: latency by due time, its percentiles, each second, and the faults.
    var intervals: [Interval]
    var curve: [CurvePoint]
    var samples: [Sample]
    var marks: [Mark]
    var silences: SilenceReport
    /// Of the database, before and after.
    var epochs: [UInt64]
    /// From everything being up to nothing missing and nothing coming, the three seconds of watching included.
    var quietSeconds: Double
    var wrongCounts: [String: UInt64]
    var wrong: [Wrong]
    var ok: Bool

    /// Wrong events shown in the text.
    private static let shown = 20

    init(
        plan: RunPlan, faults: FaultPlan, records: [FaultRecord], skipped: [Fault], origin: UInt64, result: LoopResult, oracle: ChaosOracle,
        epochs: (UInt64, UInt64), quietSeconds: Double, samples: [Sample] = []
    ) {
        func seconds(_ time: UInt64) -> Double { ((Double(time) - Double(origin)) / 1e8).rounded() / 10 }
        command = CommandLine.arguments.redacted
        machine = .current
        seed = faults.seed
        runId = plan.runID
        duration = plan.duration
        rate = plan.rate
        self.faults = records.map { record in
            Done(
                fault: record.fault.text, kind: record.fault.kind.description, planned: (record.fault.at * 10).rounded() / 10, began: seconds(record.began),
                over: record.recovered.map(seconds), note: record.note
            )
        }
        faultsSkipped = skipped.map(\.text)
        let planned = faults.counts
        kinds = Fault.Kind.all.reduce(into: [:]) { all, kind in
            all[kind.description] = Times(planned: planned[kind] ?? 0, done: records.count { $0.fault.kind == kind && $0.recovered != nil })
        }
        let counters = result.counters
        let accepted = counters.acknowledged / UInt64(plan.group) + counters.operationsDone
        var answers = counters.requestErrors
        answers["2xx"] = accepted
        if counters.overruns > 0 { answers["overrun"] = counters.overruns }
        let requests = answers.values.reduce(0, +)
        writes = Writes(
            due: counters.due, acknowledged: counters.acknowledged, operations: counters.operationsDone, answers: answers,
            share: requests > 0 ? Double(accepted) / Double(requests) : 0, doubtfulDone: oracle.doubtfulDone
        )
        streams = Streams(
            connections: plan.connections, liveAtEnd: counters.live, disconnected: counters.disconnected, resumed: counters.resumed, refused: counters.refused,
            closed: counters.closed, resyncsWithCause: oracle.resyncsWithCause
        )
        compared = Compared(users: oracle.users, changes: oracle.rows, streams: oracle.streams, events: oracle.events)
        publishToReceipt = result.receipt.percentiles
        func sinceStart(_ time: UInt64) -> Double { Double(time - min(time, plan.origin)) / 1e9 }
        intervals = result.receipt.timeline(at: sinceStart(origin) + plan.warmup)
        curve = result.receipt.curve
        self.samples = samples
        marks = records.map { Mark(at: sinceStart($0.began), name: $0.fault.text, until: $0.recovered.map(sinceStart)) }
        silences = SilenceReport(records, oracle.receipts)
        self.epochs = [epochs.0, epochs.1]
        self.quietSeconds = quietSeconds
        wrongCounts = WrongEvent.Kind.allCases.reduce(into: [:]) { $0[$1.rawValue] = oracle.counts[$1] ?? 0 }
        wrong = oracle.wrong.map { event in
            let active = records.filter { record in
                guard let at = event.at else { return false }
                return record.began <= at && (record.recovered ?? .max - SilenceReport.aftermath) + SilenceReport.aftermath >= at
            }
            return Wrong(event: event, at: event.at.map(seconds), faults: active.map(\.fault.text))
        }
        ok = oracle.isClean
    }

    var json: Data {
        get throws {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return try encoder.encode(self) + Data("\n".utf8)
        }
    }

    var page: String {
        let tiles = [
            ("wrong", String(wrongCounts.values.reduce(0, +))), ("faults", String(faults.count)), ("writes accepted", Self.number(writes.share * 100) + " %"),
            ("p50", Plot.label(publishToReceipt.p50) + " ms"), ("p99", Plot.label(publishToReceipt.p99) + " ms"),
            ("changes compared", String(compared.changes)), ("quiet after", Self.number(quietSeconds) + " s"),
        ]
        return HTMLPage(
            title: "Carillon chaos", ok: ok,
            subtitle: "seed \(seed) · \(streams.connections) streams · \(Plot.label(rate))/s for \(Plot.label(duration)) s · \(machine.cpu), \(machine.cores) cores",
            tiles: tiles, plots: Plot.of(intervals: intervals, curve: curve, samples: samples, marks: marks), text: text
        ).page
    }

    static func text(of plan: FaultPlan) -> String {
        var text = "seed \(plan.seed): \(plan.faults.count) faults in \(Int(plan.seconds)) s\n"
        for fault in plan.faults { text += "  \(column(String(format: "%.1f", fault.at), 8)) s  \(fault.text)\n" }
        let missing = Fault.Kind.all.filter { plan.counts[$0] == nil }
        if !missing.isEmpty { text += "  does not fit: \(missing.map(\.description).joined(separator: ", "))\n" }
        return text
    }

    var text: String {
        var text = "\(command.joined(separator: " "))\nseed \(seed), run \(runId)\n"
        text += "machine: \(machine.cpu), \(machine.cores) cores, \(machine.memoryBytes >> 20) MiB, \(machine.system)\n\nfaults (seconds)  began      over\n"
        for fault in faults {
            text += "            \(Self.column(Self.number(fault.began), 11))\(Self.column(fault.over.map(Self.number) ?? "-", 10))  \(fault.fault)"
            text += "\(fault.note.map { "  (\($0))" } ?? "")\n"
        }
        if !faultsSkipped.isEmpty { text += "not done: \(faultsSkipped.joined(separator: ", "))\n" }
        text += "\nsilence of acknowledged changes (ms)\n"
        text += "                      planned  done    changes   p99 after   max after   max since\n"
        text += "                                                   the end     the end  the answer\n"
        for (kind, times) in kinds.sorted(by: { $0.key < $1.key }) {
            let row = silences.rows.first { $0.kind == kind }
            text += "  " + kind.padding(toLength: 20, withPad: " ", startingAt: 0) + Self.column("\(times.planned)", 7) + Self.column("\(times.done)", 6)
            text += Self.column("\(row?.changes ?? 0)", 11) + Self.column(Self.number(row?.p99 ?? 0), 12) + Self.column(Self.number(row?.longest ?? 0), 12)
            text += Self.column(Self.number(row?.longestFromAcknowledgement ?? 0), 12) + "\n"
        }
        text += "\nwrites: \(Self.number(writes.share * 100))% accepted; \(writes.acknowledged) of \(writes.due) notifications due"
        text += ", \(writes.operations) inbox operations; creations in doubt and done: \(writes.doubtfulDone)\n"
        text += "by answer: \(RunReport.list(writes.answers))\n"
        text += "streams: \(streams.liveAtEnd) of \(streams.connections) live at the end; disconnected \(streams.disconnected), resumed \(streams.resumed);"
        text += " refused: \(RunReport.list(streams.refused)); closed by the server: \(RunReport.list(streams.closed));"
        text += " resyncs with a cause: \(streams.resyncsWithCause)\n"
        text += "publish to receipt (ms): p50 \(publishToReceipt.p50), p99 \(publishToReceipt.p99), max \(publishToReceipt.max)\n"
        text += "all quiet \(Self.number(quietSeconds)) s after everything was up; epoch \(epochs[0])"
        text += "\(epochs[0] == epochs[1] ? "" : " -> \(epochs[1]), which nobody asked for")\n"
        text += "compared: \(compared.users) users, \(compared.changes) changes, \(compared.streams) streams, \(compared.events) events\n\n"
        text += "wrong: \(wrongCounts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: "  "))\n"
        for wrong in wrong.prefix(Self.shown) {
            text += "  \(wrong.event.kind) at \(wrong.at.map(Self.number) ?? "?") s: user \(wrong.event.user)"
            text += "\(wrong.event.stream.map { " stream \($0)" } ?? "")\(wrong.event.seq.map { " seq \($0)" } ?? "")\n"
            text += "      expected \(wrong.event.expected)\n      seen     \(wrong.event.seen)\n"
            text += "      faults   \(wrong.faults.isEmpty ? "none" : wrong.faults.joined(separator: ", "))\n"
        }
        return text + (ok ? "OK\n" : "FAILED\n")
    }

    private static func number(_ value: Double) -> String { String(format: "%.1f", value) }
    private static func column(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(1, width - text.count)) + text }
}
