import Foundation
import Synchronization
import TestServers
import Testing

@testable import PostgresClient

private let sleep = PostgresStatement("SELECT pg_sleep(600) /* the long one */", prepared: false)

/// Returns when the server is at work on `sleep`.
private func untilSleeping(_ server: PostgresServer) async throws {
    try await withConnection(server.url()) { observer async throws in
        let look = PostgresStatement(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%the long one%' AND pid <> pg_backend_pid() AND wait_event = 'PgSleep'")
        try await until { try await observer.execute(look)[0].int8(0) == 1 }
    }
}

extension Live {
    @Suite("Losing the server", .serialized)
    struct Faults {
        private static let result = Result { try PostgresServer() }
        let server: PostgresServer

        init() throws {
            server = try Self.result.get()
        }

        @Test("killed in the middle: what was sent is in doubt, what waited was never sent, and it reconnects by itself")
        func killed() async throws {
            try await withConnection(server.url(), { $0.maxInFlight = 1 }) { connection async throws in
                let answers = Answers()
                connection.execute(sleep) { answers.add(0, $0) }
                connection.execute(PostgresStatement("SELECT 1")) { answers.add(1, $0) }
                try await untilSleeping(server)
                server.kill()
                await until { answers.count == 2 }
                #expect(answers[0].failure?.code == .connectionLost)
                #expect(answers[0].failure?.isInDoubt == true)
                #expect(answers[1].failure?.code == .unavailable)
                #expect(answers[1].failure?.isInDoubt == false)
                #expect(!connection.isConnected)
                #expect(await failure { try await connection.execute(PostgresStatement("SELECT 1")) }?.code == .unavailable)
                await until { connection.counters.connectFailures > 0 }
                try server.start()
                try await connection.waitUntilConnected()
                #expect(try await connection.execute(PostgresStatement("SELECT 1"))[0].int4(0) == 1)
                #expect(connection.counters.reconnects == 1)
                #expect(connection.inFlight == 0)
            }
        }

        @Test("stopped in order: what ran is in doubt, and it reconnects")
        func stopped() async throws {
            try await withConnection(server.url()) { connection async throws in
                let answers = Answers()
                connection.execute(sleep) { answers.add(0, $0) }
                try await untilSleeping(server)
                try server.restart()
                await until { answers.count == 1 }
                #expect(answers[0].failure?.code == .connectionLost)
                try await connection.waitUntilConnected()
                #expect(try await connection.execute(PostgresStatement("SELECT 1"))[0].int4(0) == 1)
            }
        }

        @Test("a session that is terminated reconnects, and what had been answered stays answered")
        func terminated() async throws {
            try await withConnection(server.url()) { connection async throws in
                let answers = Answers()
                connection.execute(PostgresStatement("SELECT 1")) { answers.add(0, $0) }
                connection.execute(PostgresStatement("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(600)")) { answers.add(1, $0) }
                await until { answers.count == 2 }
                #expect(try answers[0].get().count == 1)
                #expect(answers[1].failure?.code == .connectionLost)
                #expect(answers[1].failure?.sqlState == "57P01")
                #expect(answers[1].failure?.message.contains("terminating connection") == true)
                await until { connection.counters.reconnects == 1 }
            }
        }

        @Test("a server that falls silent is given up after the response time-out, and found again once it speaks")
        func silent() async throws {
            try await withConnection(server.url(), { $0.responseTimeout = .milliseconds(100); $0.connectTimeout = .milliseconds(200) }) { connection async throws in
                server.pause()
                let error = await failure { try await connection.execute(PostgresStatement("SELECT 1")) }
                // Its kernel still accepts: only the time-out of connecting notices.
                await until { connection.counters.connectFailures > 0 }
                server.resume()
                #expect(error?.code == .connectionLost)
                #expect(error?.isInDoubt == true)
                // Its time-out is short for one that has only just woken up, too.
                await until { (try? await connection.execute(PostgresStatement("SELECT 1")))?.count == 1 }
            }
        }

        @Test("a silent first host does not hide the second")
        func secondHost() async throws {
            let other = try PostgresServer.shared()
            server.pause()
            defer { server.resume() }
            let url = "postgres://postgres@127.0.0.1:\(server.port),127.0.0.1:\(other.port)/postgres"
            try await withConnection(url, { $0.connectTimeout = .milliseconds(300) }) { connection async throws in
                #expect(try await connection.execute(PostgresStatement("SHOW port", prepared: false))[0].text(0) == "\(other.port)")
            }
        }

        @Test("a session that turns read-only is left: the write had no effect, and the next session writes")
        func readOnly() async throws {
            let database = try server.makeDatabase()
            try await withConnection(server.url(database: database)) { connection async throws in
                try await connection.executeScript("CREATE TABLE t (id int8); SET default_transaction_read_only = on")
                let insert = PostgresStatement("INSERT INTO t VALUES (1)")
                let error = await failure { try await connection.execute(insert) }
                #expect(error?.code == .unavailable)
                #expect(error?.sqlState == "25006")
                await until { connection.counters.reconnects == 1 }
                #expect(try await connection.execute(insert).affectedRows == 1)
            }
        }

        @Test("a read-only server is no server, unless the URL says otherwise")
        func standby() async throws {
            let database = try server.makeDatabase()
            try server.psql("ALTER DATABASE \(database) SET default_transaction_read_only = on")
            let connection = PostgresConnection(
                configuration: PostgresConfiguration(url: server.url(database: database)), name: "standby", logger: PostgresClientTests.silent)
            connection.start()
            await until { connection.counters.connectFailures > 0 }
            #expect(!connection.isConnected)
            await connection.close()
            try await withConnection(server.url(database: database) + "?target_session_attrs=any") { connection async throws in
                #expect(try await connection.execute(PostgresStatement("SELECT 1"))[0].int4(0) == 1)
            }
        }

        @Test("the set-up runs on each fresh connection before anything else, and one that it refuses is tried again")
        func hooks() async throws {
            let attempts = Mutex(0)
            struct Refused: Error {}
            let configuration = PostgresConfiguration(url: server.url())
            let connection = PostgresConnection(configuration: configuration, name: "hooks", logger: PostgresClientTests.silent)
            connection.onConnect {
                [
                    (PostgresStatement("SET carillon.test = 'here'", prepared: false), []),
                    (PostgresStatement("SELECT system_identifier FROM pg_control_system()"), []),
                ]
            } check: { rows in
                #expect(rows.count == 2)
                #expect(try rows[1][0].int8(0) != 0)
                if attempts.withLock({ $0 += 1; return $0 }) == 1 { throw Refused() }
            }
            connection.start()
            try await connection.waitUntilConnected()
            #expect(attempts.withLock { $0 } == 2)
            #expect(connection.counters.connectFailures == 1)
            #expect(try await connection.execute(PostgresStatement("SHOW carillon.test", prepared: false))[0].text(0) == "here")
            await connection.close()
        }

        @Test("closing answers what was accepted, refuses what comes later, and leaves no thread and no descriptor behind")
        func close() async throws {
            let connection = PostgresConnection(
                configuration: PostgresConfiguration(url: server.url()), name: "close", logger: PostgresClientTests.silent)
            connection.start()
            try await connection.waitUntilConnected()
            let thread = Mutex("")
            let answers = Answers()
            connection.execute(PostgresStatement("SELECT 1")) { result in
                thread.withLock { $0 = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self")) ?? "" }
                answers.add(0, result)
            }
            await until { answers.count == 1 }
            let path = "/proc/" + thread.withLock { $0 }
            let wakeUp = try #require(connection.mailbox.wakeUpDescriptor)
            let pipe = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(wakeUp)")
            let files = sockets(to: server.port) + [pipe]
            #expect(files.count == 2)
            #expect(FileManager.default.fileExists(atPath: path))
            #expect(Set(files).isSubset(of: openFiles()))
            for index in 1...100 { connection.execute(PostgresStatement("SELECT 1")) { answers.add(index, $0) } }
            await connection.close()
            #expect(answers.count == 101)
            for index in 1...100 { #expect(answers[index].failure == nil) }
            #expect(await failure { try await connection.execute(PostgresStatement("SELECT 1")) }?.code == .closed)
            // The kernel takes the thread out of /proc just after it has let go of it.
            await until { !FileManager.default.fileExists(atPath: path) }
            #expect(Set(files).isDisjoint(with: openFiles()))
            await connection.close()
        }

        @Test("closing does not wait for a server that is away, nor for one that does not answer")
        func closeWithoutServer() async throws {
            let nowhere = PostgresConnection(
                configuration: PostgresConfiguration(url: "postgres://127.0.0.1:1/"), name: "nowhere", logger: PostgresClientTests.silent)
            nowhere.start()
            async let waiting = failure { try await nowhere.waitUntilConnected() }
            await nowhere.close()
            #expect(await waiting?.code == .closed)

            var configuration = PostgresConfiguration(url: server.url())
            configuration.closeTimeout = .milliseconds(50)
            let connection = PostgresConnection(configuration: configuration, name: "sleeping", logger: PostgresClientTests.silent)
            connection.start()
            try await connection.waitUntilConnected()
            let answers = Answers()
            connection.execute(sleep) { answers.add(0, $0) }
            await connection.close()
            #expect(answers[0].failure?.isInDoubt == true)
        }

        @Test("a pool spreads its work, survives the loss of a session, and says when nothing is there")
        func pool() async throws {
            var configuration = PostgresConfiguration(url: server.url())
            configuration.maximumBackoff = .milliseconds(100)
            let pool = PostgresPool(configuration: configuration, size: 3, name: "pool", logger: PostgresClientTests.silent)
            #expect(await failure { try await pool.execute(PostgresStatement("SELECT 1")) }?.code == .unavailable)
            pool.start()
            try await pool.waitUntilConnected()
            #expect(pool.isAvailable)
            #expect(pool.snapshot.connected == 3)

            let answers = Answers()
            // All three wait for one lock at the same time, as only three sessions can.
            try await withConnection(server.url()) { observer async throws in
                _ = try await observer.execute(PostgresStatement("SELECT pg_advisory_lock(42)"))
                let shared = PostgresStatement("SELECT pg_backend_pid(), pg_advisory_lock_shared(42)::text, pg_advisory_unlock_shared(42)")
                for index in 0..<3 { pool.execute(shared) { answers.add(index, $0) } }
                let waiting = PostgresStatement("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                try await until { try await observer.execute(waiting)[0].int8(0) == 3 }
                _ = try await observer.execute(PostgresStatement("SELECT pg_advisory_unlock(42)"))
                await until { answers.count == 3 }
            }
            let pids = try (0..<3).map { try answers[$0].get()[0].int4(0) }
            #expect(Set(pids).count == 3)

            #expect(
                await failure { try await pool.execute(PostgresStatement("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(600)")) }?.isInDoubt
                    == true)
            #expect(try await pool.execute(PostgresStatement("SELECT 1"))[0].int4(0) == 1)
            try await pool.waitUntilConnected()
            await until { pool.snapshot.reconnects == 1 }

            server.kill()
            await until { !pool.isAvailable }
            #expect(await failure { try await pool.execute(PostgresStatement("SELECT 1")) }?.code == .unavailable)
            try server.start()
            try await pool.waitUntilConnected()
            #expect(try await pool.transaction([(PostgresStatement("SELECT 1"), [])]).count == 1)
            #expect(pool.snapshot.errors > 0)
            #expect(pool.snapshot.inFlight == 0)
            await pool.close()
            #expect(!pool.isAvailable)
        }
    }
}

/// What the descriptors of this process refer to, by number. Sockets and pipes have names that are not used twice soon.
private func descriptors() -> [Int32: String] {
    let folder = "/proc/self/fd"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    let pairs = names.compactMap { name in
        Int32(name).flatMap { number in (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\(name)")).map { (number, $0) } }
    }
    return Dictionary(uniqueKeysWithValues: pairs)
}

private func openFiles() -> Set<String> {
    Set(descriptors().values)
}

/// This process's TCP connections to a port.
private func sockets(to port: Int) -> [String] {
    descriptors().filter { descriptor, _ in
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let failed = withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) != 0 }
        }
        return !failed && address.sin_family == sa_family_t(AF_INET) && Int(UInt16(bigEndian: address.sin_port)) == port
    }.map(\.value)
}
