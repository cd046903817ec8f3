/// `idle`: what a stream costs while nothing happens on it, after it has shown something and has resumed.
struct IdleRun: Sendable {
    struct Report: Codable, Sendable {
        struct Process: Codable, Sendable {
            var pid: Int32
            var before: ProcessMemory
            var after: ProcessMemory
        }

        var connections: Int
        var ready: Int
        var processes: [Process]
        /// Of all processes together; nil without any.
        var residentPerConnection: Double?
        var proportionalPerConnection: Double?
        var received: UInt64
        var resumed: UInt64
        var refused: [String: UInt64]
        var requestErrors: [String: UInt64]
        var correctness: Correctness

        var text: String {
            var text = "\(ready) of \(connections) streams, \(received) notifications shown, \(resumed) resumed"
            text += "; refused \(RunReport.list(refused)); request errors \(RunReport.list(requestErrors)); lost \(correctness.lost)\n"
            for process in processes {
                text += "pid \(process.pid): RSS \(process.before.resident) -> \(process.after.resident) bytes"
                if let before = process.before.proportional, let after = process.after.proportional { text += ", Pss \(before) -> \(after) bytes" }
                text += "\n"
            }
            if let residentPerConnection { text += "\(Int(residentPerConnection)) bytes RSS per connection\n" }
            if let proportionalPerConnection { text += "\(Int(proportionalPerConnection)) bytes Pss per connection\n" }
            return text
        }
    }

    let plan: RunPlan
    let pids: [Int32]
    /// Seconds of quiet before the second look.
    let rest: Double

    func run() async throws -> Report {
        let before = try pids.map { pid throws(LoadtestError) in try ProcessMemory.of(pid) }
        let engine = try await LoadEngine.start(plan)
        do {
            try await engine.openStreams()
            guard try await engine.counters().live > 0 else {
                let refused = try await engine.counters().refused
                throw LoadtestError.environment("No stream became ready (\(RunReport.list(refused)))", "Check that the targets run and know the tokens")
            }
            try await engine.notifyEach()
            try await engine.settle()
            try await engine.dropAndResume()
            try await engine.settle()
            try await Task.sleep(for: .seconds(rest))
            let after = try pids.map { pid throws(LoadtestError) in try ProcessMemory.of(pid) }
            let result = try await engine.result()
            try await engine.stop()
            return report(before, after, result)
        } catch {
            try await engine.stop()
            throw error
        }
    }

    private func report(_ before: [ProcessMemory], _ after: [ProcessMemory], _ result: LoopResult) -> Report {
        let live = result.counters.live
        func perConnection(_ value: (ProcessMemory) -> UInt64?) -> Double? {
            let (earlier, later) = (before.compactMap(value), after.compactMap(value))
            guard !pids.isEmpty, earlier.count == pids.count, later.count == pids.count, live > 0 else { return nil }
            return (Double(later.reduce(0, +)) - Double(earlier.reduce(0, +))) / Double(live)
        }
        return Report(
            connections: plan.connections, ready: live,
            processes: zip(pids, zip(before, after)).map { Report.Process(pid: $0, before: $1.0, after: $1.1) },
            residentPerConnection: perConnection(\.resident), proportionalPerConnection: perConnection(\.proportional),
            received: result.counters.received, resumed: result.counters.resumed, refused: result.counters.refused,
            requestErrors: result.counters.requestErrors, correctness: result.correctness
        )
    }
}
