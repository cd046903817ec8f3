import Foundation
import NIOHTTP1
import Testing

@testable import CarillonClient

private let message = NotificationMessage(title: "Hello")

@Suite("Errors", .timeLimit(.minutes(1)))
struct ErrorTests {
    @Test("a problem becomes an error with all that it says")
    func problem() async throws {
        let errors = #","errors":[{"pointer":"/title","detail":"is required"}]"#
        try await ScriptedServer.run([.problem(422, "invalid_body", errors: errors)]) { server in
            let error = try #require(await failure { () throws(CarillonError) in try await server.client().createNotification(message, for: ["alice"]) })
            #expect(error.code == .invalidBody && error.code.rawValue == "notifications_m.invalid_body")
            #expect(error.status == 422 && error.message == "It is so." && error.requestID == "request-1")
            #expect(error.errors.map(\.pointer) == ["/title"] && error.errors.map(\.detail) == ["is required"])
            #expect(error.retryAfter == nil && !error.mayHaveHappened && error.attempts == 1)
            #expect(server.received.count == 1)
        }
    }

    @Test("what stays unavailable is asked for as often as configured", arguments: [1, 2, 4])
    func givesUp(attempts: Int) async throws {
        try await ScriptedServer.run([.problem(503, "unavailable", ["retry-after": "2"])]) { server in
            let error = try #require(await failure { () throws(CarillonError) in try await server.client(attempts: attempts).count(of: "alice") })
            #expect(error.code == .unavailable && error.retryAfter == .seconds(2) && error.attempts == attempts)
            #expect(server.received.count == attempts && server.waits.count == attempts - 1)
        }
    }

    @Test("a server that wants a long pause is left alone")
    func longPause() async throws {
        try await ScriptedServer.run([.problem(429, "rate_limited", ["retry-after": "3600"])]) { server in
            let error = try #require(await failure { () throws(CarillonError) in try await server.client().createNotification(message, for: ["alice"]) })
            #expect(error.code == .rateLimited && error.retryAfter == .seconds(3600) && error.attempts == 1 && server.waits == [])
        }
    }

    @Test("a server that does not answer is given up after the time-out, as often as configured")
    func timeout() async throws {
        try await ScriptedServer.run([.silence]) { server in
            let error = try #require(
                await failure { () throws(CarillonError) in
                    try await server.client(timeout: .seconds(3), attempts: 2).createNotification(message, for: ["alice"])
                })
            #expect(error.code == .timeout && error.mayHaveHappened && error.attempts == 2 && server.received.count == 2)
        }
    }

    @Test("nobody at the address: nothing has happened, and it is tried again")
    func noServer() async throws {
        try await ScriptedServer.run([.hangUp], isClosed: true) { server in
            let error = try #require(await failure { () throws(CarillonError) in try await server.client().broadcast(message) })
            #expect(error.code == .connection && !error.mayHaveHappened && error.attempts == 4)
        }
    }

    @Test("an answer that is none of this service is said to be so", arguments: ["", "<html>", "{}", "[]", #"{"notifications":[{"id":"x"}],"skipped":[]}"#])
    func noAnswer(body: String) async throws {
        try await ScriptedServer.run([.answer(201, body)]) { server in
            let error = try #require(await failure { () throws(CarillonError) in try await server.client().createNotification(message, for: ["alice"]) })
            #expect(error.code == .invalidAnswer && error.status == 201 && error.mayHaveHappened)
        }
    }

    @Test("a proxy's own error has a code by its status", arguments: [(502, CarillonError.Code.unavailable), (418, .invalidAnswer), (500, .invalidAnswer)])
    func proxy(example: (status: Int, code: CarillonError.Code)) async throws {
        try await ScriptedServer.run([.reply(example.status, ["content-type": "text/html"], "<html>")]) { server in
            let error = try #require(await failure { () throws(CarillonError) in try await server.client(attempts: 1).count(of: "alice") })
            #expect(error.code == example.code && error.status == example.status)
        }
    }

    @Test("an answer has a bound")
    func largeAnswer() async throws {
        try await ScriptedServer.run([.answer(200, String(repeating: " ", count: 17 * 1024 * 1024))]) { server in
            let error = try #require(await failure { () throws(CarillonError) in try await server.client(attempts: 1).count(of: "alice") })
            #expect(error.code == .invalidAnswer)
        }
    }

    @Test("what was taken back by an attempt that was not heard of is taken back")
    func takenBack() async throws {
        try await ScriptedServer.run([.hangUp, .problem(404, "not_found")]) { server in
            let count = try await server.client().takeBack(.id(UUID()))
            #expect(count == 0)
        }
        try await ScriptedServer.run([.problem(404, "not_found")]) { server in
            let error = await failure { () throws(CarillonError) in try await server.client().takeBack(.collapseKey("k")) }
            #expect(error?.code == .notFound)
        }
    }

    @Test("a cancelled task's call ends")
    func cancelled() async throws {
        try await ScriptedServer.run([.silence]) { server in
            let client = try server.client()
            let task = Task { await failure { () throws(CarillonError) in try await client.count(of: "alice") } }
            while server.received.isEmpty { await Task.yield() }
            task.cancel()
            #expect(await task.value?.code == .cancelled)
        }
    }

    @Test("a URL or a key that cannot be one is refused", arguments: [
        ("", "ck_x"), ("example.com", "ck_x"), ("ftp://example.com", "ck_x"), ("http://", "ck_x"), ("http:///path", "ck_x"), ("http://a b", "ck_x"),
        ("http://user@example.com", "ck_x"), ("http://example.com?x", "ck_x"), ("http://example.com", ""), ("http://example.com", "token"),
        ("http://example.com", "ck_a\r\nx: y"), ("http://example.com", "ck_é"),
    ])
    func refused(example: (url: String, key: String)) {
        #expect(throws: CarillonError.self) { try CarillonClient(url: example.url, apiKey: example.key) }
    }

    @Test("a path before /v1 is kept, and the key is in no description")
    func description() async throws {
        try await ScriptedServer.run([.answer(200, #"{"message":"m","edges":0}"#)]) { server in
            let client = try server.client(apiKey: "ck_secret", path: "/carillon/")
            _ = try await client.broadcast(message)
            #expect(server.received.map(\.target) == ["POST /carillon/v1/notifications/sse"])
            #expect(!"\(client)".contains("secret"))
        }
    }
}
