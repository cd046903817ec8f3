import Histogram

/// Latency in one part of the measured time, by due time. Milliseconds; `at` is in seconds since the first message was due.
struct Interval: Codable, Sendable {
    /// One bucket of the histogram: up to how many microseconds, how many.
    struct Bucket: Codable, Sendable {
        var us: UInt64
        var n: UInt64
    }

    var at: Double
    var seconds: Double
    var latency: Percentiles
    var histogram: [Bucket]
}

/// One second of a run as seen by the tool.
struct Sample: Codable, Sendable {
    /// Seconds since the run began.
    var at: Double
    var live: Int
    /// Events in the second before.
    var sent: UInt64
    var received: UInt64
    var errors: UInt64
    var processes: [String: ProcessUsage]
}

/// What was done to the server, or to the streams, at a moment.
struct Mark: Codable, Sendable {
    var at: Double
    var name: String
    /// When it was over, of what lasts.
    var until: Double?
}

/// One part of a run with one rate.
struct PhaseReport: Codable, Sendable {
    var phase: SendPhase
    /// Seconds since the run began.
    var at: Double
    var sentPerSecond: Double
    var receivedPerSecond: Double
    var latency: Percentiles
    var slowReaders: Percentiles?
    /// Streams that were live when it began, and how many had to be.
    var streams: Int
    var wanted: Int
    var errors: UInt64
    /// Whether it kept within the limit of a ramp.
    var held: Bool?
    /// Of a part for which streams were opened or came back; those of a run's first part are in its `connect`.
    var opening: OpeningReport?
    var intervals: [Interval]
}

/// What streams that are opened in the middle of a run take, in seconds from the first attempt.
struct OpeningReport: Codable, Sendable {
    var streams: Int
    var ready: Double
    /// Until every stream had shown what was acknowledged before; nil if that never came.
    var caughtUp: Double?
}

/// What all streams coming back at once took, in seconds from the cut.
struct StormReport: Codable, Sendable {
    var streams: Int
    var ready: Double
    /// Until every stream had shown what was acknowledged by the time the last was ready; nil if that never came.
    var caughtUp: Double?
}

/// A point of the percentile curve.
struct CurvePoint: Codable, Sendable {
    var percentile: Double
    var ms: Double
}

extension LatencyRecorder {
    /// `at` is when the window begins.
    func timeline(at start: Double) -> [Interval] {
        intervals.enumerated().map { index, histogram in
            Interval(
                at: start + Double(index) * Double(interval) / 1e9, seconds: Double(interval) / 1e9, latency: Percentiles(histogram),
                histogram: histogram.recordedValues().map { .init(us: $0.value / 1_000, n: UInt64($0.count)) }
            )
        }
    }

    /// Denser with every nine, up to what so many values can tell.
    var curve: [CurvePoint] {
        guard count > 0 else { return [] }
        var points: [CurvePoint] = []
        var rest = 1.0
        while rest * Double(count) >= 1 {
            for step in [1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15] {
                let percentile = 100 * (1 - rest * step)
                points.append(CurvePoint(percentile: percentile, ms: Double(histogram.valueAtPercentile(percentile)) / 1e6))
            }
            rest /= 10
        }
        return points
    }
}
