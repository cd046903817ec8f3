public import Logging
import Synchronization

/// One connection to the database, on one thread of its own, in pipeline mode: many statements may be in flight, their answers come in order.
///
/// Each `execute` is its own transaction. Statements of one connection run in the order of their `execute` calls, with one exception: one whose preparation
/// the server has lost is sent again behind those already in flight.
///
/// It connects again, for ever, until `close()`. While there is no connection `execute` fails at once; nothing is queued for later. When the connection is
/// lost, what had been sent fails with `.connectionLost` (in doubt), what still waited with `.unavailable`.
public final class PostgresConnection: Sendable {
    private struct Lifecycle: ~Copyable {
        var isStarted = false
        var thread: OSThread?
    }

    private let configuration: PostgresConfiguration
    private let logger: Logger
    let mailbox: Mailbox
    private let hooks: Hooks
    private let lifecycle = Mutex(Lifecycle())

    /// The thread refers to these and not to the connection, so that dropping the connection ends the thread.
    private final class Hooks: Sendable {
        let list = Mutex<[SessionHook]>([])
    }

    /// - Parameter name: for logs.
    public init(configuration: PostgresConfiguration, name: String, logger: Logger) {
        self.configuration = configuration
        var logger = logger
        logger[metadataKey: LogKey.connection] = "\(name)"
        self.logger = logger
        mailbox = Mailbox(maxBytes: configuration.maxQueuedBytes)
        hooks = Hooks()
    }

    /// Dropped without `close()`: the thread finishes what was accepted and ends by itself.
    deinit {
        mailbox.requestClose()
        lifecycle.withLock { $0.thread.take() }?.detach()
    }

    /// Starts its thread and the first attempt to connect. Once; not after `close()`.
    public func start() {
        lifecycle.withLock { lifecycle in
            if lifecycle.isStarted || mailbox.isClosing { return }
            lifecycle.isStarted = true
            lifecycle.thread = OSThread { [configuration, mailbox, logger, hooks] in
                ConnectionLoop(configuration: configuration, mailbox: mailbox, logger: logger, hooks: { hooks.list.withLock { $0 } }).run()
            }
            if lifecycle.thread == nil {
                logger.critical("The system has no thread left for a database connection")
                mailbox.finish()
            }
        }
    }

    /// Whether `execute` would be accepted: connected and set up.
    public var isConnected: Bool { mailbox.isConnected }

    /// Why the last attempt to connect failed. Nil before one has, and once one succeeded.
    public var connectionError: PostgresError? { mailbox.connectionError.withLock { $0 } }

    /// Statements accepted and not answered.
    public var inFlight: Int { mailbox.load.load(ordering: .relaxed) }

    public var counters: PostgresCounters {
        let connects = mailbox.connects.load(ordering: .relaxed)
        return PostgresCounters(
            size: 1, connected: isConnected ? 1 : 0, inFlight: inFlight, reconnects: max(0, connects - 1),
            connectFailures: mailbox.connectFailures.load(ordering: .relaxed), errors: mailbox.errors.load(ordering: .relaxed))
    }

    /// Runs on each fresh connection before anything else, in the order of these calls; call it before `start()`.
    ///
    /// - Parameters:
    ///   - statements: asked for anew for each connection, on its thread; run one after the other, each in its own transaction.
    ///   - check: given their answers on the connection's thread, where it must not block. If it throws, or a statement fails, the
    ///     connection is closed and tried again.
    public func onConnect(
        _ statements: @escaping @Sendable () -> [(PostgresStatement, [PostgresValue])],
        check: @escaping @Sendable ([PostgresRows]) throws -> Void = { _ in }
    ) {
        hooks.list.withLock { $0.append(SessionHook(statements: statements, check: check)) }
    }

    /// Returns at once when connected. Throws `.closed` after `close()`, `.unavailable` when the task is cancelled.
    public func waitUntilConnected() async throws(PostgresError) {
        if await mailbox.waitUntilConnected() { return }
        throw mailbox.isClosing ? .isClosed : .notConnected
    }

    /// Sends one statement.
    ///
    /// - Parameter completion: called once, on the connection's thread, where it must not block; or before this returns, on the caller's, when
    ///   it is refused: `.unavailable`, `.queueFull`, `.closed`, or `.server` for a value that no server takes.
    public func execute(
        _ statement: PostgresStatement, _ values: [PostgresValue] = [], completion: @escaping @Sendable (Result<PostgresRows, PostgresError>) -> Void
    ) {
        if let refusal = offer(statement, values, completion) { completion(.failure(refusal)) }
    }

    /// Sends one statement and waits for its answer. Cancelling the task changes nothing: the statement may have run.
    public func execute(_ statement: PostgresStatement, _ values: [PostgresValue] = []) async throws(PostgresError) -> PostgresRows {
        try await withCheckedContinuation { continuation in
            execute(statement, values) { continuation.resume(returning: $0) }
        }.get()
    }

    /// Sends several statements as one transaction, all in one round trip: all of them, or none.
    ///
    /// - Returns: the answer to each.
    public func transaction(_ statements: [(PostgresStatement, [PostgresValue])]) async throws(PostgresError) -> [PostgresRows] {
        let encoded = try Submission.encode(statements)
        return try await run { .transaction(encoded, $0) }
    }

    /// Runs a text of several statements without parameters (the simple query protocol): one transaction, unless it holds its own
    /// BEGIN and COMMIT; what these leave open, after an error too, is rolled back. It waits for what is in flight, and what comes later
    /// waits for it. `responseTimeout` does not hold for it, `statementTimeout` does.
    public func executeScript(_ sql: String) async throws(PostgresError) {
        try Submission.check(script: sql)
        _ = try await run { .script(sql, $0) }
    }

    /// Refuses new work, waits up to `closeTimeout` for the answers to what was accepted, and ends the thread. May be called more than once.
    public func close() async {
        let isStarted = lifecycle.withLock { lifecycle in
            mailbox.requestClose()
            return lifecycle.isStarted
        }
        guard isStarted else { return }
        await mailbox.waitUntilFinished()
        // It has nothing left to do but to return.
        lifecycle.withLock { $0.thread.take() }?.join()
    }

    /// Accepts the statement, or says why not.
    func offer(
        _ statement: PostgresStatement, _ values: [PostgresValue], _ completion: @escaping @Sendable (Result<PostgresRows, PostgresError>) -> Void
    ) -> PostgresError? {
        do {
            return mailbox.offer(try .statement(statement, values) { result in completion(result.map { $0[0] }) })
        } catch {
            return error
        }
    }

    private func run(_ submission: (@escaping Submission.Completion) -> Submission) async throws(PostgresError) -> [PostgresRows] {
        try await withCheckedContinuation { continuation in
            let refusal = mailbox.offer(submission { continuation.resume(returning: $0) })
            if let refusal { continuation.resume(returning: .failure(refusal)) }
        }.get()
    }
}
