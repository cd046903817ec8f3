import Logging
import NotificationCore
import NotificationStore
import PostgresClient
import TestServers
import Testing

@testable import API

@Suite("Writes whose answer is lost")
struct DoubtTests {
    private static let writing = "datname = current_database() AND query LIKE '%apply_changes%' AND wait_event = 'SyncRep'"

    private static let committing = "datname = current_database() AND query LIKE '%emit_message%' AND wait_event = 'SyncRep'"

    @Test("of an \"all read\" of which nobody heard, one of a type goes on, and one of everything does not read what came since", .timeLimit(.minutes(2)), arguments: [true, false])
    func readAll(ofType: Bool) async throws {
        let postgres = try PostgresServer()
        try await TestAPI.run(on: postgres) { api in
            let user = try #require(UserID("u"))
            let body = JSONValue.object([("title", .string("T")), ("type", .string("chat")), ("user_id", .string("u"))])
            let request = try NotifyRequest(json: body, catalogue: Catalogue([Catalogue.Kind(name: "chat")]), now: .now())
            // A part is 2,000.
            for _ in 0..<5 {
                _ = try await api.writer.write(
                    (0..<500).map { _ in
                        InboxCommand(user: user, action: .create(NewNotification(id: .make(), request: request, body: "\"title\":\"T\"", createdAt: .now())))
                    })
            }
            // A commit is on disk and waits for a standby that there is not; who is cut off then has committed.
            try postgres.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            try postgres.psql("SELECT pg_reload_conf()")
            // The setting is in force some time after it was read anew, and until then commits do not wait.
            var configuration = api.database
            configuration.responseTimeout = nil
            let commits = PostgresConnection(configuration: configuration, name: "commits", logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
            commits.start()
            try await commits.waitUntilConnected()
            let commit = PostgresStatement("SELECT pg_logical_emit_message(true, 'nothing', '')", prepared: false)
            let committing = Task { while !Task.isCancelled { _ = try await commits.execute(commit) } }
            while try await number(api, "SELECT count(*) FROM pg_stat_activity WHERE \(Self.committing)") == 0 { try Task.checkCancellation() }
            let token = try api.token("u")
            async let answer = api.ask("POST", "/v1/notifications/read-all", token: token, ofType ? "{\"type\":\"chat\"}" : "{}")
            while try await number(api, "SELECT count(*) FROM pg_stat_activity WHERE \(Self.writing)") == 0 { try Task.checkCancellation() }
            // It waits behind, and is written before anything that is asked for once the first is answered.
            let late = ofType ? [] : [InboxCommand(user: user, action: .create(NewNotification(id: .make(), request: request, body: "\"title\":\"T\"", createdAt: .now())))]
            async let outcomes = api.writer.write(late)
            #expect(try await number(api, "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 30000)) FROM pg_stat_activity WHERE \(Self.writing)") == 1)
            try postgres.psql("ALTER SYSTEM RESET synchronous_standby_names")
            try postgres.psql("SELECT pg_reload_conf()")
            committing.cancel()
            await commits.close()
            let read = try await answer
            #expect(try await outcomes.count == late.count)
            #expect(read.status == 200)
            // The others' number was in the answer that was lost.
            #expect(read.number("updated") == (ofType ? 500 : 0))
            #expect(api.writer.counters.recovered == 1)
            #expect(try await number(api, "SELECT unread::bigint FROM heads") == late.count)
        }
    }

    private func number(_ api: TestAPI, _ sql: String) async throws -> Int64 {
        try #require(try await api.pool.execute(PostgresStatement(sql, prepared: false)).first).int8(0)
    }
}
