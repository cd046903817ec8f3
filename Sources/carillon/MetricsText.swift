import NotificationBus

/// Builds Prometheus' text format (0.0.4).
struct MetricsText {
    private(set) var text = ""

    mutating func gauge(_ name: String, _ help: String, _ value: Int) { self.one(name, help, "gauge", value) }
    mutating func counter(_ name: String, _ help: String, _ value: Int) { self.one(name, help, "counter", value) }

    mutating func gauges(_ name: String, _ help: String, _ values: [(labels: String, value: Int)]) {
        self.family(name, help, "gauge", values.map { ($0.labels, "\($0.value)") })
    }
    mutating func gauges(_ name: String, _ help: String, _ values: [(labels: String, value: String)]) { self.family(name, help, "gauge", values) }
    mutating func counters(_ name: String, _ help: String, _ values: [(labels: String, value: String)]) { self.family(name, help, "counter", values) }

    mutating func family(_ name: String, _ help: String, _ type: String, _ values: [(labels: String, value: String)]) {
        self.text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
        for (labels, value) in values { self.text += labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n" }
    }

    private mutating func one(_ name: String, _ help: String, _ type: String, _ value: Int) { self.family(name, help, type, [("", "\(value)")]) }

    mutating func histogram(_ name: String, _ help: String, _ histogram: Histogram) { self.histograms(name, help, [("", histogram)]) }

    mutating func histograms(_ name: String, _ help: String, _ histograms: [(labels: String, histogram: Histogram)]) {
        self.text += "# HELP \(name) \(help)\n# TYPE \(name) histogram\n"
        for (labels, histogram) in histograms {
            let (cumulative, sum) = histogram.snapshot
            let (first, own) = labels.isEmpty ? ("", "") : (labels + ",", "{\(labels)}")
            for (bound, count) in zip(Histogram.bounds, cumulative) { self.text += "\(name)_bucket{\(first)le=\"\(bound)\"} \(count)\n" }
            let total = cumulative.last ?? 0
            self.text += "\(name)_bucket{\(first)le=\"+Inf\"} \(total)\n\(name)_sum\(own) \(sum)\n\(name)_count\(own) \(total)\n"
        }
    }

    /// What stands between the braces.
    static func labels(_ labels: [(String, String)]) -> String {
        labels.map { name, value in
            var escaped = ""
            for character in value.unicodeScalars {
                switch character {
                case "\\": escaped += "\\\\"
                case "\"": escaped += "\\\""
                case "\n": escaped += "\\n"
                default: escaped.unicodeScalars.append(character)
                }
            }
            return "\(name)=\"\(escaped)\""
        }.joined(separator: ",")
    }
}
