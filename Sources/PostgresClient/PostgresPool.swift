public import Logging

/// A fixed number of connections to one database. Each statement goes to the connected one with the least in flight.
///
/// Statements of a pool have no order among each other; what needs one uses a `PostgresConnection`.
public final class PostgresPool: Sendable {
    private let connections: [PostgresConnection]

    /// - Parameter size: at least 1. Each connection is one thread here and one process at the server.
    public init(configuration: PostgresConfiguration, size: Int, name: String, logger: Logger) {
        precondition(size > 0, "a pool has at least one connection")
        connections = (0..<size).map { PostgresConnection(configuration: configuration, name: "\(name)-\($0)", logger: logger) }
    }

    /// Starts all connections. Once; not after `close()`.
    public func start() {
        for connection in connections { connection.start() }
    }

    /// Whether at least one connection is there.
    public var isAvailable: Bool { connections.contains { $0.isConnected } }

    /// Why a connection that is not there could not be made.
    public var connectionError: PostgresError? { connections.lazy.compactMap(\.connectionError).first }

    public var snapshot: PostgresCounters { connections.reduce(.zero) { $0 + $1.counters } }

    /// See `PostgresConnection.onConnect`; for each of the connections.
    public func onConnect(
        _ statements: @escaping @Sendable () -> [(PostgresStatement, [PostgresValue])],
        check: @escaping @Sendable ([PostgresRows]) throws -> Void = { _ in }
    ) {
        for connection in connections { connection.onConnect(statements, check: check) }
    }

    /// Returns when all connections are there. Throws as `PostgresConnection.waitUntilConnected` does.
    public func waitUntilConnected() async throws(PostgresError) {
        for connection in connections { try await connection.waitUntilConnected() }
    }

    /// See `PostgresConnection.execute`. Fails with `.unavailable` when no connection is there.
    public func execute(
        _ statement: PostgresStatement, _ values: [PostgresValue] = [], completion: @escaping @Sendable (Result<PostgresRows, PostgresError>) -> Void
    ) {
        var refusal = PostgresError.notConnected
        // A connection may be lost between the look and the offer, or be full: then the next one.
        for connection in connections.filter(\.isConnected).sorted(by: { $0.inFlight < $1.inFlight }) {
            guard let error = connection.offer(statement, values, completion) else { return }
            refusal = error
            if error.code == .server { break }
        }
        completion(.failure(refusal))
    }

    /// See `PostgresConnection.execute`.
    public func execute(_ statement: PostgresStatement, _ values: [PostgresValue] = []) async throws(PostgresError) -> PostgresRows {
        try await withCheckedContinuation { continuation in
            execute(statement, values) { continuation.resume(returning: $0) }
        }.get()
    }

    /// See `PostgresConnection.transaction`.
    public func transaction(_ statements: [(PostgresStatement, [PostgresValue])]) async throws(PostgresError) -> [PostgresRows] {
        guard let connection = leastLoaded else { throw .notConnected }
        return try await connection.transaction(statements)
    }

    /// See `PostgresConnection.executeScript`.
    public func executeScript(_ sql: String) async throws(PostgresError) {
        guard let connection = leastLoaded else { throw .notConnected }
        try await connection.executeScript(sql)
    }

    /// Closes all connections. See `PostgresConnection.close`.
    public func close() async {
        await withTaskGroup(of: Void.self) { group in
            for connection in connections { group.addTask { await connection.close() } }
        }
    }

    private var leastLoaded: PostgresConnection? {
        connections.filter(\.isConnected).min { $0.inFlight < $1.inFlight }
    }
}
