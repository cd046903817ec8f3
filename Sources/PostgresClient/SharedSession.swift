/// What a connection by way of a pooler has instead of a session of its own.
///
/// A pooler hides that its server was restarted, or that another one took over: connections to the pooler stay. Whoever relies on what was found out when the
/// connection began, such as which commits the server has, must not go on there. So each transaction begins by comparing who the server is, in the same round
/// trip, and nothing of it is carried out where that differs.
struct SharedSession {
    /// Who the server is: since when its postmaster runs, which of its databases this is, and on which timeline it writes; a standby has none until it is promoted.
    private static let server = """
        extract(epoch FROM pg_postmaster_start_time())::text || ' ' || (SELECT oid FROM pg_database WHERE datname = current_database())
        || CASE WHEN pg_is_in_recovery() THEN ' standby' ELSE ' ' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8) END
        """

    /// The first thing asked on each connection: whose process answers, and who the server is.
    static let question = PostgresStatement("SELECT pg_backend_pid(), \(server)", prepared: false)

    /// Division by zero where the server is another one. Both settings are the transaction's.
    private static let comparison = PostgresStatement(
        """
        SELECT set_config('jit', 'off', true), set_config('statement_timeout', COALESCE($2, current_setting('statement_timeout')), true),
               1 / CASE WHEN \(server) = $1 THEN 1 ELSE 0 END
        """, prepared: false)

    /// Statements that are sent before the server's session is given back to the others, so that nobody keeps it who always has one more.
    static let turn = 32

    let statement = Self.comparison
    let parameters: EncodedParameters

    /// - Parameter answer: to ``question``.
    init(_ answer: PostgresRow, statementTimeout: Duration?) throws(PostgresError) {
        let timeout: PostgresValue = statementTimeout.map { .text("\($0.wholeMilliseconds)") } ?? .null
        parameters = try EncodedParameters([.text(try answer.text(1)), timeout])
    }

    /// Whether the answer came from a process of another number than the one that we are connected to.
    static func isShared(_ answer: PostgresRow, process: Int32) throws(PostgresError) -> Bool {
        try answer.int4(0) != process
    }
}

extension Duration {
    /// Rounded down, at least 1.
    var wholeMilliseconds: Int64 {
        let (seconds, attoseconds) = components
        return max(1, seconds * 1_000 + attoseconds / 1_000_000_000_000_000)
    }
}
