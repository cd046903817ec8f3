import Logging
import NotificationStore
import PostgresClient
import TestServers

let silent = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

/// A database of its own with the whole schema.
func migratedDatabase() async throws -> PostgresConfiguration {
    let server = try PostgresServer.shared()
    let configuration = PostgresConfiguration(url: server.url(database: try server.makeDatabase()))
    let connection = PostgresConnection(configuration: configuration, name: "migrate", logger: silent)
    connection.start()
    try await connection.waitUntilConnected()
    _ = try await Migrator(connection: connection).run()
    await connection.close()
    return configuration
}
