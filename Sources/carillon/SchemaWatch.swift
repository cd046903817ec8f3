import Logging
import NotificationCore
import NotificationStore
import PostgresClient
import Synchronization

/// Whether the database's schema is one that this program can work on. A later version may bring it further up while this node runs.
final class SchemaWatch: Sendable {
    private static let pause: Duration = .seconds(5)

    /// How many migrations this program knows.
    let known: Int
    private let pool: PostgresPool
    private let logger: Logger
    private let seen = Mutex<SchemaVersion?>(nil)

    init(pool: PostgresPool, logger: Logger) throws {
        self.known = try Migrator.known()
        self.pool = pool
        self.logger = logger
    }

    /// What the database has beyond what this program knows; nil when that is nothing.
    var newer: SchemaVersion? { self.seen.withLock { $0.flatMap { $0.number > self.known ? $0 : nil } } }

    /// Whether the database has all that this program needs. Said once, while it has not.
    ///
    /// - Throws: `StoreError` when it cannot be read; what a later version left no room for.
    func isThere() async throws -> Bool {
        let found = try await SchemaVersion.read(self.pool)
        if let refusal = self.note(found) { throw SchemaRefusal(error: refusal) }
        return found.number >= self.known
    }

    /// Until the schema is one that this program must not work on, which it answers, or until cancelled.
    func run() async -> SchemaRefusal? {
        while !Task.isCancelled {
            do { try await Cadence.sleep(Self.pause) } catch { return nil }
            do throws(StoreError) {
                if let refusal = self.note(try await SchemaVersion.read(self.pool)) { return SchemaRefusal(error: refusal) }
            } catch {
                self.logger.debug("the schema's version not read, tried again", metadata: ["error": "\(error)"])
            }
        }
        return nil
    }

    private func note(_ found: SchemaVersion) -> StoreError? {
        let before = self.seen.withLock { seen in
            defer { seen = found }
            return seen
        }
        guard found != before else { return nil }
        let metadata: Logger.Metadata = ["version": "\(found.number)", "known": "\(self.known)", "oldest_program": "\(found.oldestProgram)"]
        if let refusal = found.refusal(known: self.known) {
            self.logger.critical("the schema is for later programs only, this node ends", metadata: metadata)
            return refusal
        }
        if found.number > self.known { self.logger.notice("the schema is newer than this program, which works on it", metadata: metadata) }
        if found.number < self.known { self.logger.warning("waiting for the schema: run carillon migrate", metadata: metadata) }
        return nil
    }
}

/// The node must not go on.
struct SchemaRefusal: Error, CustomStringConvertible {
    let error: StoreError
    var description: String { self.error.description }
}
