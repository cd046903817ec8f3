import Foundation
import Logging
import TestServers

@testable import PostgresClient

let silent = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

func withConnection(
    _ url: String, _ configure: (inout PostgresConfiguration) -> Void = { _ in }, _ body: (PostgresConnection) async throws -> Void
) async throws {
    var configuration = PostgresConfiguration(url: url)
    configuration.maximumBackoff = .milliseconds(100)
    configure(&configuration)
    let connection = PostgresConnection(configuration: configuration, name: "test", logger: silent)
    connection.start()
    do {
        try await connection.waitUntilConnected()
        try await body(connection)
    } catch {
        await connection.close()
        throw error
    }
    await connection.close()
}

/// Gives way to others until it is so.
func until(_ condition: () async throws -> Bool) async rethrows {
    while try await !condition() {
        // Its time is over: what follows says what is missing.
        if Task.isCancelled { return }
        await Task.yield()
    }
}

/// The error that it throws.
func failure<Value>(_ body: () async throws -> Value) async -> PostgresError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error as? PostgresError
    }
}
