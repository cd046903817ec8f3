import NotificationCore
import PostgresClient
import Synchronization

/// Asks Postgres something every two seconds, so that a server which hangs, or has begun to refuse writes, is known before a client meets it: idle
/// connections to it look well.
final class PostgresProbe: Sendable {
    /// What a healthy server answers within even when it is busy.
    private static let patience: Duration = .seconds(5)
    private static let pause: Duration = .seconds(2)

    private enum Answer {
        case writable, readOnly, failed
    }

    private struct State {
        var last: Answer = .failed
        var isAsked = false
        var at: ContinuousClock.Instant = .now
    }

    private let pool: PostgresPool
    private let writes: Bool
    private let state = Mutex(State())

    /// - Parameter writes: whether a server that refuses writes is of no use.
    init(pool: PostgresPool, writes: Bool) {
        self.pool = pool
        self.writes = writes
    }

    /// Whether the last answer was a good one, and no question waits for too long.
    var isAnswered: Bool {
        self.state.withLock { state in
            switch state.last {
            case .failed: false
            case .readOnly where self.writes: false
            case .readOnly, .writable: !state.isAsked || ContinuousClock.now - state.at < Self.patience
            }
        }
    }

    private static let question = PostgresStatement("SELECT current_setting('transaction_read_only')::boolean")

    /// Until cancelled.
    func run() async {
        while !Task.isCancelled {
            self.state.withLock {
                $0.isAsked = true
                $0.at = .now
            }
            let answer: Answer
            do throws(PostgresError) {
                let rows = try await self.pool.execute(Self.question)
                answer = try rows.first?.bool(0) ?? false ? .readOnly : .writable
            } catch {
                answer = .failed
            }
            self.state.withLock {
                $0.isAsked = false
                $0.last = answer
            }
            do { try await Cadence.sleep(Self.pause) } catch { return }
        }
    }
}
