import Synchronization
import TestServers
import Testing

@testable import PostgresClient

/// Everything that talks to a real server, one after the other.
@Suite("PostgreSQL", .serialized)
struct Live {}

/// Answers in the order in which they came.
final class Answers: Sendable {
    let list = Mutex<[(Int, Result<PostgresRows, PostgresError>)]>([])

    func add(_ index: Int, _ result: Result<PostgresRows, PostgresError>) {
        list.withLock { $0.append((index, result)) }
    }

    var count: Int { list.withLock { $0.count } }
    subscript(index: Int) -> Result<PostgresRows, PostgresError> { list.withLock { $0[index].1 } }
}

extension Result {
    var failure: Failure? {
        if case .failure(let error) = self { error } else { nil }
    }
}

extension Live {
    @Suite("Statements")
    struct Statements {
        @Test("a thousand statements in flight come back in order, one that fails in the middle harming none", arguments: [true, false])
        func pipelined(prepared: Bool) async throws {
            try await withConnection(PostgresServer.shared().url()) { connection async throws in
                let answers = Answers()
                let statement = PostgresStatement("SELECT 10 / $1::int4, $2::int4", prepared: prepared)
                for index in 0..<1_000 {
                    connection.execute(statement, [.int4(index == 500 ? 0 : 1), .int4(Int32(index))]) { answers.add(index, $0) }
                }
                await until { answers.count == 1_000 }
                let list = answers.list.withLock { $0 }
                #expect(list.map(\.0) == Array(0..<1_000))
                for (index, result) in list {
                    if index == 500 {
                        #expect(result.failure?.sqlState == "22012")
                        #expect(result.failure?.code == .server)
                    } else {
                        #expect(try result.get()[0].int4(1) == Int32(index))
                    }
                }
                #expect(connection.inFlight == 0)
            }
        }

        @Test("many more than may be in flight wait for their turn")
        func beyondInFlight() async throws {
            try await withConnection(PostgresServer.shared().url(), { $0.maxInFlight = 3 }) { connection async throws in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for index in 0..<500 {
                        group.addTask {
                            let rows = try await connection.execute(PostgresStatement("SELECT $1::int8"), [.int8(Int64(index))])
                            #expect(try rows[0].int8(0) == Int64(index))
                        }
                    }
                    try await group.waitForAll()
                }
            }
        }

        @Test("an error has its SQLSTATE, constraint, table, message and detail")
        func errorFields() async throws {
            let server = try PostgresServer.shared()
            try await withConnection(server.url(database: server.makeDatabase())) { connection async throws in
                try await connection.executeScript("CREATE TABLE t (id int8 CONSTRAINT only_one UNIQUE)")
                let insert = PostgresStatement("INSERT INTO t VALUES ($1)")
                #expect(try await connection.execute(insert, [.int8(1)]).affectedRows == 1)
                let error = try #require(await failure { try await connection.execute(insert, [.int8(1)]) })
                #expect(error.code == .server)
                #expect(error.sqlState == "23505")
                #expect(error.constraint == "only_one")
                #expect(error.table == "t")
                #expect(error.message.contains("only_one"))
                #expect(error.detail?.contains("(1)") == true)
                #expect(!error.isInDoubt)
            }
        }

