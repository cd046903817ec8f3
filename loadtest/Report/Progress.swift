import Foundation

/// One second of a run.
struct Progress: Sendable {
    /// Counted from 1.
    let second: Int
    /// 0 to 1.
    let fraction: Double
    let line: String

    init(plan: RunPlan, second: Int, before: LoopCounters, now: LoopCounters) {
        self.second = second
        let due = plan.parts.reduce(0) { $0 + $1.rate * ($1.warmup + $1.duration) }
        fraction = due > 0 ? min(1, Double(now.due) / due) : Double(now.live) / Double(plan.connections)
        let errors = now.requestErrors.values.reduce(0, +) + now.overruns + now.refused.values.reduce(0, +)
        line =
            "\(now.live)/\(plan.connections) streams  sent \(now.sent - before.sent)/s  received \(now.received - before.received)/s"
            + "  waiting \(now.outstanding)  errors \(errors)"
    }
}

/// Writes progress to standard error: one line that is overwritten on a terminal, a plain one every five seconds elsewhere.
struct ProgressWriter: Sendable {
    private let terminal = isatty(STDERR_FILENO) == 1

    func write(_ progress: Progress) {
        if terminal {
            let full = Int(progress.fraction * 20)
            let bar = String(repeating: "#", count: full) + String(repeating: ".", count: 20 - full)
            put("\r\u{1b}[K[\(bar)] \(progress.line)")
        } else if progress.second % 5 == 0 {
            put("\(progress.second) s  \(progress.line)\n")
        }
    }

    /// A line that stays.
    func say(_ line: String) { put(terminal ? "\r\u{1b}[K\(line)\n" : line + "\n") }

    func finish() {
        if terminal { put("\r\u{1b}[K") }
    }

    private func put(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}
