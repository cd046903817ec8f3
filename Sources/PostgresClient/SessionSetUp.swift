import Synchronization

/// What runs on each fresh connection before anything else.
struct SessionHook: Sendable {
    /// Asked anew for each connection.
    let statements: @Sendable () -> [(PostgresStatement, [PostgresValue])]
    let check: @Sendable ([PostgresRows]) throws -> Void
}

/// One hook's run: its answers in order.
final class SessionHookRun: Sendable {
    private let hook: SessionHook
    private let results = Mutex<[Result<[PostgresRows], PostgresError>]>([])

    init(_ hook: SessionHook) {
        self.hook = hook
    }

    func submissions() throws(PostgresError) -> [Submission] {
        var all: [Submission] = []
        for (statement, values) in hook.statements() {
            all.append(try .statement(statement, values) { result in self.results.withLock { $0.append(result) } })
        }
        return all
    }

    /// After all of them were answered.
    func answers() throws(PostgresError) -> [PostgresRows] {
        var rows: [PostgresRows] = []
        for result in results.withLock({ $0 }) { rows += try result.get() }
        return rows
    }

    func check() throws { try hook.check(try answers()) }
}
