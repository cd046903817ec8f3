import DequeModule

/// What one session in libpq's pipeline mode was sent, and what must come back for it, in order. No input or output.
///
/// Every statement ends with a sync of its own and so is its own transaction: an error of one does not touch the next. The result of a statement is
/// known only with the answer to its sync, since that is where the server commits.
struct PipelineState<Work, Rows> {
    /// What to send, in this order. `index` counts the statements of one piece of work.
    enum Command: Equatable {
        /// Before the statements of one transaction in a shared session.
        case introduce
        case prepare(name: String, types: [UInt32], index: Int)
        /// Without a name: parse and run at once.
        case execute(name: String?, index: Int)
        case begin
        case commit
        case rollback
        case sync
    }

    /// What libpq answers, one call after the other.
    enum Reply {
        case rows(Rows)
        case failure(PostgresError)
        /// Skipped because something before it in the same transaction failed.
        case aborted
        /// libpq's NULL: no more of this command.
        case end
        case synced
    }

    enum Action {
        case wait
        case succeeded(Work, [Rows])
        case failed(Work, PostgresError)
        /// It had no effect, for a reason of its preparation. Send it again with this attempt's number.
        case sendAgain(Work, attempt: Int)
        /// libpq answered what it cannot have been asked: close the connection.
        case broken(String)
    }

    private enum Step {
        case introduce
        case prepare(PreparedStatements.Use)
        case execute(PreparedStatements.Use?)
        /// BEGIN and COMMIT: their answers matter only when they are errors.
        case frame
        case sync
        /// The ROLLBACK behind every transaction and its sync. They belong to no work, which is over by then.
        case cleanUp
        case cleanUpSync
        case script
    }

    private struct Flight {
        let work: Work
        let attempt: Int
        var rows: [Rows] = []
        var failure: PostgresError?
        var failedUse: PreparedStatements.Use?
    }

    /// The last attempt is sent unprepared, so it cannot fail for a reason of preparation.
    private static var lastAttempt: Int { 2 }

    private var steps: Deque<Step> = []
    private var flights: Deque<Flight> = []
    private var prepared = PreparedStatements()
    /// Whether the step at the head was answered, so that only its end may follow.
    private var answered = false
    /// Nothing more may be sent: the server is read-only, or the session is not what it should be. What is in flight may still finish.
    private(set) var isRetired = false
    /// Whether each transaction may run in another of the server's sessions. Nothing is prepared then, and each begins with an introduction, which fails
    /// where the server is not the one that this side knows.
    private(set) var isShared = false

    /// Pieces of work without an answer.
    var inFlight: Int { flights.count }
    /// Whether libpq owes an answer.
    var isIdle: Bool { steps.isEmpty }

    var runsScript: Bool {
        if case .script = steps.first { true } else { false }
    }

    mutating func retire() {
        isRetired = true
    }

    /// Until the connection is lost. Before anything is prepared.
    mutating func share() {
        isShared = true
    }

    /// One statement that is its own transaction.
    mutating func send(_ work: Work, _ statement: PostgresStatement, types: [UInt32], attempt: Int = 0, into commands: inout [Command]) {
        introduce(into: &commands)
        add(statement, types: types, index: 0, attempt: attempt, into: &commands)
        steps.append(.sync)
        commands.append(.sync)
        flights.append(Flight(work: work, attempt: attempt))
    }

    /// Several statements that are one transaction.
    ///
    /// After an error the server skips everything up to the sync, the COMMIT too, and the session is left inside the failed transaction, where the
    /// next work would fail. Hence the ROLLBACK behind the sync; after a COMMIT it is only a warning.
    mutating func sendTransaction(
        _ work: Work, _ statements: [(statement: PostgresStatement, types: [UInt32])], attempt: Int = 0, into commands: inout [Command]
    ) {
        steps.append(.frame)
        commands.append(.begin)
        introduce(into: &commands)
        for (index, item) in statements.enumerated() {
            add(item.statement, types: item.types, index: index, attempt: attempt, into: &commands)
        }
        steps.append(contentsOf: [.frame, .sync, .cleanUp, .cleanUpSync])
        commands.append(contentsOf: [.commit, .sync, .rollback, .sync])
        flights.append(Flight(work: work, attempt: attempt))
    }

    /// A text of several statements outside of pipeline mode, which is possible only while nothing is in flight.
    mutating func sendScript(_ work: Work) {
        precondition(isIdle, "a script needs an idle session")
        steps.append(.script)
        flights.append(Flight(work: work, attempt: Self.lastAttempt))
    }

    private mutating func introduce(into commands: inout [Command]) {
        guard isShared else { return }
        steps.append(.introduce)
        commands.append(.introduce)
    }

