import NotificationCore
public import PostgresClient
import Synchronization

/// Which life of the data this node has seen: the highest epoch and log position. Compared on every fresh connection; a server that
/// went back, or is another one, gets a new epoch.
public final class ClusterIdentity: Sendable {
    private struct State {
        var epoch: Int64 = 0
        var lsn: UInt64 = 0
    }

    private let state = Mutex(State())

    public init() {}

    /// The highest epoch seen; 0 before the first connection.
    public var epoch: Int64 { self.state.withLock { $0.epoch } }

    /// The furthest place in the log that was seen in this epoch.
    var lsn: UInt64 { self.state.withLock { $0.lsn } }

    static let observe = PostgresStatement("SELECT observe_cluster($1::text::pg_lsn, $2), pg_current_wal_flush_lsn()::text")

    /// To be called before the connection is started.
    public func watch(_ connection: PostgresConnection) {
        connection.onConnect({ [self.question] }, check: { try self.check($0) })
    }

    public func watch(_ pool: PostgresPool) {
        pool.onConnect({ [self.question] }, check: { try self.check($0) })
    }

    private var question: (PostgresStatement, [PostgresValue]) {
        let (epoch, lsn) = self.state.withLock { ($0.epoch, $0.lsn) }
        return (Self.observe, [.text(Self.text(lsn)), .int8(epoch)])
    }

    private func check(_ answers: [PostgresRows]) throws(PostgresError) {
        guard let row = answers.first?.first else { return }
        self.advance(epoch: try row.int8(0), lsn: try row.text(1))
    }

    func advance(epoch: Int64, lsn: String) {
        guard let lsn = Self.number(lsn) else { return }
        self.state.withLock {
            if epoch > $0.epoch {
                $0 = State(epoch: epoch, lsn: lsn)
            } else if epoch == $0.epoch {
                $0.lsn = max($0.lsn, lsn)
            }
        }
    }

    static func text(_ lsn: UInt64) -> String {
        String(lsn >> 32, radix: 16, uppercase: true) + "/" + String(lsn & 0xFFFF_FFFF, radix: 16, uppercase: true)
    }

    static func number(_ lsn: String) -> UInt64? {
        let parts = lsn.split(separator: "/")
        guard parts.count == 2, let high = UInt64(parts[0], radix: 16), let low = UInt64(parts[1], radix: 16), low <= UInt32.max, high <= UInt32.max
        else { return nil }
        return high << 32 | low
    }
}
