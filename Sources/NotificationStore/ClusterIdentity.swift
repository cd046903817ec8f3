public import NotificationCore
public import PostgresClient
import Synchronization

/// Which life of the data this node has seen: the highest epoch, and how far the log was in it. Compared on every fresh connection; a server
/// that went back behind that, or is another one, gets a new epoch.
public final class ClusterIdentity: Sendable {
    private struct State {
        var epoch: Int64 = 0
        var place = LogPosition(timeline: 0, lsn: 0)
    }

    private let state = Mutex(State())

    public init() {}

    /// The highest epoch seen; 0 before the first connection.
    public var epoch: Int64 { self.state.withLock { $0.epoch } }

    /// The furthest place in the log that was seen in this epoch.
    var place: LogPosition { self.state.withLock { $0.place } }

    static let observe = PostgresStatement("SELECT epoch, timeline, lsn::text FROM observe_cluster($1::text::pg_lsn, $2, $3)")

    /// How far the log is, after a commit on the same connection at least as far as it.
    static let look = PostgresStatement(
        "SELECT ('x' || substr(pg_walfile_name(lsn), 1, 8))::bit(32)::integer, lsn::text FROM pg_current_wal_flush_lsn() AS lsn")

    /// To be called before the connection is started.
    public func watch(_ connection: PostgresConnection) {
        connection.onConnect({ [self.question] }, check: { try self.check($0) })
    }

    public func watch(_ pool: PostgresPool) {
        pool.onConnect({ [self.question] }, check: { try self.check($0) })
    }

    private var question: (PostgresStatement, [PostgresValue]) {
        let (epoch, place) = self.state.withLock { ($0.epoch, $0.place) }
        return (Self.observe, [.text(place.text), .int8(epoch), .int4(place.timeline)])
    }

    private func check(_ answers: [PostgresRows]) throws(PostgresError) {
        guard let row = answers.first?.first, let place = LogPosition(timeline: try row.int4(1), lsn: try row.text(2)) else { return }
        self.advance(epoch: try row.int8(0), to: place)
    }

    /// Something was read from the log that was so far in this epoch.
    func advance(epoch: Int64, to place: LogPosition) {
        self.state.withLock {
            if epoch > $0.epoch {
                $0 = State(epoch: epoch, place: place)
            } else if epoch == $0.epoch {
                Self.advance(&$0.place, to: place)
            }
        }
    }

    /// Something was heard of that was committed there.
    public func advance(to place: LogPosition) {
        self.state.withLock { Self.advance(&$0.place, to: place) }
    }

    /// A later timeline has what was seen of the earlier one, or there would be a new epoch.
    private static func advance(_ seen: inout LogPosition, to place: LogPosition) {
        if place.timeline > seen.timeline || (place.timeline == seen.timeline && place.lsn > seen.lsn) { seen = place }
    }
}
