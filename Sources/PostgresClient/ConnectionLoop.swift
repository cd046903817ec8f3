import DequeModule
import Logging
import Synchronization

/// What the thread of one connection does: connect, set up, serve until the connection is lost, again. Confined to that thread.
///
/// A thin shell: what was sent and what must come back is `PipelineState`'s, who waits is `Mailbox`'s.
final class ConnectionLoop {
    private typealias Machine = PipelineState<Submission, PostgresRows>
    private typealias Instant = ContinuousClock.Instant

    private let configuration: PostgresConfiguration
    private let mailbox: Mailbox
    private let hooks: () -> [SessionHook]
    private let logger: Logger
    private let wakeUp: Int32

    private var machine: Machine
    private var silence: SilenceWatch
    private var backoff: Backoff
    private var skippedHosts = 0
    /// Taken from the mailbox and not sent yet.
    private var backlog: Deque<Submission> = []
    /// What failed for a reason of its preparation goes before everything else, with its attempt's number.
    private var again: Deque<(submission: Submission, attempt: Int)> = []
    /// From the first packet to the end of the hooks, whose statements are not in the mailbox's books.
    private var isSettingUp = false
    private var commands: [Machine.Command] = []
    /// By way of a pooler: what each transaction begins with, and how many were sent since the server's session was given back.
    private var shared: SharedSession?
    private var turn = 0

    init(configuration: PostgresConfiguration, mailbox: Mailbox, logger: Logger, hooks: @escaping () -> [SessionHook]) {
        self.configuration = configuration
        self.mailbox = mailbox
        self.logger = logger
        self.hooks = hooks
        machine = Machine()
        silence = SilenceWatch(timeout: configuration.responseTimeout)
        backoff = Backoff(least: configuration.minimumBackoff, most: configuration.maximumBackoff)
        wakeUp = mailbox.open()
    }

    func run() {
        while !mailbox.isClosing {
            do {
                try session()
            } catch {
                if isSettingUp {
                    mailbox.connectFailures.add(1, ordering: .relaxed)
                    if !mailbox.isClosing { mailbox.connectionError.withLock { $0 = error } }
                }
                abandon(error)
                if mailbox.isClosing { break }
                let wait = backoff.wait(chance: .random(in: 0..<1))
                logger.warning(
                    "There is no database connection; trying again",
                    metadata: [LogKey.reason: "\(error)", LogKey.milliseconds: "\(wait.milliseconds)"])
                pause(wait)
            }
        }
        mailbox.finish()
    }

    /// One connection's life. Returns when it was closed on purpose.
    private func session() throws(PostgresError) {
        let deadline = ContinuousClock.now + configuration.connectTimeout
        isSettingUp = true
        let handle = try connect(until: deadline)
        try setUp(handle, until: deadline)
        isSettingUp = false
        backoff.reset()
        skippedHosts = 0
        mailbox.setConnected()
        logger.info(
            "Connected to the database", metadata: [LogKey.server: "\(handle.server)", LogKey.pooler: "\(shared == nil ? "none" : "transaction")"])
        try serve(handle, until: nil)
    }

    // MARK: Connecting

    private func connect(until deadline: Instant) throws(PostgresError) -> ConnectionHandle {
        let parameters = ConnectionParameters(configuration, skippedHosts: skippedHosts)
        guard let handle = ConnectionHandle(parameters, logger: logger) else { throw Self.unreachable("no memory") }
        guard !handle.isBad else { throw Self.unreachable(handle.errorMessage) }
        var step = ConnectionHandle.ConnectStep.waitToWrite
        while true {
            switch step {
            case .waitToRead: try waitToConnect(handle, read: true, until: deadline)
            case .waitToWrite: try waitToConnect(handle, read: false, until: deadline)
            case .failed: throw Self.unreachable(handle.errorMessage)
            case .done:
                guard handle.enterPipeline() else { throw Self.unreachable(handle.errorMessage) }
                return handle
            }
            step = handle.connectStep()
        }
    }

