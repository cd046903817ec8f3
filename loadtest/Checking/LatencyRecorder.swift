import Histogram

/// Latencies of what was due within the measured part of a run; the warm-up stays out.
struct LatencyRecorder: Sendable {
    /// One hour in nanoseconds; longer ones count as this.
    private static let highest: UInt64 = 3_600_000_000_000

    private(set) var histogram = Histogram<UInt64>(lowestDiscernibleValue: 1_000, highestTrackableValue: highest, numberOfSignificantValueDigits: .three)
    /// Due times in nanoseconds that count.
    let window: Range<UInt64>
    /// When the newest counted message came.
    private(set) var last: UInt64 = 0

    init(window: Range<UInt64>) {
        self.window = window
    }

    var count: UInt64 { histogram.totalCount }

    /// The latency counts from the moment the message was due, not from when it could be sent.
    mutating func record(due: UInt64, at now: UInt64) {
        guard window.contains(due) else { return }
        last = max(last, now)
        histogram.record(min(now > due ? now - due : 0, Self.highest))
    }

    mutating func merge(_ other: LatencyRecorder) {
        histogram.add(other.histogram)
        last = max(last, other.last)
    }

    /// Counted messages a second, from the start of the window to the last of them: a server that falls behind shows
    /// less than the rate.
    var perSecond: Double {
        guard count > 0, last > window.lowerBound else { return 0 }
        return Double(count) * 1e9 / Double(max(last, window.upperBound) - window.lowerBound)
    }

    var percentiles: Percentiles {
        func milliseconds(_ value: UInt64) -> Double { (Double(value) / 1e3).rounded() / 1e3 }
        func at(_ percentile: Double) -> Double { count == 0 ? 0 : milliseconds(histogram.valueAtPercentile(percentile)) }
        return Percentiles(
            count: count, p50: at(50), p90: at(90), p99: at(99), p999: at(99.9), max: count == 0 ? 0 : milliseconds(histogram.max),
            mean: count == 0 ? 0 : milliseconds(UInt64(histogram.mean))
        )
    }
}

/// Milliseconds.
struct Percentiles: Codable, Equatable, Sendable {
    var count: UInt64
    var p50: Double
    var p90: Double
    var p99: Double
    var p999: Double
    var max: Double
    var mean: Double
}
