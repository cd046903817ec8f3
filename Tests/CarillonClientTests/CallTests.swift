import Foundation
import NIOHTTP1
import Testing

@testable import CarillonClient

private let id = "01a1fc47-de4f-7ef5-b48c-94e25a4b3b19"
private let uuid = UUID(uuidString: id)!
private let created = #"{"notifications":[{"id":"\#(id)","user_id":"alice","seq":7},{"id":"\#(id)","user_id":"bob","seq":null}],"skipped":[{"user_id":"eve","reason":"preference"}]}"#

@Suite("Calls", .timeLimit(.minutes(1)))
struct CallTests {
    /// A call, the answer that it needs, the request line and the body that it makes.
    struct Example: Sendable, CustomTestStringConvertible {
        var name: String
        var answer: String
        var target: String
        var body: String
        var hasKey = false
        var call: @Sendable (CarillonClient) async throws(CarillonError) -> String

        var testDescription: String { self.name }
    }

    static let message = NotificationMessage(title: "Hello", type: "chat", level: .warning, data: ["n": 1, "x": [nil, true, 1.5, "a"]])
    static let text = #""data":{"n":1,"x":[null,true,1.5,"a"]},"level":"WARNING","title":"Hello","type":"chat""#

    static let examples: [Example] = [
        Example(
            name: "createNotification", answer: created, target: "POST /v1/internal/notify", body: #"{\#(text),"user_ids":["alice","bob"]}"#, hasKey: true
        ) { client throws(CarillonError) in
            let receipt = try await client.createNotification(message, for: ["alice", "bob"])
            return "\(receipt.notifications.map(\.seq)) \(receipt.skipped.map(\.reason.rawValue)) \(receipt.isReplayed) \(receipt.notifications[0].id == uuid)"
        },
        Example(
            name: "trigger", answer: #"{"message":"m","job_id":"\#(id)"}"#, target: "POST /v1/notifications/trigger",
            body: #"{\#(text),"user_ids":["alice"]}"#, hasKey: true
        ) { client throws(CarillonError) in "\(try await client.trigger(message, for: ["alice"]).id == uuid)" },
        Example(
            name: "trigger by lines", answer: #"{"message":"m","job_id":"\#(id)"}"#, target: "POST /v1/notifications/trigger",
            body: "{\(text)}\n\"alice\"\n\"a \\\"b\\\" \\u000a \\\\ é🔔\"\n", hasKey: true
        ) { client throws(CarillonError) in
            let users = AsyncStream { continuation in
                for user in ["alice", "a \"b\" \n \\ é🔔"] { continuation.yield(user) }
                continuation.finish()
            }
            return "\(try await client.trigger(message, forEach: users).id == uuid)"
        },
        Example(
            name: "job", answer: #"{"state":"running","total":5,"done":3,"skipped":1,"failed":0}"#, target: "GET /v1/jobs/\(id)", body: ""
        ) { client throws(CarillonError) in
            let job = try await client.job(uuid)
            return "\(job.state.rawValue) \(job.total) \(job.done) \(job.skipped) \(job.failed)"
        },
        Example(
            name: "sendDirectEvent", answer: #"{"message":"m","edges":2}"#, target: "POST /v1/notifications/sse", body: #"{\#(text),"user_ids":["alice"]}"#
        ) { client throws(CarillonError) in "\(try await client.sendDirectEvent(message, to: ["alice"]).edges)" },
        Example(
            name: "broadcast", answer: #"{"message":"m","edges":2}"#, target: "POST /v1/notifications/sse", body: #"{"broadcast":true,\#(text)}"#
        ) { client throws(CarillonError) in "\(try await client.broadcast(message).edges)" },
        Example(
            name: "correct", answer: #"{"updated":4}"#, target: "PATCH /v1/internal/notifications",
            body: #"{"collapse_key":"k","content":null,"expires_at":"2026-11-21T10:30:00.250Z","title":"New","user_ids":["alice"]}"#
        ) { client throws(CarillonError) in
            var selector = NotificationSelector.collapseKey("k")
            selector.users = ["alice"]
            let until = Date(timeIntervalSince1970: 1_795_257_000.25)
            return "\(try await client.correct(selector, NotificationCorrection(title: "New", content: .remove, expiresAt: .set(until))))"
        },
        Example(
            name: "takeBack", answer: #"{"deleted":2}"#, target: "DELETE /v1/internal/notifications", body: #"{"customer_id":"c","rec_id":"7","rec_type":"booking"}"#
        ) { client throws(CarillonError) in
            var selector = NotificationSelector.record(type: "booking", id: "7")
            selector.customerID = "c"
            return "\(try await client.takeBack(selector))"
        },
        Example(
            name: "count", answer: #"{"unread":3,"unseen":1,"by_type":{"chat":3},"last_event_id":"1-9"}"#,
            target: "GET /v1/internal/users/%2E%2E%2F%C3%A9%25/count?customer_id=a%26b", body: ""
        ) { client throws(CarillonError) in
            let count = try await client.count(of: "../é%", customerID: "a&b")
            return "\(count.unread) \(count.unseen) \(count.byType) \(count.lastEventID)"
        },
        Example(
            name: "contact", answer: #"{"user_id":"alice","email":"a@example.com","phone":null,"locale":"fr-FR"}"#, target: "GET /v1/contacts/alice", body: ""
        ) { client throws(CarillonError) in
            let contact = try await client.contact(of: "alice")
            return "\(contact.email ?? "") \(contact.phone ?? "-") \(contact.locale ?? "")"
        },
        Example(name: "setContact", answer: "{}", target: "PUT /v1/contacts/alice", body: #"{"email":"a@example.com"}"#) { client throws(CarillonError) in
            try await client.setContact(Contact(email: "a@example.com"), of: "alice")
            return ""
        },
        Example(name: "deleteContact", answer: "", target: "DELETE /v1/contacts/alice", body: "") { client throws(CarillonError) in
            try await client.deleteContact(of: "alice")
            return ""
        },
    ]

