/// Where the database is and how much one connection may hold.
public struct PostgresConfiguration: Sendable {
    /// A connection URI or conninfo string of libpq (PostgreSQL 15, 34.1.1), several hosts and `sslmode` included. What it says wins over the
    /// defaults set here: `target_session_attrs=read-write`, keepalives, no GSS encryption. It may hold a password: do not log it.
    public var url: String
    /// For one attempt, from the first packet to the end of `onConnect`. Past it the next attempt begins with the next host of the URL.
    public var connectTimeout: Duration = .seconds(5)
    /// The server cancels a statement that runs longer (`statement_timeout`, whole milliseconds); `nil` leaves the server's own setting.
    public var statementTimeout: Duration? = .seconds(30)
    /// With statements in flight and nothing heard for this long the server is taken for dead: the connection is closed, what was in flight is in
    /// doubt. It must be longer than a healthy statement takes. `nil` waits for as long as TCP does. Scripts are exempt.
    public var responseTimeout: Duration? = .seconds(10)
    /// How long `close()` waits for the answers to what was accepted.
    public var closeTimeout: Duration = .seconds(5)
    /// Statements sent and not answered, for each connection. More wait in its queue.
    public var maxInFlight = 1_000
    /// Bytes of statements and parameters, waiting and in flight, for each connection. Past it `execute` fails with `.queueFull`.
    public var maxQueuedBytes = 64 << 20
    /// What `pg_stat_activity` shows; the URL's `application_name` wins.
    public var applicationName = "carillon"
    /// What stands between this client and the server.
    public var pooler = PostgresPooler.auto
    /// The wait before the second attempt to connect. It doubles up to `maximumBackoff`, and each wait is between half and the whole of it.
    public var minimumBackoff: Duration = .milliseconds(50)
    public var maximumBackoff: Duration = .seconds(1)

    public init(url: String) {
        self.url = url
    }

    /// Whether libpq can read the URL. It does not connect.
    public func validate() throws(PostgresError) {
        guard ConnectionParameters.parse(url) != nil else {
            // libpq's own message quotes the URL, password and all.
            throw PostgresError(
                code: .unavailable, message: "the database URL is neither a URI nor a conninfo string of libpq",
                hint: "write it as postgres://user:password@host:5432/database, with special characters percent-encoded")
        }
    }
}

/// Whose session a connection has at the server.
public enum PostgresPooler: String, Sendable, CaseIterable {
    /// Asked on each connection: a pooler gives its clients other numbers than those of the server's processes.
    case auto
    /// The connection has one session of the server to itself from its beginning to its end: there is no pooler, or one that pools sessions.
    case session
    /// Each transaction may run in another session (PgBouncer's `pool_mode = transaction`). Nothing is prepared and nothing is set for longer than a transaction. Each
    /// begins with a statement that makes the settings and fails on another server than the one that the connection began with, after which there
    /// is a fresh connection, with all of its set-up.
    case transaction
}

extension PostgresConfiguration: CustomStringConvertible, CustomReflectable {
    /// Without the URL, which may hold a password.
    public var description: String { "PostgresConfiguration(applicationName: \(applicationName))" }
    public var customMirror: Mirror { Mirror(self, children: ["applicationName": applicationName]) }
}
