import Foundation
import Logging
import NotificationCore
import PostgresClient
import Synchronization
import TestServers
import Testing

@testable import NotificationStore

/// Everything that talks to a real server, one after the other.
@Suite("Store", .serialized, .timeLimit(.minutes(2)))
struct Store {}

let silent = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

/// Gives way to others until it is so.
func until(_ condition: () async throws -> Bool) async rethrows {
    while try await !condition() {
        // Its time is over: what follows says what is missing.
        if Task.isCancelled { return }
        await Task.yield()
    }
}

/// A database with the whole schema, or an empty one.
struct Database: Sendable {
    let server: PostgresServer
    let name: String

    /// Migrated once; the others are copies of it.
    private static let template = Task {
        let server = try PostgresServer.shared()
        let database = Database(server: server, name: try server.makeDatabase())
        try await database.migrate()
        return database.name
    }

    static func migrated() async throws -> Database {
        let template = try await Self.template.value
        let server = try PostgresServer.shared()
        let name = "t_\(UUID().uuidString.prefix(8).lowercased())"
        try server.psql("CREATE DATABASE \(name) TEMPLATE \(template)")
        return Database(server: server, name: name)
    }

    static func empty() throws -> Database {
        let server = try PostgresServer.shared()
        return Database(server: server, name: try server.makeDatabase())
    }

    /// On a server of its own, which may be stopped and killed.
    static func alone(settings: [String: String] = [:]) async throws -> Database {
        let database = Database(server: try PostgresServer(settings: settings), name: "postgres")
        try await database.migrate()
        return database
    }

    var configuration: PostgresConfiguration {
        var configuration = PostgresConfiguration(url: self.server.url(database: self.name))
        configuration.maximumBackoff = .milliseconds(100)
        return configuration
    }

    func migrate() async throws {
        try await self.withConnection { _ = try await Migrator(connection: $0).run() }
    }

    func withConnection<Value: Sendable>(
        _ configure: (inout PostgresConfiguration) -> Void = { _ in }, _ body: (PostgresConnection) async throws -> Value
    ) async throws -> Value {
        var configuration = self.configuration
        configure(&configuration)
        let connection = PostgresConnection(configuration: configuration, name: "test", logger: silent)
        connection.start()
        let result: Result<Value, any Error>
        do {
            try await connection.waitUntilConnected()
            result = .success(try await body(connection))
        } catch {
            result = .failure(error)
        }
        await connection.close()
        return try result.get()
    }

    /// One node on this database, closed at the end.
    func withNode<Value: Sendable>(
        lanes: Int = 4, connections: Int = 2, _ configure: (inout InboxWriter.Settings) -> Void = { _ in }, _ body: (Node) async throws -> Value
    ) async throws -> Value {
        var settings = InboxWriter.Settings()
        settings.lanes = lanes
        configure(&settings)
        let node = Node(configuration: self.configuration, settings: settings, connections: connections)
        let result: Result<Value, any Error>
        do {
            try await node.start()
            result = .success(try await body(node))
        } catch {
            result = .failure(error)
        }
        await node.close()
        return try result.get()
    }
}

/// What one node has of the store.
final class Node: Sendable {
    let identity = ClusterIdentity()
    let recorder = Recorder()
    let pool: PostgresPool
    let writer: InboxWriter
    let reader: InboxReader
    let recipients: RecipientReader

    init(configuration: PostgresConfiguration, settings: InboxWriter.Settings, connections: Int, recipients: RecipientReader.Settings = .init()) {
        self.pool = PostgresPool(configuration: configuration, size: connections, name: "pool", logger: silent)
        self.identity.watch(self.pool)
        self.writer = InboxWriter(configuration: configuration, settings: settings, identity: self.identity, observer: self.recorder, logger: silent)
        self.reader = InboxReader(pool: self.pool)
        self.recipients = RecipientReader(configuration: configuration, settings: recipients, identity: self.identity, logger: silent)
    }

    func start() async throws {
        self.pool.start()
        self.writer.start()
        self.recipients.start()
        try await self.pool.waitUntilConnected()
        await until { self.writer.isAvailable && self.recipients.isAvailable }
    }

    func close() async {
        await self.writer.close()
        await self.recipients.close()
        await self.pool.close()
    }

    @discardableResult
    func write(_ user: UserID, _ action: InboxCommand.Action) async throws(StoreError) -> InboxOutcome {
        try await self.writer.write([InboxCommand(user: user, action: action)])[0]
    }

    @discardableResult
    func create(_ user: UserID, _ change: (inout NewNotification) -> Void = { _ in }) async throws -> NotificationID {
        let new = notification(change)
        _ = try await self.write(user, .create(new))
        return new.id
    }

