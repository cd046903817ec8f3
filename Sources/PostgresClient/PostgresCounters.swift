/// What a connection or a pool has done and is doing.
public struct PostgresCounters: Sendable, Equatable {
    /// Connections that there should be.
    public var size: Int
    /// Connections that there are.
    public var connected: Int
    /// Statements accepted and not answered.
    public var inFlight: Int
    /// Connections made after each one's first.
    public var reconnects: Int
    /// Attempts to connect that failed.
    public var connectFailures: Int
    /// Statements that failed, for whatever reason.
    public var errors: Int

    static let zero = PostgresCounters(size: 0, connected: 0, inFlight: 0, reconnects: 0, connectFailures: 0, errors: 0)

    static func + (a: PostgresCounters, b: PostgresCounters) -> PostgresCounters {
        PostgresCounters(
            size: a.size + b.size, connected: a.connected + b.connected, inFlight: a.inFlight + b.inFlight, reconnects: a.reconnects + b.reconnects,
            connectFailures: a.connectFailures + b.connectFailures, errors: a.errors + b.errors)
    }
}
