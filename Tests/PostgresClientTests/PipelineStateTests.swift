import Testing

@testable import PostgresClient

/// Work and rows are strings here.
private typealias Machine = PipelineState<String, String>

extension PipelineState<String, String>.Action {
    fileprivate var summary: String {
        switch self {
        case .wait: "wait"
        case .succeeded(let work, let rows): "\(work) succeeded \(rows.joined(separator: ","))"
        case .failed(let work, let error): "\(work) failed \(error.sqlState ?? "")"
        case .sendAgain(let work, let attempt): "\(work) again \(attempt)"
        case .broken: "broken"
        }
    }
}

extension PipelineState<String, String> {
    /// All that is not `wait`.
    fileprivate mutating func receive(_ replies: Reply...) -> [String] {
        replies.map { received($0).summary }.filter { $0 != "wait" }
    }

    fileprivate mutating func send(_ work: String, _ statement: PostgresStatement, types: [UInt32] = [], attempt: Int = 0) -> [Command] {
        var commands: [Command] = []
        send(work, statement, types: types, attempt: attempt, into: &commands)
        return commands
    }
}

private func serverError(_ sqlState: String) -> PostgresError {
    PostgresError(code: sqlState == "25006" ? .unavailable : .server, sqlState: sqlState, message: "")
}

private let once = PostgresStatement("SELECT 1", prepared: false)
private let often = PostgresStatement("SELECT $1")

@Suite("The pipeline's state")
struct PipelineStateTests {
    @Test("a statement succeeds only with the answer to its sync, where the server commits")
    func success() {
        var machine = Machine()
        #expect(machine.send("a", once) == [.execute(name: nil, index: 0), .sync])
        #expect(machine.receive(.rows("r"), .end).isEmpty)
        #expect(machine.inFlight == 1)
        #expect(machine.receive(.synced) == ["a succeeded r"])
        #expect(machine.isIdle)
    }

    @Test("a prepared statement is parsed with its first use and only named afterwards")
    func prepareOnce() {
        var machine = Machine()
        let name = often.name(generation: 0)
        #expect(machine.send("a", often, types: [20]) == [.prepare(name: name, types: [20], index: 0), .execute(name: name, index: 0), .sync])
        #expect(machine.send("b", often, types: [20]) == [.execute(name: name, index: 0), .sync])
        #expect(machine.receive(.rows(""), .end, .rows("1"), .end, .synced, .rows("2"), .end, .synced) == ["a succeeded 1", "b succeeded 2"])
    }