    func rows(_ sql: String, _ values: [PostgresValue] = []) async throws(PostgresError) -> PostgresRows {
        try await self.pool.execute(PostgresStatement(sql, prepared: false), values)
    }

    func number(_ sql: String) async throws -> Int64 {
        try await self.rows("SELECT (\(sql))::int8").first?.int8(0) ?? -1
    }
}

/// Keeps what it hears of commits.
final class Recorder: CommitObserver {
    private let heard = Mutex<[CommittedChanges]>([])

    func committed(_ users: [CommittedChanges], done: @escaping @Sendable () -> Void) {
        self.heard.withLock { $0.append(contentsOf: users) }
        done()
    }

    var all: [CommittedChanges] { self.heard.withLock { $0 } }

    /// Of one user, in the order in which they were heard.
    func changes(of user: UserID) -> [InboxChange] { self.all.filter { $0.user == user }.flatMap(\.changes) }
}

/// A transaction that was begun in another session and stays open until it is told to commit.
final class OpenTransaction: Sendable {
    private static let keys = Atomic<Int>(1000)
    private let key: Int
    private let holder: PostgresConnection
    private let session: PostgresConnection
    private let task: Task<Void, any Error>

    /// Returns when `sql` has run.
    /// - Parameter then: runs right before the commit.
    init(_ database: Database, _ sql: String, then: String = "") async throws {
        var configuration = database.configuration
        configuration.statementTimeout = nil
        configuration.responseTimeout = nil
        let key = Self.keys.add(1, ordering: .relaxed).newValue
        let holder = PostgresConnection(configuration: configuration, name: "holder", logger: silent)
        let session = PostgresConnection(configuration: configuration, name: "session", logger: silent)
        holder.start()
        session.start()
        try await holder.waitUntilConnected()
        try await session.waitUntilConnected()
        _ = try await holder.execute(PostgresStatement("SELECT pg_advisory_lock(\(key))", prepared: false))
        self.key = key
        self.holder = holder
        self.session = session
        self.task = Task { try await session.executeScript("BEGIN; \(sql); SELECT pg_advisory_xact_lock(\(key)); \(then); COMMIT") }
        let look = PostgresStatement("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = \(key) AND NOT granted", prepared: false)
        try await until { try await holder.execute(look)[0].int8(0) == 1 }
    }

    /// One that holds this user's head.
    static func holding(_ user: UserID, in database: Database) async throws -> OpenTransaction {
        try await OpenTransaction(
            database, "INSERT INTO heads (user_id, epoch) VALUES ('\(user.value)', 0) ON CONFLICT (user_id) DO UPDATE SET seq = heads.seq")
    }

    func commit() async throws {
        _ = try await self.holder.execute(PostgresStatement("SELECT pg_advisory_unlock(\(self.key))", prepared: false))
        try await self.task.value
        await self.session.close()
        await self.holder.close()
    }
}

extension Node {
    /// Returns when so many sessions of this database wait for a lock (or for something else that Postgres has a name for).
    func untilWaiting(_ count: Int64, for event: String = "wait_event_type = 'Lock'") async throws {
        try await until {
            try await self.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%apply_changes%' AND \(event)")
                >= count
        }
    }

    /// Ends the sessions that are in the writing function, and waits until they are gone.
    func terminateWriters(_ event: String = "true") async throws -> Int64 {
        try await self.number(
            """
            SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 30000)) FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE '%apply_changes%' AND state = 'active' AND pid <> pg_backend_pid() AND \(event)
            """)
    }

