import Crypto
import Foundation
import NotificationCore
public import PostgresClient

/// Brings the schema up to date from the numbered SQL files, each in its own transaction, under an advisory lock: any number of nodes may
/// do it at once.
public struct Migrator: Sendable {
    public struct Migration: Sendable {
        public let number: Int
        public let name: String
        public let sql: String

        /// From its line `-- oldest program: N`: programs that know fewer than N migrations cannot work on the schema from this one on. Without the line, 0:
        /// what could work on the schema before can do so after it.
        public var oldestProgram: Int {
            let head = "-- oldest program: "
            let line = self.sql.split(separator: "\n").first { $0.hasPrefix(head) }
            return line.flatMap { Int($0.dropFirst(head.count)) } ?? 0
        }

        /// SHA-256 of the SQL: a migration is never changed once a database has it.
        var digest: String { SHA256.hash(data: Array(self.sql.utf8)).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
    }

    private let connection: PostgresConnection

    public init(connection: PostgresConnection) {
        self.connection = connection
    }

    /// In order of their numbers, which run from 1 without a hole.
    public static func migrations() throws -> [Migration] {
        guard let folder = Bundle.module.url(forResource: "Migrations", withExtension: nil) else {
            throw StoreError(code: .failed, message: "the migrations are not beside the program: install its .resources folder with it")
        }
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil).filter { $0.pathExtension == "sql" }
        let migrations = try files.compactMap { file -> Migration? in
            let name = file.deletingPathExtension().lastPathComponent
            guard let number = Int(name.prefix(4)) else { return nil }
            return Migration(number: number, name: name, sql: try String(contentsOf: file, encoding: .utf8))
        }.sorted { $0.number < $1.number }
        for (index, migration) in migrations.enumerated() where migration.number != index + 1 {
            throw StoreError(code: .failed, message: "migration \(index + 1) is missing or there twice")
        }
        return migrations
    }

    /// How many this program knows.
    public static func known() throws -> Int { try self.migrations().count }

    /// - Returns: The names of those that were applied now.
    /// - Throws: `StoreError`, also when the database has later ones that this program cannot work with.
    public func run() async throws -> [String] {
        var applied: [String] = []
        for migration in try Self.migrations() {
            if let failure = await self.apply(migration) {
                try await self.connection.executeScript("ROLLBACK")
                if failure.sqlState == Self.appliedBefore { continue }
                throw StoreError(code: .failed, message: "migration \(migration.name): \(failure.message)", sqlState: failure.sqlState)
            }
            applied.append(migration.name)
        }
        if let refusal = try await self.schema().refusal(known: try Self.known()) { throw refusal }
        return applied
    }

    private static let appliedBefore = "CR001"
    private static let appliedOtherwise = "CR002"

    /// The lock and the look are in the migration's own transaction. What is there already ends it with an error of its own.
    private func apply(_ migration: Migration) async -> PostgresError? {
        let script = """
            BEGIN;
            SELECT pg_advisory_xact_lock(hashtext('carillon.migrations'));
            CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), digest text);
            ALTER TABLE migrations ADD COLUMN IF NOT EXISTS digest text;
            ALTER TABLE migrations ADD COLUMN IF NOT EXISTS oldest_program integer NOT NULL DEFAULT 0;
            DO $carillon$ BEGIN
                IF EXISTS (SELECT FROM migrations WHERE number = \(migration.number) AND digest IS DISTINCT FROM '\(migration.digest)') THEN
                    RAISE EXCEPTION 'the database has it from another version of Carillon, which cannot be brought up to date'
                        USING ERRCODE = '\(Self.appliedOtherwise)';
                ELSIF EXISTS (SELECT FROM migrations WHERE number = \(migration.number)) THEN
                    RAISE EXCEPTION 'applied before' USING ERRCODE = '\(Self.appliedBefore)';
                END IF;
            END $carillon$;
            \(migration.sql)
            INSERT INTO migrations (number, name, digest, oldest_program)
            VALUES (\(migration.number), '\(migration.name)', '\(migration.digest)', \(migration.oldestProgram));
            COMMIT;
            """
        do throws(PostgresError) {
            try await self.connection.executeScript(script)
            return nil
        } catch {
            return error
        }
    }

    /// What the database has; nothing, if it is an empty one.
    public func schema() async throws(PostgresError) -> SchemaVersion {
        let known = PostgresStatement("SELECT to_regclass('migrations') IS NOT NULL", prepared: false)
        guard try await self.connection.execute(known).first?.bool(0) == true else { return SchemaVersion(number: 0, oldestProgram: 0) }
        return try SchemaVersion(await self.connection.execute(SchemaVersion.statement))
    }

    /// The highest number in the database, 0 for an empty one.
    public func version() async throws(PostgresError) -> Int { try await self.schema().number }
}