    private func waitToConnect(_ handle: borrowing ConnectionHandle, read: Bool, until deadline: Instant) throws(PostgresError) {
        while true {
            let events = Poll.wait(socket: handle.socket, read: read, write: !read, wakeUp: wakeUp, until: deadline)
            mailbox.wokeUp(events.woken)
            if mailbox.isClosing { throw .isClosed }
            if events.readable || events.writable { return }
            if ContinuousClock.now >= deadline {
                skippedHosts += 1
                throw Self.unreachable("no answer within connectTimeout")
            }
        }
    }

    private static func unreachable(_ reason: String) -> PostgresError {
        let isDistrusted = reason.contains("certificate verify failed")
        return PostgresError(
            code: .unavailable, message: "cannot connect to the database: \(reason)",
            hint: isDistrusted ? "its certificate is not of an authority in sslrootcert, or has expired" : "check its URL and whether it runs")
    }

    private func setUp(_ handle: borrowing ConnectionHandle, until deadline: Instant) throws(PostgresError) {
        shared = nil
        if configuration.pooler != .session { try recognize(handle, until: deadline) }
        var runs = hooks().map(SessionHookRun.init)
        // In a shared session each transaction says this for itself: what is set there for longer is set for whoever gets it next.
        if shared == nil {
            runs.insert(SessionHookRun(.noCompilation), at: 0)
            if let timeout = configuration.statementTimeout { runs.insert(SessionHookRun(.statementTimeout(timeout)), at: 0) }
        }
        try run(runs, handle, until: deadline)
    }

    /// Finds out whether the session is ours alone, before anything relies on it.
    private func recognize(_ handle: borrowing ConnectionHandle, until deadline: Instant) throws(PostgresError) {
        let question = SessionHookRun(SessionHook(statements: { [(SharedSession.question, [])] }, check: { _ in }))
        try run([question], handle, until: deadline)
        guard let row = try question.answers().first?.first else { throw Self.unreachable("it does not say who it is") }
        let isShared = try SharedSession.isShared(row, process: handle.process)
        guard isShared || configuration.pooler == .transaction else { return }
        shared = try SharedSession(row, statementTimeout: configuration.statementTimeout)
        machine.share()
    }

    private func run(_ runs: [SessionHookRun], _ handle: borrowing ConnectionHandle, until deadline: Instant) throws(PostgresError) {
        for run in runs { backlog.append(contentsOf: try run.submissions()) }
        try serve(handle, until: deadline)
        for run in runs {
            do {
                try run.check()
            } catch {
                throw PostgresError(code: .unavailable, message: "a fresh connection was refused by its set-up: \(error)", hint: "see what the set-up checks")
            }
        }
    }

    private func pause(_ wait: Duration) {
        let end = ContinuousClock.now + wait
        while ContinuousClock.now < end, !mailbox.isClosing {
            mailbox.wokeUp(Poll.wait(socket: -1, read: false, write: false, wakeUp: wakeUp, until: end).woken)
        }
    }

    // MARK: Serving

    /// Sends, receives and waits. While setting up it returns when all of that is answered, otherwise when everything accepted before a close is.
    private func serve(_ handle: borrowing ConnectionHandle, until deadline: Instant?) throws(PostgresError) {
        var end = deadline
        var isClosing = false
        while true {
            let isBlocked = try sendWaiting(handle)
            if try receive(handle) { continue }
            let isDone = machine.isIdle && again.isEmpty && backlog.isEmpty
            if isSettingUp {
                if mailbox.isClosing { throw .isClosed }
                if isDone || machine.isRetired && machine.isIdle { return }
            } else if machine.isRetired {
                refuseUnsent()
                if machine.isIdle { throw .lost("the session cannot be used any more") }
            } else if mailbox.isClosing {
                if isDone, !mailbox.hasWaiting { return }
                if !isClosing { end = ContinuousClock.now + configuration.closeTimeout }
                isClosing = true
            }
            try wait(handle, isBlocked: isBlocked, until: end)
        }
    }

