import NotificationCore
public import PostgresClient

/// Which migrations a database has, and which programs can work with them. Migrations only add, so a program works on the schema of a later one, unless a
/// migration says otherwise.
public struct SchemaVersion: Sendable, Equatable {
    /// The highest number of a migration.
    public var number: Int
    /// How many migrations a program must know to work on it.
    public var oldestProgram: Int

    public init(number: Int, oldestProgram: Int) {
        self.number = number
        self.oldestProgram = oldestProgram
    }

    // It has a row a migration.
    static let statement = PostgresStatement("SELECT COALESCE(max(number), 0), COALESCE(max(oldest_program), 0) FROM migrations", prepared: false)

    init(_ rows: PostgresRows) throws(PostgresError) {
        guard let row = rows.first else { throw PostgresError(code: .decoding, message: "the schema's version is missing") }
        self.init(number: Int(try row.int4(0)), oldestProgram: Int(try row.int4(1)))
    }

    /// As the pool's server has it. Fails where there was never a migration.
    public static func read(_ pool: PostgresPool) async throws(StoreError) -> SchemaVersion {
        try await InboxReader.run { () async throws(PostgresError) in try SchemaVersion(await pool.execute(Self.statement)) }
    }

    /// Why a program that knows so many migrations must not work on this schema; nil when it may.
    public func refusal(known: Int) -> StoreError? {
        if self.oldestProgram <= known { return nil }
        return StoreError(
            code: .failed,
            message: "the schema is at \(self.number) and needs a program that knows \(self.oldestProgram) migrations or more; this one knows \(known): install the later version")
    }
}