    static let results = [
        "createNotification": #"[Optional(7), nil] ["preference"] false true"#, "trigger": "true", "trigger by lines": "true", "job": "running 5 3 1 0",
        "sendDirectEvent": "2", "broadcast": "2", "correct": "4", "takeBack": "2", "count": #"3 1 ["chat": 3] 1-9"#, "contact": "a@example.com - fr-FR",
        "setContact": "", "deleteContact": "",
    ]

    @Test("a call sends what the route takes and reads what it answers", arguments: examples)
    func call(example: Example) async throws {
        try await ScriptedServer.run([.reply(200, ["content-type": "application/json"], example.answer)]) { server in
            #expect(try await example.call(server.client()) == Self.results[example.name])
            let request = try #require(server.received.first)
            #expect(server.received.count == 1)
            #expect(request.target == example.target)
            #expect(request.body == example.body)
            #expect(request.head.headers["authorization"] == ["Bearer ck_test"])
            #expect((request.key != nil) == example.hasKey)
        }
    }

    @Test("each call has a key of its own, and keeps it while it repeats itself")
    func keys() async throws {
        try await ScriptedServer.run([.problem(503, "unavailable", ["retry-after": "1"]), .hangUp, .reply(201, ["idempotent-replayed": "true"], created)]) { server in
            let client = try server.client()
            #expect(try await client.createNotification(Self.message, for: ["alice"]).isReplayed)
            _ = try await client.createNotification(Self.message, for: ["alice"])
            _ = try await client.createNotification(Self.message, for: ["alice"], idempotencyKey: "mine")
            let keys = server.received.map(\.key)
            #expect(keys.count == 5 && keys[0] == keys[1] && keys[1] == keys[2] && keys[3] != keys[0] && keys[4] == "mine")
            #expect(server.waits.count == 2 && server.waits[0] == .seconds(1))
        }
    }

    @Test("a direct event that may have been sent is not sent again", arguments: [Act.hangUp, .answer(502, "bad gateway"), .answer(504, "late")])
    func directOnce(act: Act) async throws {
        try await ScriptedServer.run([act]) { server in
            let error = try #require(await failure { () throws(CarillonError) in try await server.client().broadcast(Self.message) })
            #expect(server.received.count == 1 && error.attempts == 1 && error.mayHaveHappened)
        }
    }

    @Test("a direct event that was refused is sent again; one of which some may have gone out is not")
    func directAgain() async throws {
        try await ScriptedServer.run([.problem(429, "rate_limited"), .answer(200, #"{"message":"m","edges":1}"#)]) { server in
            let receipt = try await server.client().broadcast(Self.message)
            #expect(receipt.edges == 1)
            #expect(server.received.count == 2)
        }
        try await ScriptedServer.run([.problem(503, "unavailable")]) { server in
            let error = await failure { () throws(CarillonError) in try await server.client().broadcast(Self.message) }
            #expect(error?.code == .unavailable && server.received.count == 1)
        }
    }

    @Test("users that come as a sequence are sent once")
    func linesOnce() async throws {
        try await ScriptedServer.run([.problem(503, "unavailable")]) { server in
            let error = await failure { () throws(CarillonError) in
                try await server.client().trigger(Self.message, forEach: AsyncStream<String> { $0.finish() })
            }
            #expect(error?.code == .unavailable && server.received.count == 1)
        }
    }

    @Test("many users arrive whole, in their order")
    func manyLines() async throws {
        try await ScriptedServer.run([.answer(202, #"{"job_id":"\#(id)"}"#)]) { server in
            let users = AsyncStream<String> { continuation in
                for number in 0..<50_000 { continuation.yield("user-\(number)") }
                continuation.finish()
            }
            _ = try await server.client().trigger(NotificationMessage(title: "x"), forEach: users)
            let lines = try #require(server.received.first).body.split(separator: "\n")
            #expect(lines.count == 50_001 && lines[0] == #"{"title":"x"}"#)
            #expect(lines.dropFirst().enumerated().allSatisfy { $1 == "\"user-\($0)\"" })
        }
    }

    @Test("what the sequence of users throws ends the call")
    func brokenUsers() async throws {
        struct Broken: Error {}
        try await ScriptedServer.run([.answer(202, #"{"job_id":"\#(id)"}"#)]) { server in
            let users = AsyncThrowingStream<String, any Error> { continuation in
                continuation.yield("alice")
                continuation.finish(throwing: Broken())
            }
            let error = try #require(await failure { () throws(CarillonError) in try await server.client().trigger(Self.message, forEach: users) })
            #expect(error.code == .usersFailed && error.message.contains("Broken"))
        }
    }
}
