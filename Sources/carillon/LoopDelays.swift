import CoreMetrics
import NIOCore
import Synchronization

/// Measures how late each event loop is: a timer that is due while something else runs waits for its end, as every connection of the loop does.
final class LoopDelays: Sendable {
    private static let interval: TimeAmount = .seconds(1)

    /// When the timer of one loop is due.
    private final class Due: Sendable {
        private let time = Mutex(NIODeadline.now() + LoopDelays.interval)

        /// How late it is; from now on the next time counts.
        func advance() -> TimeAmount {
            let now = NIODeadline.now()
            return self.time.withLock { time in
                defer { time = now + LoopDelays.interval }
                return now > time ? now - time : .zero
            }
        }
    }

    private let timers: [RepeatedTask]

    init(group: any EventLoopGroup, metrics: any MetricsFactory) {
        var timers: [RepeatedTask] = []
        for (number, eventLoop) in group.makeIterator().enumerated() {
            let delays = Timer(label: "carillon_event_loop_delay_seconds", dimensions: [("loop", "\(number)")], factory: metrics)
            let due = Due()
            timers.append(
                eventLoop.scheduleRepeatedTask(initialDelay: Self.interval, delay: Self.interval) { _ in
                    delays.recordNanoseconds(due.advance().nanoseconds)
                })
        }
        self.timers = timers
    }

    func stop() {
        for timer in self.timers { timer.cancel() }
    }
}
