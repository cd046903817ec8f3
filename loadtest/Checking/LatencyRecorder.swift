import Histogram

/// Latencies of what was due within the measured part of a run; the warm-up stays out.
struct LatencyRecorder: Sendable {
    /// One hour in nanoseconds; longer ones count as this.
    private static let highest: UInt64 = 3_600_000_000_000

    private(set) var histogram = Histogram<UInt64>(lowestDiscernibleValue: 1_000, highestTrackableValue: highest, numberOfSignificantValueDigits: .three)
    /// Due times in nanoseconds that count.
    private(set) var window: Range<UInt64>
    /// Nanoseconds of earlier parts.
    private var earlier: UInt64 = 0
    /// When the newest counted message came.
    private(set) var last: UInt64 = 0

    /// The same in parts of the window, by due time; two digits, so that ten minutes stay small.
    private(set) var intervals: [Histogram<UInt64>] = []
    /// Nanoseconds of one part.
    private(set) var interval: UInt64 = 0
    private static let intervalsAtMost: UInt64 = 600

    /// With `intervals` a histogram is kept for each second of the window, or for longer parts of one over ten minutes.
    init(window: Range<UInt64>, intervals: Bool = false) {
        self.window = window
        guard intervals, !window.isEmpty else { return }
        let length = window.upperBound - window.lowerBound
        interval = max(1_000_000_000, (length + Self.intervalsAtMost - 1) / Self.intervalsAtMost)
        let count = Int((length + interval - 1) / interval)
        self.intervals = Array(
            repeating: Histogram(lowestDiscernibleValue: 1_000, highestTrackableValue: Self.highest, numberOfSignificantValueDigits: .two), count: count
        )
    }

    var count: UInt64 { histogram.totalCount }

    /// The latency counts from the moment the message was due, not from when it could be sent.
    mutating func record(due: UInt64, at now: UInt64) {
        guard window.contains(due) else { return }
        last = max(last, now)
        let latency = min(now > due ? now - due : 0, Self.highest)
        histogram.record(latency)
        if interval > 0 { intervals[Int((due - window.lowerBound) / interval)].record(latency) }
    }

    mutating func merge(_ other: LatencyRecorder) {
        histogram.add(other.histogram)
        if interval == other.interval {
            for index in 0..<min(intervals.count, other.intervals.count) { intervals[index].add(other.intervals[index]) }
        }
        last = max(last, other.last)
    }

    /// Adds what a later part of the run measured; rates are then over both parts together.
    mutating func append(_ later: LatencyRecorder) {
        histogram.add(later.histogram)
        earlier += elapsed
        window = later.window
        last = later.last
    }

    /// Nanoseconds from the start of the window to its end, or to the last message if that came later.
    private var elapsed: UInt64 { max(last, window.upperBound) - window.lowerBound }

    /// Counted messages a second, from the start of the window to the last of them: a server that falls behind shows
    /// less than the rate.
    var perSecond: Double { perSecond(forgiving: 0) }

    /// The same, with so many nanoseconds allowed to the last of them after the end of the window.
    func perSecond(forgiving tail: UInt64) -> Double {
        guard count > 0, last > window.lowerBound else { return 0 }
        let forgiven = Swift.min(tail, last > window.upperBound ? last - window.upperBound : 0)
        return Double(count) * 1e9 / Double(earlier + elapsed - forgiven)
    }

    var percentiles: Percentiles { Percentiles(histogram) }

    /// Moves it to a clock over which the present one is so many nanoseconds ahead.
    mutating func shift(by offset: Int64) {
        func moved(_ time: UInt64) -> UInt64 { time == 0 ? 0 : time &- UInt64(bitPattern: offset) }
        window = moved(window.lowerBound)..<moved(window.upperBound)
        last = moved(last)
    }
}

extension LatencyRecorder: Codable {
    private enum CodingKeys: String, CodingKey { case from, to, earlier, last, interval, counts, intervals }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        let (from, to) = (try values.decode(UInt64.self, forKey: .from), try values.decode(UInt64.self, forKey: .to))
        guard from <= to else { throw LoadtestError.malformed("A window ends before it begins") }
        let parts = try values.decode([[UInt64]].self, forKey: .intervals)
        self.init(window: from..<to, intervals: !parts.isEmpty)
        guard intervals.count == parts.count else { throw LoadtestError.malformed("A window has another number of intervals") }
        earlier = try values.decode(UInt64.self, forKey: .earlier)
        last = try values.decode(UInt64.self, forKey: .last)
        histogram.record(pairs: try values.decode([UInt64].self, forKey: .counts))
        for (index, pairs) in parts.enumerated() { intervals[index].record(pairs: pairs) }
    }

    func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(window.lowerBound, forKey: .from)
        try values.encode(window.upperBound, forKey: .to)
        try values.encode(earlier, forKey: .earlier)
        try values.encode(last, forKey: .last)
        try values.encode(histogram.pairs, forKey: .counts)
        try values.encode(intervals.map(\.pairs), forKey: .intervals)
    }
}

extension Histogram<UInt64> {
    /// Each value that occurs with how often it does, one after the other: most of a histogram is empty.
    fileprivate var pairs: [UInt64] {
        var pairs = recordedValues().flatMap { [$0.value, $0.count] }
        // The largest itself, and not its bucket's end.
        if pairs.count >= 2 { pairs[pairs.count - 2] = maxRecorded }
        return pairs
    }

    fileprivate mutating func record(pairs: [UInt64]) {
        for index in stride(from: 0, to: pairs.count - 1, by: 2) { record(pairs[index], count: pairs[index + 1]) }
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

extension Percentiles {
    /// Of nanoseconds.
    init(_ histogram: Histogram<UInt64>) {
        func milliseconds(_ value: UInt64) -> Double { (Double(value) / 1e3).rounded() / 1e3 }
        let count = histogram.totalCount
        func at(_ percentile: Double) -> Double { count == 0 ? 0 : milliseconds(histogram.valueAtPercentile(percentile)) }
        self.init(
            count: count, p50: at(50), p90: at(90), p99: at(99), p999: at(99.9), max: count == 0 ? 0 : milliseconds(histogram.max),
            mean: count == 0 ? 0 : milliseconds(UInt64(histogram.mean))
        )
    }
}
