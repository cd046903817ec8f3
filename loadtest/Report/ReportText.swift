import Foundation

extension RunReport {
    /// The report for a reader.
    var text: String {
        func number(_ value: Double, _ digits: Int = 1) -> String { String(format: "%.\(digits)f", value) }
        func row(_ name: String, _ p: Percentiles) -> String {
            let cells = [p.p50, p.p90, p.p99, p.p999, p.max].map { value in
                let text = number(value, 2)
                return String(repeating: " ", count: max(1, 10 - text.count)) + text
            }
            return "  " + name.padding(toLength: 24, withPad: " ", startingAt: 0) + cells.joined() + "   n=\(p.count)\n"
        }
        var text = ""
        text += "\(command.joined(separator: " "))\n"
        text += "machine: \(machine.cpu), \(machine.cores) cores, \(machine.memoryBytes >> 20) MiB, \(machine.system)\n"
        for server in servers {
            let health = server.status.map { $0 == 200 || $0 == 503 ? "\($0) \(server.body?.prefix(300) ?? "")" : "not told (\($0)), as by a load balancer" }
            text += "server \(server.url): health \(health ?? "not answered")\n"
        }
        for (name, version) in versions.sorted(by: { $0.key < $1.key }) { text += "\(name): \(version)\n" }
        for clock in clocks {
            text += "\(clock.worker): its clock is ahead by \(number(clock.offset, 3)) ms, give or take \(number(clock.error, 3)) ms;"
            text += " moved by \(number(clock.drift, 3)) ms during the run\n"
        }
        text += "\nstreams: \(connect.ready) of \(settings.connections) ready for \(settings.users) users in \(number(connect.seconds, 2)) s"
        text += " (\(number(connect.perSecond, 0))/s)\n"
        text += "sent \(number(throughput.sentPerSecond))/s, received \(number(throughput.receivedPerSecond))/s"
        text += " of \(number(settings.rate))/s due over \(number(settings.duration)) s; whole run: due \(throughput.due),"
        text += " acknowledged \(throughput.acknowledged), received \(throughput.received), operations \(throughput.operations)\n\n"
        text += "  milliseconds                   p50       p90       p99     p99.9       max\n"
        text += row("publish to receipt", latency.publishToReceipt)
        text += row("notify request", latency.request)
        text += row("inbox operation", latency.operation)
        text += row("lateness of this tool", latency.toolLateness)
        text += row("connect to ready", connect.latency)
        if let slow = phases.first?.slowReaders { text += row("on slow readers", slow) }
        if phases.count > 1 || phases.first?.held != nil {
            text += "\n  part                        rate    sent/s     p50 ms    p99 ms    errors\n"
            for part in phases {
                let cells = [part.phase.rate, part.sentPerSecond, part.latency.p50, part.latency.p99, Double(part.errors)].map { number($0, 2) }
                text += "  " + part.phase.name.padding(toLength: 22, withPad: " ", startingAt: 0)
                text += cells.map { String(repeating: " ", count: max(1, 10 - $0.count)) + $0 }.joined()
                if part.wanted != settings.connections { text += "   on \(part.streams) streams" }
                text += part.held.map { $0 ? "  held\n" : "  broke\n" } ?? "\n"
                if let opening = part.opening {
                    text += "    \(opening.streams) streams ready after \(number(opening.ready, 2)) s, caught up after "
                    text += opening.caughtUp.map { number($0, 2) + " s\n" } ?? "more than was waited for\n"
                }
            }
            if let held = phases.last(where: { $0.held == true }) {
                text += "last rate that held: \(Plot.label(held.phase.rate))/s\n"
            } else if phases.first?.held == false { text += "no rate held\n" }
        }
        if let storm {
            text += "\nstorm: \(storm.streams) streams cut; all ready after \(number(storm.ready, 2)) s, caught up after "
            text += storm.caughtUp.map { number($0, 2) + " s\n" } ?? "more than was waited for\n"
        }
        text += "\nthis tool: \(number(toolCpu, 2)) s of CPU\n"
        if let serverCpuPerEvent {
            text += "\nservers: \(number(serverCpuPerEvent)) µs of CPU for each event received ("
            text += serverCpu.sorted { $0.key < $1.key }.map { "\($0.key) \(number($0.value, 2)) s" }.joined(separator: ", ") + ")\n"
        }
        text += "\nlost \(correctness.lost)  duplicated \(correctness.duplicated)  reordered \(correctness.reordered)"
        text += "  unread wrong \(correctness.unreadWrong)  resynced \(correctness.resynced)  wrong epoch \(correctness.wrongEpoch)"
        text += "  malformed \(correctness.malformed)  inbox wrong \(correctness.inboxWrong)\n"
        text += "compared with the API: \(correctness.usersCompared) users, \(correctness.inboxesCompared) inboxes; counts not checkable: \(correctness.unreadUnchecked)\n"
        text += "request errors: \(Self.list(errors.requests)); overrun \(errors.overrun); skipped \(errors.skipped)\n"
        text += "streams refused: \(Self.list(connect.refused)); disconnected \(errors.disconnected), resumed \(errors.resumed);"
        text += " closed by the server: \(Self.list(errors.closed))\n"
        text += ok ? "OK\n" : "FAILED\n"
        return text
    }
}
