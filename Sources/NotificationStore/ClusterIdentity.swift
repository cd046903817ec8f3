public import NotificationCore
public import PostgresClient
import Synchronization

/// What somebody has seen of the cluster: the highest epoch, and how far the log was in it.
public struct ClusterMark: Sendable, Equatable {
    public var epoch: Int64
    public var place: LogPosition

    public init(epoch: Int64, place: LogPosition) {
        self.epoch = epoch
        self.place = place
    }
}

/// Which life of the data this node has seen: the highest epoch, and how far the log was in it. Compared on every fresh connection; a server
/// that went back behind that, or is another one, gets a new epoch.
public final class ClusterIdentity: Sendable {
    private struct State {
        var epoch: Int64 = 0
        var place = LogPosition(timeline: 0, lsn: 0)
        /// The highest epoch that was given to a user who was erased.
        var given: Int64 = 0
    }

    private let state = Mutex(State())

    public init() {}

    /// The highest epoch seen; 0 before the first connection.
    public var epoch: Int64 { self.state.withLock { $0.epoch } }

    /// The furthest place in the log that was seen in this epoch.
    var place: LogPosition { self.state.withLock { $0.place } }

    public var mark: ClusterMark { self.state.withLock { ClusterMark(epoch: $0.epoch, place: $0.place) } }

    static let observe = PostgresStatement("SELECT epoch, timeline, lsn::text, $1::text, $3::integer FROM observe_cluster($1::text::pg_lsn, $2, $3, $4)")

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

    private var question: (PostgresStatement, [PostgresValue]) { self.question(self.mark) }

    private func question(_ mark: ClusterMark) -> (PostgresStatement, [PostgresValue]) {
        let given = self.state.withLock { $0.given }
        return (Self.observe, [.text(mark.place.text), .int8(mark.epoch), .int4(mark.place.timeline), .int8(given)])
    }

    /// Asks the server whether it still has what others have seen, and takes over what it answers.
    public func compare(_ mark: ClusterMark, on pool: PostgresPool) async throws(StoreError) {
        let (statement, values) = self.question(mark)
        try await InboxReader.run { () async throws(PostgresError) in try self.check([await pool.execute(statement, values)]) }
    }

    private func check(_ answers: [PostgresRows]) throws(PostgresError) {
        guard let row = answers.first?.first, let place = LogPosition(timeline: try row.int4(1), lsn: try row.text(2)),
            let asked = LogPosition(timeline: try row.int4(4), lsn: try row.text(3))
        else { return }
        let epoch = try row.int8(0)
        let isJudged = self.state.withLock { state in
            // More was heard of meanwhile than this server was asked about, and it is on another timeline: whether it has that is not known.
            if epoch == state.epoch, place.timeline != state.place.timeline, state.place != asked { return false }
            Self.advance(&state, epoch: epoch, to: place)
            return true
        }
        guard isJudged else {
            throw PostgresError(
                code: .unavailable, message: "the server is on another timeline, and more of the old one was heard of while it was asked",
                hint: "it is asked again with the next connection")
        }
    }

    /// Something was read from the log that was so far in this epoch.
    func advance(epoch: Int64, to place: LogPosition) {
        self.state.withLock { Self.advance(&$0, epoch: epoch, to: place) }
    }

    /// Something was heard of that was committed there, in this epoch or a later one. Of another timeline it counts only once a server of that
    /// timeline was asked for what was seen before.
    public func advance(heard place: LogPosition, epoch: Int64) {
        self.state.withLock {
            guard epoch >= $0.epoch, place.timeline == $0.place.timeline || $0.place.lsn == 0 else { return }
            if place.lsn > $0.place.lsn { $0.place = place }
        }
    }

    /// A user was erased and was given this epoch. A server that has lost that must not give it again, to anybody.
    public func advance(given epoch: Int64) {
        self.state.withLock { $0.given = max($0.given, epoch) }
    }

    /// A later timeline has what was seen of the earlier one, or there would be a new epoch: the server was asked.
    private static func advance(_ state: inout State, epoch: Int64, to place: LogPosition) {
        if epoch > state.epoch {
            state = State(epoch: epoch, place: place, given: state.given)
        } else if epoch == state.epoch {
            let seen = state.place
            if place.timeline > seen.timeline || (place.timeline == seen.timeline && place.lsn > seen.lsn) { state.place = place }
        }
    }
}