    private func wait(_ handle: borrowing ConnectionHandle, isBlocked: Bool, until end: Instant?) throws(PostgresError) {
        // Where the next submission could not be sent anyway, only the socket matters, and callers need not wake us.
        let takesMore = !isSettingUp && !isBlocked && canSend && again.isEmpty && backlog.isEmpty
        if takesMore, !mailbox.fallAsleep() { return }
        let before = ContinuousClock.now
        silence.owed(machine.inFlight > 0 && !machine.runsScript, at: before)
        var deadlines = [silence.deadline, end].compactMap { $0 }
        // See `consumeInput`: should bytes be left inside of the TLS library all the same, an answer is late but not lost.
        if !machine.isIdle, handle.usesTLS { deadlines.append(before + .milliseconds(100)) }
        let events = Poll.wait(socket: handle.socket, read: true, write: isBlocked, wakeUp: wakeUp, until: deadlines.min())
        mailbox.wokeUp(events.woken)
        if events.readable || (!machine.isIdle && handle.usesTLS) { try read(handle) }
        let now = ContinuousClock.now
        if events.readable || events.writable {
            silence.heard(at: now)
        } else if let deadline = silence.deadline, now >= deadline {
            throw .lost("no answer within responseTimeout")
        }
        if let end, now >= end {
            if isSettingUp { throw Self.unreachable("the set-up was not answered within connectTimeout") }
            throw .lost("no answer within closeTimeout")
        }
    }

    private func read(_ handle: borrowing ConnectionHandle) throws(PostgresError) {
        if handle.consumeInput() { return }
        // What came before the end is an answer like any other.
        _ = try receive(handle)
        throw .lost(handle.errorMessage)
    }

    private var canSend: Bool {
        !machine.isRetired && !machine.runsScript && machine.inFlight < configuration.maxInFlight && (shared == nil || turn < SharedSession.turn)
    }

    /// Sends until nothing waits, enough is in flight, or the socket takes no more; true in this last case.
    private func sendWaiting(_ handle: borrowing ConnectionHandle) throws(PostgresError) -> Bool {
        while true {
            switch handle.flush() {
            case .done: break
            case .blocked: return true
            case .failed: throw .lost(handle.errorMessage)
            }
            if machine.isIdle { turn = 0 }
            guard canSend else { return false }
            if let next = again.popFirst() {
                try send(next.submission, attempt: next.attempt, handle)
                continue
            }
            if backlog.isEmpty, !isSettingUp { mailbox.take(configuration.maxInFlight - machine.inFlight, into: &backlog) }
            guard let next = backlog.first else { return false }
            if case .script = next.kind, !machine.isIdle { return false }
            backlog.removeFirst()
            try send(next, attempt: 0, handle)
        }
    }

    private func send(_ submission: Submission, attempt: Int, _ handle: borrowing ConnectionHandle) throws(PostgresError) {
        commands.removeAll(keepingCapacity: true)
        turn += 1
        let isSent: Bool
        switch submission.kind {
        case .statement(let statement, let parameters):
            machine.send(submission, statement, types: parameters.types, attempt: attempt, into: &commands)
            isSent = run(handle) { _ in (statement, parameters) }
        case .transaction(let items):
            machine.sendTransaction(submission, items.map { ($0.statement, $0.parameters.types) }, attempt: attempt, into: &commands)
            isSent = run(handle) { items[$0] }
        case .script(let sql):
            machine.sendScript(submission)
            isSent = handle.sendScript(sql)
        }
        if !isSent { throw .lost(handle.errorMessage) }
    }

    private func run(_ handle: borrowing ConnectionHandle, _ item: (Int) -> (statement: PostgresStatement, parameters: EncodedParameters)) -> Bool {
        for command in commands {
            let isSent =
                switch command {
                case .introduce: shared.map { handle.execute(name: nil, $0.statement, $0.parameters) } ?? true
                case .prepare(let name, let types, let index): handle.prepare(name: name, item(index).statement, types: types)
                case .execute(let name, let index): handle.execute(name: name, item(index).statement, item(index).parameters)
                case .begin: handle.execute("BEGIN")
                case .commit: handle.execute("COMMIT")
                case .rollback: handle.execute("ROLLBACK")
                case .sync: handle.sync()
                }
            if !isSent { return false }
        }
        return true
    }

