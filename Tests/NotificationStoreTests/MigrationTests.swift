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