    @Test("an error of one statement leaves its neighbours alone")
    func neighbours() {
        var machine = Machine()
        for work in ["a", "b", "c"] { _ = machine.send(work, once) }
        #expect(
            machine.receive(.rows("1"), .end, .synced, .failure(serverError("23505")), .end, .synced, .rows("3"), .end, .synced)
                == ["a succeeded 1", "b failed 23505", "c succeeded 3"])
    }

    @Test("an error of the commit itself is the statement's error")
    func commitFails() {
        var machine = Machine()
        _ = machine.send("a", once)
        #expect(machine.receive(.rows("1"), .end, .failure(serverError("23503")), .end, .synced) == ["a failed 23503"])
    }

    @Test("what could not be prepared is prepared again by its next use")
    func failedPreparation() {
        var machine = Machine()
        _ = machine.send("a", often, types: [20])
        #expect(machine.receive(.failure(serverError("42601")), .end, .aborted, .end, .synced) == ["a failed 42601"])
        let name = often.name(generation: 1)
        #expect(machine.send("b", often, types: [20]).first == .prepare(name: name, types: [20], index: 0))
    }

    @Test("a statement that the session has lost is sent again, at last unprepared", arguments: ["26000", "42P05", "0A000"])
    func again(sqlState: String) {
        var machine = Machine()
        _ = machine.send("a", often, types: [20])
        #expect(machine.receive(.rows(""), .end, .failure(serverError(sqlState)), .end, .synced) == ["a again 1"])
        _ = machine.send("a", often, types: [20], attempt: 1)
        #expect(machine.receive(.failure(serverError(sqlState)), .end, .aborted, .end, .synced) == ["a again 2"])
        #expect(machine.send("a", often, types: [20], attempt: 2) == [.execute(name: nil, index: 0), .sync])
        #expect(machine.receive(.failure(serverError(sqlState)), .end, .synced) == ["a failed \(sqlState)"])
    }

    @Test("two that find the same statement lost prepare it once")
    func againTogether() {
        var machine = Machine()
        _ = machine.send("a", often, types: [20])
        _ = machine.send("b", often, types: [20])
        let replies: [Machine.Reply] = [
            .rows(""), .end, .failure(serverError("26000")), .end, .synced, .failure(serverError("26000")), .end, .synced,
        ]
        #expect(replies.map { machine.received($0).summary }.filter { $0 != "wait" } == ["a again 1", "b again 1"])
        #expect(machine.send("a", often, types: [20], attempt: 1).count == 3)
        #expect(machine.send("b", often, types: [20], attempt: 1).count == 2)
    }

    @Test("a transaction is framed, ends at its sync, and cleans up behind it")
    func transaction() {
        var machine = Machine()
        var commands: [Machine.Command] = []
        machine.sendTransaction("t", [(once, []), (once, [])], into: &commands)
        #expect(commands == [.begin, .execute(name: nil, index: 0), .execute(name: nil, index: 1), .commit, .sync, .rollback, .sync])
        #expect(machine.receive(.rows(""), .end, .rows("1"), .end, .rows("2"), .end, .rows(""), .end, .synced) == ["t succeeded 1,2"])
        #expect(!machine.isIdle)
        #expect(machine.receive(.rows(""), .end, .synced).isEmpty)
        #expect(machine.isIdle)
    }

    @Test("a transaction fails with its first error, and what stood behind it was skipped")
    func transactionFails() {
        var machine = Machine()
        var commands: [Machine.Command] = []
        machine.sendTransaction("t", [(once, []), (often, [])], into: &commands)
        #expect(
            machine.receive(
                .rows(""), .end, .failure(serverError("22012")), .end, .aborted, .end, .aborted, .end, .aborted, .end, .synced, .rows(""), .end, .synced)
                == ["t failed 22012"])
        #expect(machine.isIdle)
        // Its preparation was skipped.
        #expect(machine.send("a", often).count == 3)
    }

    @Test("a read-only server retires the session, whose other answers still come")
    func readOnly() {
        var machine = Machine()
        _ = machine.send("a", once)
        _ = machine.send("b", once)
        #expect(machine.receive(.failure(serverError("25006")), .end, .synced) == ["a failed 25006"])
        #expect(machine.isRetired)
        #expect(machine.receive(.rows("2"), .end, .synced) == ["b succeeded 2"])
    }

    @Test("in a shared session nothing is prepared, and each transaction begins with an introduction")
    func shared() {
        var machine = Machine()
        machine.share()
        #expect(machine.send("a", often, types: [20]) == [.introduce, .execute(name: nil, index: 0), .sync])
        var commands: [Machine.Command] = []
        machine.sendTransaction("t", [(often, [20])], into: &commands)
        #expect(commands == [.begin, .introduce, .execute(name: nil, index: 0), .commit, .sync, .rollback, .sync])
        #expect(machine.receive(.rows(""), .end, .rows("1"), .end, .synced) == ["a succeeded 1"])
        #expect(machine.receive(.rows(""), .end, .rows(""), .end, .rows("2"), .end, .rows(""), .end, .synced) == ["t succeeded 2"])
    }

    @Test("where the introduction fails nothing was carried out, and the session is not used again")
    func otherServer() {
        var machine = Machine()
        machine.share()
        for work in ["a", "b"] { _ = machine.send(work, once) }
        var failures: [PostgresError] = []
        for reply in [.failure(serverError("22012")), .end, .aborted, .end, .synced, .failure(serverError("22012")), .end, .aborted, .end, .synced] as [Machine.Reply] {
            if case .failed(_, let error) = machine.received(reply) { failures.append(error) }
        }
        #expect(failures.map(\.code) == [.unavailable, .unavailable])
        #expect(machine.isRetired)
        #expect(machine.isIdle)
        _ = machine.connectionLost()
        #expect(!machine.isRetired)
        #expect(!machine.isShared)
    }

    @Test("a script has as many answers as statements and no sync")
    func script() {
        var machine = Machine()
        machine.sendScript("s")
        #expect(machine.runsScript)
        #expect(machine.receive(.rows(""), .rows(""), .end) == ["s succeeded "])
        machine.sendScript("s")
        #expect(machine.receive(.rows(""), .failure(serverError("42601")), .end) == ["s failed 42601"])
    }

    @Test("a lost connection gives back all that was sent, and its session's statements are forgotten")
    func lost() {
        var machine = Machine()
        _ = machine.send("a", often)
        _ = machine.send("b", often)
        _ = machine.receive(.rows(""), .end)
        #expect(machine.receive(.failure(serverError("57P01"))).isEmpty)
        let lost = machine.connectionLost()
        #expect(lost.map(\.work) == ["a", "b"])
        #expect(lost.map(\.failure?.sqlState) == ["57P01", nil])
        #expect(machine.isIdle)
        #expect(machine.send("c", often).count == 3)
    }

    @Test("answers that nobody asked for break the session")
    func broken() {
        var machine = Machine()
        #expect(machine.receive(.synced) == ["broken"])
        _ = machine.send("a", once)
        #expect(machine.receive(.end) == ["broken"])
        #expect(machine.receive(.synced) == ["broken"])
        #expect(machine.receive(.aborted) == ["broken"])
        #expect(machine.receive(.rows(""), .rows("")) == ["broken"])
    }

    @Test("an end without end at a sync breaks the session instead of looping")
    func endlessEnd() {
        var machine = Machine()
        _ = machine.send("a", once)
        #expect(machine.receive(.rows(""), .end, .failure(serverError("23503")), .end, .end) == ["broken"])
    }
}