    /// Passes on all answers that have arrived. True when there was one, since there may be room to send now.
    private func receive(_ handle: borrowing ConnectionHandle) throws(PostgresError) -> Bool {
        var received = false
        while !machine.isIdle, !handle.isBusy {
            received = true
            switch handle.nextAnswer() {
            case .copy: throw .lost("COPY is not supported")
            case .reply(let reply):
                if machine.runsScript, case .end = reply, try !scriptEnded(handle) { continue }
                try perform(machine.received(reply), handle)
            }
        }
        return received
    }

    private func perform(_ action: Machine.Action, _ handle: borrowing ConnectionHandle) throws(PostgresError) {
        switch action {
        case .wait: break
        case .succeeded(let submission, let rows): finish(submission, .success(rows))
        case .failed(let submission, let error): finish(submission, .failure(error))
        case .sendAgain(let submission, let attempt): again.append((submission, attempt))
        case .broken(let reason): throw .lost(handle.isBad ? handle.errorMessage : "libpq and the pipeline disagree: \(reason)")
        }
    }

    /// Back to the pipeline. False when the script began a transaction and did not end it, or failed within: it would swallow everything after it,
    /// so it is rolled back first, as the script's last statement.
    private func scriptEnded(_ handle: borrowing ConnectionHandle) throws(PostgresError) -> Bool {
        if handle.isBad { throw .lost(handle.errorMessage) }
        if handle.isInTransaction {
            // The script's own error, if it had one, is the one that counts.
            _ = machine.received(.failure(.openTransaction))
            guard handle.rollBackScript() else { throw .lost(handle.errorMessage) }
            return false
        }
        guard handle.enterPipeline() else { throw .lost(handle.errorMessage) }
        return true
    }

    private func finish(_ submission: Submission, _ result: Result<[PostgresRows], PostgresError>) {
        if !isSettingUp {
            let failed = if case .failure = result { true } else { false }
            mailbox.release(submission, failed: failed)
        }
        submission.completion(result)
    }

    // MARK: Losing it

    /// Tells callers that nothing is accepted, and those whose work was never sent.
    private func refuseUnsent() {
        backlog.append(contentsOf: mailbox.setDisconnected())
        let unsent = again.map(\.submission) + backlog
        again = []
        backlog = []
        for submission in unsent { finish(submission, .failure(mailbox.isClosing ? .isClosed : .notConnected)) }
    }

    private func abandon(_ error: PostgresError) {
        // Disconnected before the first completion runs: one that tries again at once is refused, not queued behind a dead connection.
        backlog.append(contentsOf: mailbox.setDisconnected())
        let lost = error.code == .connectionLost ? error : .lost(error.message)
        for (submission, failure) in machine.connectionLost() {
            let reason = failure.flatMap { failure in failure.sqlState.map { PostgresError.lost(failure.message, sqlState: $0) } }
            finish(submission, .failure(reason ?? lost))
        }
        silence = SilenceWatch(timeout: configuration.responseTimeout)
        refuseUnsent()
        isSettingUp = false
    }
}

extension SessionHook {
    /// Short statements that the planner takes for costly would be compiled each time, which takes longer than all else.
    static let noCompilation = SessionHook(
        statements: { [(PostgresStatement("SELECT set_config('jit', 'off', false)", prepared: false), [])] }, check: { _ in })

    /// Not as a start-up option, which PgBouncer refuses.
    static func statementTimeout(_ timeout: Duration) -> SessionHook {
        SessionHook(
            statements: {
                [(PostgresStatement("SELECT set_config('statement_timeout', $1, false)", prepared: false), [.text("\(timeout.wholeMilliseconds)")])]
            }, check: { _ in })
    }
}

extension Duration {
    /// Rounded down.
    fileprivate var milliseconds: Int64 {
        components.seconds * 1_000 + components.attoseconds / 1_000_000_000_000_000
    }
}
