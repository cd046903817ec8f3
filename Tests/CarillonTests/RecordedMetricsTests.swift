import CoreMetrics
import Testing

@testable import carillon

struct RecordedMetricsTests {
    private func text(of metrics: RecordedMetrics) -> String {
        var text = MetricsText()
        metrics.write(to: &text)
        return text.text
    }

    @Test("counters, timers and gauges are written as Prometheus reads them")
    func kinds() {
        let metrics = RecordedMetrics()
        Counter(label: "things", dimensions: [("kind", "a \"b\"\n\\")], factory: metrics).increment(by: 3)
        Timer(label: "some.time", factory: metrics).recordNanoseconds(2_000_000)
        Gauge(label: "level", factory: metrics).record(7)
        let text = self.text(of: metrics)
        #expect(text.contains("# TYPE things_total counter\nthings_total{kind=\"a \\\"b\\\"\\n\\\\\"} 3\n"))
        #expect(text.contains("some_time_seconds_bucket{le=\"0.001\"} 0\nsome_time_seconds_bucket{le=\"0.0025\"} 1\n"))
        #expect(text.contains("some_time_seconds_sum 0.002\nsome_time_seconds_count 1\n"))
        #expect(text.contains("# TYPE level gauge\nlevel 7.0\n"))
    }

    @Test("one name and one set of labels are one series, whoever asks")
    func same() {
        let metrics = RecordedMetrics()
        for _ in 0..<3 { Counter(label: "things", factory: metrics).increment() }
        #expect(self.text(of: metrics).contains("things_total 3\n"))
    }

    @Test("there is a bound to the series, and what is past it is counted")
    func bound() {
        let metrics = RecordedMetrics()
        for number in 0..<(RecordedMetrics.seriesBound + 5) { Counter(label: "things", dimensions: [("n", "\(number)")], factory: metrics).increment() }
        let lines = self.text(of: metrics).split(separator: "\n")
        #expect(lines.count { $0.hasPrefix("things_total{") } == RecordedMetrics.seriesBound)
        #expect(lines.contains("carillon_metrics_dropped_series_total 5"))
    }

    @Test("a name is of one kind")
    func kind() {
        let metrics = RecordedMetrics()
        Counter(label: "a_total", factory: metrics).increment()
        Gauge(label: "a_total", factory: metrics).record(1)
        #expect(!self.text(of: metrics).contains("a_total gauge"))
    }
}