    private mutating func add(
        _ statement: PostgresStatement, types: [UInt32], index: Int, attempt: Int, into commands: inout [Command]
    ) {
        guard !isShared, statement.prepared, attempt < Self.lastAttempt else { return addUnprepared(index, into: &commands) }
        switch prepared.plan(statement, types: types) {
        case .ready(let name, let use):
            steps.append(.execute(use))
            commands.append(.execute(name: name, index: index))
        case .prepare(let name, let types, let use):
            steps.append(.prepare(use))
            steps.append(.execute(use))
            commands.append(.prepare(name: name, types: types, index: index))
            commands.append(.execute(name: name, index: index))
        case .unprepared:
            addUnprepared(index, into: &commands)
        }
    }

    private mutating func addUnprepared(_ index: Int, into commands: inout [Command]) {
        steps.append(.execute(nil))
        commands.append(.execute(name: nil, index: index))
    }

    mutating func received(_ reply: Reply) -> Action {
        guard let step = steps.first else { return .broken("an answer without a question") }
        switch step {
        case .introduce:
            switch reply {
            case .rows: return answer()
            case .failure(let error): isRetired = true; return fail(.otherServer(error), nil)
            case .aborted: return skip()
            case .end: return endStep()
            case .synced: return .broken("a sync before the end of an introduction")
            }
        case .prepare(let use):
            switch reply {
            case .rows: return answer()
            case .failure(let error): prepared.forget(use); return fail(error, use)
            case .aborted: prepared.forget(use); return skip()
            case .end: return endStep()
            case .synced: return .broken("a sync before the end of a preparation")
            }
        case .execute(let use):
            switch reply {
            case .rows(let rows): flights[0].rows.append(rows); return answer()
            case .failure(let error): return fail(error, use)
            case .aborted: return skip()
            case .end: return endStep()
            case .synced: return .broken("a sync before the end of a statement")
            }
        case .frame:
            switch reply {
            case .rows: return answer()
            case .failure(let error): return fail(error, nil)
            case .aborted: return skip()
            case .end: return endStep()
            case .synced: return .broken("a sync before the end of BEGIN or COMMIT")
            }
        case .sync:
            switch reply {
            case .synced: steps.removeFirst(); answered = false; return finish()
            // Deferred constraints are checked by the commit.
            case .failure(let error): return fail(error, nil)
            case .end:
                guard answered else { return .broken("an end instead of a sync") }
                answered = false
                return .wait
            case .rows, .aborted: return .broken("a result instead of a sync")
            }
        case .cleanUp:
            switch reply {
            case .rows: return answer()
            case .end: return endStep()
            case .failure, .aborted, .synced: return .broken("a failed ROLLBACK")
            }
        case .cleanUpSync:
            switch reply {
            case .synced: steps.removeFirst(); return .wait
            case .rows, .failure, .aborted, .end: return .broken("no sync after ROLLBACK")
            }
        case .script:
            switch reply {
            case .rows: return .wait
            case .failure(let error): return fail(error, nil)
            case .end: steps.removeFirst(); answered = false; return finish()
            case .aborted, .synced: return .broken("a pipeline's answer to a script")
            }
        }
    }

    /// The connection is gone: everything that was sent has an unknown outcome. With it the error that the server had already sent for it, which
    /// says why when the server ended the session.
    mutating func connectionLost() -> [(work: Work, failure: PostgresError?)] {
        let works = flights.map { ($0.work, $0.failure) }
        self = PipelineState()
        return works
    }

    private mutating func answer() -> Action {
        if answered { return .broken("two answers to one command") }
        answered = true
        return .wait
    }

    private mutating func skip() -> Action {
        guard flights[0].failure != nil else { return .broken("a skipped command without an error before it") }
        return answer()
    }

    private mutating func fail(_ error: PostgresError, _ use: PreparedStatements.Use?) -> Action {
        if flights[0].failure == nil {
            flights[0].failure = error
            flights[0].failedUse = use
        }
        answered = true
        return .wait
    }

    private mutating func endStep() -> Action {
        guard answered else { return .broken("an end without an answer") }
        answered = false
        steps.removeFirst()
        return .wait
    }

    private mutating func finish() -> Action {
        let flight = flights.removeFirst()
        guard let failure = flight.failure else { return .succeeded(flight.work, flight.rows) }
        if let use = flight.failedUse, Self.isStale(failure) {
            prepared.forget(use)
            if flight.attempt < Self.lastAttempt { return .sendAgain(flight.work, attempt: flight.attempt + 1) }
        }
        if failure.sqlState == "25006" { isRetired = true }
        return .failed(flight.work, failure)
    }

    /// 26000: there is no such prepared statement (a pooler changed the session, DISCARD ALL, or its preparation failed just before).
    /// 42P05: there is one already (a pooler again). 0A000: a migration changed its result's type.
    private static func isStale(_ error: PostgresError) -> Bool {
        error.sqlState == "26000" || error.sqlState == "42P05" || error.sqlState == "0A000"
    }
}
