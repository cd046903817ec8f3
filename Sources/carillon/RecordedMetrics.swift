import CoreMetrics
import NotificationBus
import Synchronization

/// What is measured through swift-metrics, by the gateway and by libraries, kept for `/metrics`.
///
/// Counters end in `_total`, timers are histograms in seconds, recorders and meters gauges with the last value. There are at most
/// ``seriesBound`` series; what comes later is only counted as dropped.
final class RecordedMetrics: MetricsFactory, Sendable {
    static let seriesBound = 4000

    private enum Kind: String {
        case counter, histogram, gauge
    }

    private struct Family {
        var kind: Kind
        var series: [String: any Sendable & AnyObject] = [:]
    }

    private struct State {
        var families: [String: Family] = [:]
        var series = 0
        var dropped = 0
    }

    /// What the gateway and this program measure; libraries' have no description.
    private static let help = [
        "carillon_http_requests_total": "Requests answered, by route as it was declared; streams are not among them.",
        "carillon_http_request_seconds": "From the end of the request to the head of its answer.",
        "carillon_event_loop_delay_seconds": "How late a timer of the event loop was, looked at four times a second.",
    ]

    private let state = Mutex(State())

    func write(to text: inout MetricsText) {
        let (families, dropped) = self.state.withLock { ($0.families, $0.dropped) }
        for (name, family) in families.sorted(by: { $0.key < $1.key }) {
            let help = Self.help[name] ?? "Measured by a library."
            let series = family.series.sorted { $0.key < $1.key }
            switch family.kind {
            case .histogram: text.histograms(name, help, series.compactMap { entry in (entry.value as? Timed).map { (entry.key, $0.histogram) } })
            case .counter: text.counters(name, help, series.compactMap { entry in (entry.value as? Counted).map { (entry.key, "\($0.value)") } })
            case .gauge: text.gauges(name, help, series.compactMap { entry in (entry.value as? Gauged).map { (entry.key, "\($0.value)") } })
            }
        }
        text.counter("carillon_metrics_dropped_series_total", "Series that are not here since there were too many.", dropped)
    }

    /// The series of that name and labels: the one that is there, or a new one.
    private func series<Series: Sendable & AnyObject>(_ label: String, _ ending: String, _ kind: Kind, _ dimensions: [(String, String)], _ make: () -> Series) -> Series {
        var name = Self.name(label)
        if !name.hasSuffix(ending) { name += ending }
        let labels = MetricsText.labels(dimensions.map { (Self.name($0), $1) })
        return self.state.withLock { state in
            if let found = state.families[name]?.series[labels] as? Series { return found }
            let made = make()
            // Two kinds of one name would make the whole text unreadable.
            guard state.series < Self.seriesBound, state.families[name]?.kind ?? kind == kind else {
                state.dropped += 1
                return made
            }
            state.series += 1
            state.families[name, default: Family(kind: kind)].series[labels] = made
            return made
        }
    }

    private static func name(_ label: String) -> String {
        let name = String(label.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
        return name.first?.isNumber ?? true ? "_" + name : name
    }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        self.series(label, "_total", .counter, dimensions) { Counted() }
    }

    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        self.series(label, "_seconds", .histogram, dimensions) { Timed() }
    }

    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        self.series(label, "", .gauge, dimensions) { Gauged() }
    }

    func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        self.series(label, "", .gauge, dimensions) { Gauged() }
    }

    // A series stays for as long as the process: Prometheus would take one that comes again for a restart.
    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyMeter(_ handler: any MeterHandler) {}
}

private final class Counted: CounterHandler, Sendable {
    private let total = Atomic<Int64>(0)

    var value: Int64 { self.total.load(ordering: .relaxed) }
    func increment(by amount: Int64) { self.total.wrappingAdd(amount, ordering: .relaxed) }
    func reset() { self.total.store(0, ordering: .relaxed) }
}

private final class Timed: TimerHandler, Sendable {
    let histogram = Histogram()

    func recordNanoseconds(_ duration: Int64) { self.histogram.record(microseconds: duration / 1000) }
}

private final class Gauged: RecorderHandler, MeterHandler, Sendable {
    private let last = Mutex(0.0)

    var value: Double { self.last.withLock { $0 } }
    func record(_ value: Int64) { self.set(Double(value)) }
    func record(_ value: Double) { self.set(value) }
    func set(_ value: Int64) { self.set(Double(value)) }
    func set(_ value: Double) { self.last.withLock { $0 = value } }
    func increment(by amount: Double) { self.last.withLock { $0 += amount } }
    func decrement(by amount: Double) { self.last.withLock { $0 -= amount } }
}
