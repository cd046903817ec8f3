/// The keys of this module's log metadata.
enum LogKey {
    static let connection = "postgres_connection"
    static let reason = "reason"
    static let sqlState = "sql_state"
    static let milliseconds = "wait_ms"
    static let server = "server"
    static let pooler = "pooler"
}
