import Synchronization

/// A histogram with fixed bounds, as Prometheus has them: counts of values up to each bound, and their sum.
public final class Histogram: Sendable {
    /// In seconds.
    public static let bounds: [Double] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

    private struct State {
        var counts = [Int](repeating: 0, count: Histogram.bounds.count + 1)
        var sum: Double = 0
    }

    private let state = Mutex(State())

    public init() {}

    public func record(microseconds: Int64, times: Int = 1) {
        let seconds = Double(max(0, microseconds)) / 1_000_000
        var index = 0
        while index < Self.bounds.count, seconds > Self.bounds[index] { index += 1 }
        let bucket = index
        self.state.withLock {
            $0.counts[bucket] += times
            $0.sum += seconds * Double(times)
        }
    }

    /// Cumulative counts by bound, the last one of all values; and the sum in seconds.
    public var snapshot: (cumulative: [Int], sum: Double) {
        self.state.withLock { state in
            var total = 0
            return (state.counts.map { total += $0; return total }, state.sum)
        }
    }
}