    /// What must hold of every inbox at any time, found by counting: the log runs from 1 to the head without a hole, its last change has the head's
    /// counts, and these are what the rows add up to.
    func audit() async throws -> [String] {
        let rows = try await self.rows(
            """
            WITH state AS (
                SELECT n.user_id, COALESCE(n.customer_id, '') AS customer, n.type,
                       count(*) FILTER (WHERE NOT n.read AND n.state_seq > h.mark_seq) AS unread,
                       count(*) FILTER (WHERE NOT n.read AND NOT n.seen AND n.state_seq > GREATEST(h.mark_seq, h.seen_seq)) AS unseen
                FROM notifications n JOIN heads h USING (user_id) WHERE n.seq IS NOT NULL GROUP BY 1, 2, 3
            ), pairs AS (
                SELECT user_id, customer || E'\\x1f' || type AS key, unread, unseen FROM state
                UNION ALL SELECT user_id, customer || E'\\x1f', sum(unread), sum(unseen) FROM state GROUP BY 1, 2
            ), counted AS (
                SELECT user_id, jsonb_object_agg(key, jsonb_build_array(unread, unseen)) AS counts FROM pairs WHERE unread > 0 GROUP BY 1
            ), sums AS (
                SELECT user_id, sum(unread) AS unread, sum(unseen) AS unseen FROM state GROUP BY 1
            ), log AS (
                SELECT user_id, count(*) AS rows, count(DISTINCT seq) AS numbers, min(seq) AS low, max(seq) AS high FROM changes GROUP BY 1
            )
            SELECT h.user_id FROM heads h LEFT JOIN counted USING (user_id) LEFT JOIN sums s USING (user_id) LEFT JOIN log l USING (user_id)
            LEFT JOIN changes c ON c.user_id = h.user_id AND c.seq = h.seq
            WHERE h.counts <> COALESCE(counted.counts, '{}') OR h.unread <> COALESCE(s.unread, 0) OR h.unseen <> COALESCE(s.unseen, 0)
               OR h.seq <> COALESCE(l.rows, 0) OR h.seq <> COALESCE(l.numbers, 0) OR h.seq <> COALESCE(l.high, 0) OR (h.seq > 0 AND l.low <> 1)
               OR (h.seq > 0 AND (c.unread, c.unseen) IS DISTINCT FROM (h.unread, h.unseen))
            """)
        return try rows.map { try $0.text(0) }
    }
}

/// Something else in the place of the writing function. It counts its calls with the sequence `tries`.
enum StandIn {
    static func put(_ body: String, into database: Database) throws {
        try database.server.psql(
            """
            SET synchronous_commit = local; CREATE SEQUENCE tries;
            ALTER FUNCTION apply_changes RENAME TO apply_changes_itself;
            DO $outer$ BEGIN
                EXECUTE format('CREATE FUNCTION apply_changes(%s) RETURNS SETOF change_result LANGUAGE plpgsql AS $inner$ BEGIN %s END $inner$',
                               pg_get_function_identity_arguments('apply_changes_itself'::regproc), $body$\(body)$body$);
            END $outer$
            """, database: database.name)
    }

    static func remove(from database: Database) throws {
        try database.server.psql(
            """
            SET synchronous_commit = local; DROP FUNCTION apply_changes; ALTER FUNCTION apply_changes_itself RENAME TO apply_changes; DROP SEQUENCE tries
            """, database: database.name)
    }
}

func user(_ name: String) -> UserID { UserID(name)! }

private let request = Result {
    try NotifyRequest(json: .object([("title", .string("t")), ("user_id", .string("u"))]), catalogue: Catalogue([]), now: Timestamp(seconds: 1_800_000_000))
}

/// A valid one; what differs is said by `change`.
func notification(_ change: (inout NewNotification) -> Void = { _ in }) -> NewNotification {
    let id = NotificationID.make()
    guard case .success(let request) = request else { preconditionFailure("the example must be valid") }
    var new = NewNotification(id: id, request: request, body: "\"title\":\"\(id)\"", createdAt: .now())
    new.type = "T"
    new.inApp = true
    change(&new)
    return new
}

extension Timestamp {
    static func + (time: Timestamp, seconds: Int64) -> Timestamp { Timestamp(microseconds: time.microseconds + seconds * 1_000_000) }
}

/// JSON of counts: name to [unread, unseen].
func decodeCounts(_ json: String) throws -> [String: [Int32]] { try JSONDecoder().decode([String: [Int32]].self, from: Data(json.utf8)) }

/// Answers of a writer, in the order in which they came.
final class Answers: Sendable {
    private let list = Mutex<[(index: Int, result: Result<[InboxOutcome], StoreError>)]>([])

    @Sendable func add(_ result: Result<[InboxOutcome], StoreError>) { self.add(-1, result) }
    func add(_ index: Int, _ result: Result<[InboxOutcome], StoreError>) { self.list.withLock { $0.append((index, result)) } }

    var count: Int { self.list.withLock { $0.count } }
    var all: [(index: Int, result: Result<[InboxOutcome], StoreError>)] { self.list.withLock { $0 } }
    var failures: [(index: Int, error: StoreError)] {
        self.all.compactMap { answer in if case .failure(let error) = answer.result { (answer.index, error) } else { nil } }
    }
}

/// A number that tasks share.
final class Counter: Sendable {
    private let number = Atomic<Int>(0)
    var value: Int { self.number.load(ordering: .acquiring) }
    func add(_ more: Int = 1) { self.number.add(more, ordering: .acquiringAndReleasing) }
}
