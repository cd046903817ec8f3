import NotificationCore
import PostgresClient
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Migrations")
    struct Migrations {
        @Test("an empty database is brought up to date, and once more changes nothing")
        func fromEmpty() async throws {
            let names = try Migrator.migrations().map(\.name)
            #expect(names.first == "0001_inbox")
            try await Database.empty().withConnection { connection async throws in
                let migrator = Migrator(connection: connection)
                #expect(try await migrator.version() == 0)
                #expect(try await migrator.run() == names)
                #expect(try await migrator.version() == names.count)
                #expect(try await migrator.run() == [])
                #expect(try await migrator.version() == names.count)
                #expect(try await connection.execute(PostgresStatement("SELECT number, name FROM migrations ORDER BY number")).map { try $0.text(1) } == names)
            }
        }

        @Test("many nodes may do it at once: each migration is applied by one of them")
        func atOnce() async throws {
            let database = try Database.empty()
            let applied = try await withThrowingTaskGroup(of: [String].self) { group in
                for _ in 0..<8 {
                    group.addTask { try await database.withConnection { try await Migrator(connection: $0).run() } }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(applied.sorted() == (try Migrator.migrations().map(\.name)))
            try await database.withNode { node async throws in
                try await node.create(user("u"))
                #expect(try await node.reader.head(of: user("u")).position == StreamPosition(epoch: 1, seq: 1))
            }
        }

        @Test("a later version's migrations are let be, unless they leave no room for this program: then it says which one is needed")
        func later() async throws {
            let known = try Migrator.known()
            try await Database.empty().withConnection { connection async throws in
                let migrator = Migrator(connection: connection)
                _ = try await migrator.run()
                #expect(try await migrator.schema() == SchemaVersion(number: known, oldestProgram: 0))
                _ = try await connection.execute(PostgresStatement("INSERT INTO migrations (number, name) VALUES (\(known + 1), 'later')", prepared: false))
                #expect(try await migrator.run() == [])
                let newer = try await migrator.schema()
                #expect(newer == SchemaVersion(number: known + 1, oldestProgram: 0) && newer.refusal(known: known) == nil)
                _ = try await connection.execute(
                    PostgresStatement("INSERT INTO migrations (number, name, oldest_program) VALUES (\(known + 2), 'last', \(known + 1))", prepared: false))
                await #expect {
                    _ = try await migrator.run()
                } throws: {
                    ($0 as? StoreError)?.message.contains("a program that knows \(known + 1) migrations or more; this one knows \(known)") == true
                }
                #expect(try await migrator.schema().refusal(known: known + 1) == nil)
            }
        }

        @Test("a migration says which programs are too old for it", arguments: [
            ("CREATE TABLE t ();", 0), ("-- Why.\n-- oldest program: 12\nDROP TABLE t;", 12), ("-- The oldest program: 12", 0), ("-- oldest program: x", 0),
        ])
        func oldest(sql: String, expected: Int) {
            #expect(Migrator.Migration(number: 1, name: "0001_x", sql: sql).oldestProgram == expected)
        }

        @Test("one that fails leaves nothing behind, says which it was, and the connection is good for the next try")
        func failing() async throws {
            try await Database.empty().withConnection { connection async throws in
                try await connection.executeScript("CREATE TABLE apikeys (id integer)")
                let migrator = Migrator(connection: connection)
                await #expect {
                    _ = try await migrator.run()
                } throws: {
                    let error = $0 as? StoreError
                    return error?.sqlState == "42P07" && error?.message.contains("0001_inbox") == true
                }
                #expect(try await migrator.version() == 0)
                #expect(try await connection.execute(PostgresStatement("SELECT to_regclass('heads') IS NULL"))[0].bool(0))
                try await connection.executeScript("DROP TABLE apikeys")
                #expect(try await migrator.run().count == Migrator.migrations().count)
            }
        }
    }
}