        @Test("a constraint that is checked by the commit fails the statement that broke it, and no other")
        func deferredConstraint() async throws {
            let server = try PostgresServer.shared()
            try await withConnection(server.url(database: server.makeDatabase())) { connection async throws in
                try await connection.executeScript(
                    "CREATE TABLE p (id int8 PRIMARY KEY); CREATE TABLE c (p int8 CONSTRAINT late REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
                let answers = Answers()
                let insert = PostgresStatement("INSERT INTO c VALUES ($1)")
                connection.execute(PostgresStatement("INSERT INTO p VALUES (1)")) { answers.add(0, $0) }
                connection.execute(insert, [.int8(1)]) { answers.add(1, $0) }
                connection.execute(insert, [.int8(2)]) { answers.add(2, $0) }
                connection.execute(insert, [.int8(1)]) { answers.add(3, $0) }
                await until { answers.count == 4 }
                #expect(answers[1].failure == nil)
                #expect(answers[2].failure?.sqlState == "23503")
                #expect(answers[2].failure?.constraint == "late")
                #expect(try answers[3].get().affectedRows == 1)
            }
        }

        @Test("a transaction is all or nothing, and leaves the session clean for what is in flight behind it")
        func transaction() async throws {
            let server = try PostgresServer.shared()
            try await withConnection(server.url(database: server.makeDatabase())) { connection async throws in
                try await connection.executeScript("CREATE TABLE t (id int8 PRIMARY KEY)")
                let insert = PostgresStatement("INSERT INTO t VALUES ($1)")
                let count = PostgresStatement("SELECT count(*) FROM t")
                async let failed = failure {
                    try await connection.transaction([(insert, [.int8(1)]), (insert, [.int8(1)]), (insert, [.int8(2)])])
                }
                async let behind = connection.execute(count)
                #expect(await failed?.sqlState == "23505")
                #expect(try await behind[0].int8(0) == 0)
                let rows = try await connection.transaction([
                    (PostgresStatement("LOCK TABLE t", prepared: false), []), (insert, [.int8(1)]), (insert, [.int8(2)]), (count, []),
                ])
                #expect(rows.count == 4)
                #expect(try rows[3][0].int8(0) == 2)
                #expect(try await connection.execute(count)[0].int8(0) == 2)
            }
        }

        @Test("a script runs several statements as one, names its error, and the session goes on")
        func script() async throws {
            let server = try PostgresServer.shared()
            try await withConnection(server.url(database: server.makeDatabase())) { connection async throws in
                async let before = connection.execute(PostgresStatement("SELECT 1"))
                try await connection.executeScript("CREATE TABLE a (id int8); INSERT INTO a VALUES (1), (2); DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
                _ = try await before
                let count = PostgresStatement("SELECT count(*) FROM a")
                #expect(try await connection.execute(count)[0].int8(0) == 2)
                let error = await failure { try await connection.executeScript("INSERT INTO a VALUES (3); SELECT 1/0") }
                #expect(error?.sqlState == "22012")
                #expect(try await connection.execute(count)[0].int8(0) == 2)
                try await connection.executeScript("")
                #expect(connection.counters.reconnects == 0)
            }
        }

        @Test("a script that leaves a transaction open, or fails in one, is rolled back, and the session goes on")
        func openScript() async throws {
            let server = try PostgresServer.shared()
            try await withConnection(server.url(database: server.makeDatabase())) { connection async throws in
                let error = await failure { try await connection.executeScript("BEGIN; CREATE TABLE a (id int8)") }
                #expect(error?.sqlState == "25000")
                #expect(await failure { try await connection.execute(PostgresStatement("SELECT * FROM a")) }?.sqlState == "42P01")
                #expect(await failure { try await connection.executeScript("BEGIN; SELECT 1/0; COMMIT") }?.sqlState == "22012")
                try await connection.executeScript("ROLLBACK")
                #expect(try await connection.execute(PostgresStatement("SELECT 1"))[0].int4(0) == 1)
                #expect(connection.counters.reconnects == 0)
            }
        }

        @Test("a statement whose result a migration changes, or that the session forgot, is prepared again unnoticed")
        func preparedAgain() async throws {
            let server = try PostgresServer.shared()
            try await withConnection(server.url(database: server.makeDatabase())) { connection async throws in
                try await connection.executeScript("CREATE TABLE a (id int4); INSERT INTO a VALUES (1)")
                let select = PostgresStatement("SELECT * FROM a")
                #expect(try await connection.execute(select)[0].int4(0) == 1)
                try await connection.executeScript("ALTER TABLE a ALTER id TYPE int8")
                #expect(try await connection.execute(select)[0].int8(0) == 1)
                try await connection.executeScript("DEALLOCATE ALL")
                let answers = Answers()
                for index in 0..<10 { connection.execute(select) { answers.add(index, $0) } }
                await until { answers.count == 10 }
                for index in 0..<10 { #expect(try answers[index].get()[0].int8(0) == 1) }
            }
        }

        @Test("ten megabytes each way, several at once, do not block each other")
        func large() async throws {
            try await withConnection(PostgresServer.shared().url()) { connection async throws in
                let big = [UInt8](repeating: 7, count: 10 << 20)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<4 {
                        group.addTask {
                            let rows = try await connection.execute(PostgresStatement("SELECT $1::bytea"), [.bytea(big)])
                            #expect(try rows[0].bytes(0) == big)
                        }
                        group.addTask {
                            let rows = try await connection.execute(PostgresStatement("SELECT g, repeat('x', 1000) FROM generate_series(1, 10000) g"))
                            #expect(rows.count == 10_000)
                            #expect(try rows[9_999].int4(0) == 10_000)
                        }
                    }
                    try await group.waitForAll()
                }
            }
        }

        @Test("past its bound of bytes the queue refuses, and takes again once it is answered")
        func queueFull() async throws {
            try await withConnection(PostgresServer.shared().url(), { $0.maxQueuedBytes = 1 << 20 }) { connection async throws in
                let statement = PostgresStatement("SELECT length($1::bytea)")
                let error = await failure {
                    try await connection.execute(statement, [.bytea([UInt8](repeating: 0, count: 2 << 20))])
                }
                #expect(error?.code == .queueFull)
                for _ in 0..<4 {
                    let rows = try await connection.execute(statement, [.bytea([UInt8](repeating: 0, count: 900_000))])
                    #expect(try rows[0].int4(0) == 900_000)
                }
            }
        }

        @Test("the server cancels what runs longer than the statement's time-out", arguments: PostgresPooler.allCases)
        func statementTimeout(pooler: PostgresPooler) async throws {
            let configure = { (configuration: inout PostgresConfiguration) in
                configuration.statementTimeout = .milliseconds(20)
                configuration.pooler = pooler
            }
            try await withConnection(PostgresServer.shared().url(), configure) { connection async throws in
                let error = await failure { try await connection.execute(PostgresStatement("SELECT pg_sleep(600)")) }
                #expect(error?.code == .timedOut)
                #expect(error?.sqlState == "57014")
                #expect(error?.isInDoubt == false)
            }
        }

        @Test("in a shared session what is set holds for one transaction, and nothing is prepared; in one's own it stays", arguments: PostgresPooler.allCases)
        func settings(pooler: PostgresPooler) async throws {
            try await withConnection(PostgresServer.shared().url(), { $0.pooler = pooler }) { connection async throws in
                let look = PostgresStatement("SELECT current_setting('jit'), current_setting('statement_timeout'), $1::int4")
                for rows in [try await connection.execute(look, [.int4(1)])] + (try await connection.transaction([(look, [.int4(2)])])) {
                    #expect(try rows[0].text(0) == "off")
                    #expect(try rows[0].text(1) == "30s")
                }
                let isShared = pooler == .transaction
                let left = PostgresStatement("SELECT count(*) FROM pg_prepared_statements", prepared: false)
                #expect(try await connection.execute(left)[0].int8(0) == (isShared ? 0 : 1))
                // As a text of its own, before which nothing is said.
                let own = "DO $$ BEGIN IF current_setting('jit') = '\(isShared ? "off" : "on")' THEN RAISE 'it is'; END IF; END $$"
                try await connection.executeScript(own)
            }
        }

        @Test("the Unix socket serves as well")
        func unixSocket() async throws {
            try await withConnection(PostgresServer.shared().socketURL()) { connection async throws in
                #expect(try await connection.execute(PostgresStatement("SELECT inet_client_addr() IS NULL"))[0].bool(0))
            }
        }
    }
}