@Suite("Prepared statements")
struct PreparedStatementsTests {
    @Test("NULL fits the prepared type; another type is prepared anew under another name")
    func signatures() {
        var prepared = PreparedStatements()
        func use(_ generation: Int) -> PreparedStatements.Use { .init(statement: often, generation: generation) }
        func name(_ generation: Int) -> String { often.name(generation: generation) }
        #expect(prepared.plan(often, types: [0, 20]) == .prepare(name: name(0), types: [0, 20], use(0)))
        #expect(prepared.plan(often, types: [0, 0]) == .ready(name: name(0), use(0)))
        #expect(prepared.plan(often, types: [25, 0]) == .prepare(name: name(1), types: [25, 20], use(1)))
        #expect(prepared.plan(often, types: [0, 20]) == .ready(name: name(1), use(1)))
        prepared.forget(use(0))
        #expect(prepared.plan(often, types: [25, 20]) == .ready(name: name(1), use(1)))
        prepared.forget(use(1))
        #expect(prepared.plan(often, types: [25, 20]) == .prepare(name: name(2), types: [25, 20], use(2)))
    }

    @Test("what is prepared too often, or too many of them, goes unprepared")
    func bounds() {
        var prepared = PreparedStatements()
        for generation in 0..<PreparedStatements.maximumGenerations {
            _ = prepared.plan(often, types: [])
            prepared.forget(.init(statement: often, generation: generation))
        }
        #expect(prepared.plan(often, types: []) == .unprepared)
        for index in 1..<PreparedStatements.capacity { _ = prepared.plan(PostgresStatement("SELECT \(index)"), types: []) }
        #expect(prepared.plan(PostgresStatement("SELECT"), types: []) == .unprepared)
    }

    @Test("names differ by text and fit into PostgreSQL's 63 bytes")
    func names() {
        let names = Set((0..<10_000).map { PostgresStatement("SELECT \($0)").name(generation: 15) })
        #expect(names.count == 10_000)
        #expect(names.allSatisfy { $0.utf8.count <= 63 })
    }
}

@Suite("Waiting and connecting")
struct TimingTests {
    @Test("the wait doubles up to its bound and is jittered between half and the whole")
    func backoff() {
        var backoff = Backoff(least: .milliseconds(50), most: .seconds(2))
        #expect((0..<7).map { _ in backoff.wait(chance: 1) } == [50, 100, 200, 400, 800, 1_600, 2_000].map { .milliseconds($0) })
        #expect(backoff.wait(chance: 0) == .seconds(1))
        backoff.reset()
        #expect(backoff.wait(chance: 0) == .milliseconds(25))
    }

    @Test("silence is counted from the first question or the last word, and not at all when nothing is owed")
    func silence() {
        let start = ContinuousClock.now
        var watch = SilenceWatch(timeout: .seconds(10))
        watch.heard(at: start)
        #expect(watch.deadline == nil)
        watch.owed(true, at: start)
        watch.owed(true, at: start + .seconds(4))
        #expect(watch.deadline == start + .seconds(10))
        watch.heard(at: start + .seconds(5))
        #expect(watch.deadline == start + .seconds(15))
        watch.owed(false, at: start + .seconds(6))
        #expect(watch.deadline == nil)
    }

    @Test("the URL wins over the defaults, and a silent host goes to the end of the list")
    func parameters() {
        let configuration = PostgresConfiguration(url: "postgres://u:p@a:1,b:2,c:3/d?target_session_attrs=any")
        let first = ConnectionParameters(configuration, skippedHosts: 0)
        #expect(first.keywords.firstIndex(of: "target_session_attrs")! < first.keywords.firstIndex(of: "dbname")!)
        let next = ConnectionParameters(configuration, skippedHosts: 4)
        #expect(next.values[next.keywords.lastIndex(of: "host")!] == "b,c,a")
        #expect(next.values[next.keywords.lastIndex(of: "port")!] == "2,3,1")
    }

    @Test("a wrong URL is named without quoting it", arguments: ["nonsense", "postgres://u:secret@[h/", "postgres://u:%zz@h/d"])
    func wrongURL(url: String) {
        let error = #expect(throws: PostgresError.self) { try PostgresConfiguration(url: url).validate() }
        #expect(error?.description.contains("secret") == false)
        #expect("\(PostgresConfiguration(url: "postgres://u:secret@h/"))".contains("secret") == false)
    }
}
