/// What went wrong with a statement or a connection, and what is known about its effect.
public struct PostgresError: Error, Sendable, Equatable {
    /// The kind of failure. Each one says whether the statement can have had an effect.
    public enum Code: Sendable {
        /// No effect: there was no connection, or only one to a server that refuses writes (`sqlState` 25006), or to another one than before. Try
        /// again later.
        case unavailable
        /// Effect unknown: the statement was handed to the connection, and that was lost before its commit was confirmed.
        case connectionLost
        /// No effect: the server refused the statement, or a value was refused before sending that no server takes. `sqlState` says why.
        case server
        /// No effect: more waits for this connection than its configuration allows. Try again later.
        case queueFull
        /// The statement was carried out; a value of its answer is not of the type that was asked for. A mistake in the program.
        case decoding
        /// No effect: the connection was closed on purpose.
        case closed
        /// No effect: the server cancelled the statement (57014, mostly `statement_timeout`).
        case timedOut
    }

    public let code: Code
    /// The five characters of PostgreSQL's appendix A, where the server (or its stand-in) gave them.
    public let sqlState: String?
    /// One sentence without values of the application.
    public let message: String
    /// The server's DETAIL. It may quote values of rows: do not show it to users.
    public let detail: String?
    /// What to do next.
    public let hint: String?
    /// The violated constraint's name (class 23).
    public let constraint: String?
    /// The table that the error names.
    public let table: String?

    public init(
        code: Code, sqlState: String? = nil, message: String, detail: String? = nil, hint: String? = nil, constraint: String? = nil, table: String? = nil
    ) {
        self.code = code
        self.sqlState = sqlState
        self.message = message
        self.detail = detail
        self.hint = hint
        self.constraint = constraint
        self.table = table
    }

    /// Whether the statement may or may not have been committed. Everything else certainly was not, but `.decoding`, which was.
    public var isInDoubt: Bool { code == .connectionLost }
}

extension PostgresError: CustomStringConvertible {
    /// Code, SQLSTATE, message, constraint and hint; never the detail, which quotes rows.
    public var description: String {
        var text = "\(code)"
        if let sqlState { text += " \(sqlState)" }
        text += ": \(message)"
        if let constraint { text += " (constraint \(constraint))" }
        if let hint { text += " — \(hint)" }
        return text
    }
}

extension PostgresError {
    static let notConnected = PostgresError(code: .unavailable, message: "there is no connection to the database", hint: "try again once it is back")
    /// Nothing of the transaction was carried out: its introduction failed, which the server said why.
    static func otherServer(_ reason: PostgresError) -> PostgresError {
        PostgresError(
            code: .unavailable, sqlState: reason.sqlState, message: "behind the pooler there is another server than before, or none that takes writes",
            hint: "try again once it has been asked who it is")
    }

    static let isClosed = PostgresError(code: .closed, message: "the connection was closed")
    static let queueFull = PostgresError(
        code: .queueFull, message: "too many bytes wait for this connection", hint: "send less at once, or raise maxQueuedBytes")

    static let openTransaction = PostgresError(
        code: .server, sqlState: "25000", message: "the script left a transaction open, which was rolled back", hint: "end it within the script")

    static func lost(_ reason: String, sqlState: String? = nil) -> PostgresError {
        PostgresError(
            code: .connectionLost, sqlState: sqlState, message: "the connection was lost before the answer came: \(reason)",
            hint: "find out whether it was committed before repeating it")
    }

    static func decoding(_ message: String) -> PostgresError {
        PostgresError(code: .decoding, message: message, hint: "correct the query or the accessor")
    }
}
