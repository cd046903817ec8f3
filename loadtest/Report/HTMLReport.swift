import Foundation

/// The page of a run.
struct HTMLReport {
    private let report: RunReport

    init(_ report: RunReport) { self.report = report }

    var page: String {
        let settings = report.settings
        return HTMLPage(
            title: "Carillon load test", ok: report.ok,
            subtitle: "\(report.startedAt.formatted(.iso8601)) · \(settings.connections) streams · \(Plot.label(settings.rate))/s by \(settings.publish.rawValue)"
                + " · \(report.machine.cpu), \(report.machine.cores) cores",
            tiles: tiles,
            plots: Plot.of(intervals: report.phases.flatMap(\.intervals), curve: report.curve, samples: report.samples, marks: report.marks), text: report.text
        ).page
    }

    private var tiles: [(String, String)] {
        let c = report.correctness
        let wrong = c.lost + c.duplicated + c.reordered + c.unreadWrong + c.resynced + c.wrongEpoch + c.malformed + c.inboxWrong
        let latency = report.latency.publishToReceipt
        var tiles = [
            ("p50", Plot.label(latency.p50) + " ms"), ("p99", Plot.label(latency.p99) + " ms"), ("p99.9", Plot.label(latency.p999) + " ms"),
            ("received", Plot.label(report.throughput.receivedPerSecond) + "/s"), ("connected", Plot.label(report.connect.perSecond) + "/s"),
            ("wrong events", String(wrong)),
        ]
        if let cpu = report.serverCpuPerEvent { tiles.append(("server CPU per event", Plot.label(cpu) + " µs")) }
        return tiles
    }
}
