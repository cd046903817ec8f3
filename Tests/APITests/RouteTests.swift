import NIOHTTP1
import NotificationCore
import NotificationStore
import PostgresClient
import Testing

@testable import API

@Suite("The API's routes, on a real database")
struct RouteTests {
    @Test("notify stores for each user once, and all of it is in their lists")
    func notify() async throws {
        try await TestAPI.run { api in
            let answer = try await api.notify(
                "{\"user_ids\":[\"a/{}%:\",\"b\",\"b\"],\"user_id\":\"c\",\"type\":\"chats\",\"title\":\"T\",\"body\":\"hello\",\"link\":\"/x\"}")
            #expect(answer.status == 201)
            #expect(answer.list("notifications").map { $0["user_id"]?.string } == ["a/{}%:", "b", "c"])
            #expect(answer.list("skipped").isEmpty)
            #expect(answer.headers.contains(name: "x-request-id"))
            // The second time the key is known, and no task is on the way.
            #expect(try await api.notify("{\"user_id\":\"b\",\"title\":\"second\"}").list("notifications").first?["seq"] == .number("2"))

            let list = try await api.ask("GET", "/api/v1/notifications", token: try api.token("a/{}%:"))
            #expect(list.status == 200)
            let item = try #require(list.list("data").first)
            #expect(item["type"] == .string("chat"))
            #expect(item["content"] == .string("hello"))
            #expect(item["link_url"] == .string("/x"))
            #expect(item["seq"] == .number("1"))
            #expect(list.number("unread") == 1)
            #expect(list.number("unseen") == 1)
            #expect(list.json["page"]?["next"] == .null)
            #expect(list.json["last_event_id"]?.string?.hasSuffix("-1") == true)
            let badge = try await api.ask("GET", "/v1/internal/users/a%2F%7B%7D%25:/count", ["x-api-key": api.key])
            #expect(badge.number("unread") == 1)
            #expect(badge.number("by_type", "chat") == 1)
        }
    }

    @Test("a direct event without Redis is 503, and a wrong one is told so before")
    func directWithoutRedis() async throws {
        try await TestAPI.run { api in
            func send(_ body: String) async throws -> Answer { try await api.ask("POST", "/v1/notifications/sse", ["x-api-key": api.key], body) }
            let away = try await send("{\"user_ids\":[\"a\"],\"title\":\"now or never\"}")
            #expect(away.status == 503)
            #expect(away.headers.contains(name: "retry-after"))
            let everybody = try await send("{\"broadcast\":true,\"title\":\"now or never\"}")
            #expect(everybody.status == 503)
            let bad = [
                "{\"title\":\"nobody\"}", "{\"broadcast\":true,\"user_id\":\"a\",\"title\":\"both\"}", "{\"broadcast\":1,\"user_id\":\"a\",\"title\":\"no flag\"}",
                "{\"user_id\":\"a\",\"title\":\"later\",\"deliver_at\":\"2999-01-01T00:00:00Z\"}",
                "{\"user_id\":\"a\",\"title\":\"stored\",\"collapse_key\":\"k\"}", "{\"user_id\":\"a\",\"title\":\"mail\",\"channels\":[\"email\"]}",
            ]
            for body in bad { #expect(try await send(body).status == 422, "\(body)") }
        }
    }

    @Test("a failure is not remembered: the same request again gets to those whom its job has not written to, and to nobody twice")
    func failedJob() async throws {
        try await TestAPI.run { api in
            func execute(_ sql: String) async throws { _ = try await api.pool.execute(PostgresStatement(sql, prepared: false)) }
            try await execute("INSERT INTO heads (user_id, epoch, unread) VALUES ('u250', 1, 2147483647)")
            let users = (0..<501).map { "\"u\($0)\"" }.joined(separator: ",")
            func send(_ route: String) async throws -> Answer {
                try await api.ask("POST", route, ["x-api-key": api.key, "idempotency-key": "k"], "{\"title\":\"t\",\"user_ids\":[\(users)]}")
            }
            #expect(try await send("/v1/internal/notify").status == 500)
            try await execute("DELETE FROM heads WHERE user_id = 'u250'")
            let whole = try await send("/v1/internal/notify")
            #expect(whole.status == 201 && whole.list("notifications").count == 501 && !whole.headers.contains(name: "idempotent-replayed"))
            let again = try await send("/v1/internal/notify")
            #expect(again.status == 201 && again.json == whole.json && again.headers["idempotent-replayed"] == ["true"])
            for user in ["u0", "u249", "u250", "u251", "u500"] {
                #expect(try await api.ask("GET", "/v1/notifications/count", token: try api.token(user)).number("unread") == 1)
            }
            // By way of the queue its job is the same, and is queued once more.
            let triggered = try await send("/v1/notifications/trigger")
            try await execute("UPDATE jobs SET state = 'failed', ended_at = now() WHERE state = 'queued'")
            let replayed = try await send("/v1/notifications/trigger")
            #expect(replayed.status == 202 && replayed.json == triggered.json && replayed.headers["idempotent-replayed"] == ["true"])
            let job = try #require(triggered.json["job_id"]?.string)
            let status = try await api.ask("GET", "/v1/jobs/\(job)", ["x-api-key": api.key])
            #expect(status.json["state"]?.string == "queued" && status.number("total") == 501)
        }
    }

    @Test("a request with an Idempotency-Key is carried out once, and answered the same again")
    func idempotency() async throws {
        try await TestAPI.run { api in
            func send(_ key: String, _ body: String, by apiKey: String? = nil) async throws -> Answer {
                try await api.ask("POST", "/v1/internal/notify", ["x-api-key": apiKey ?? api.key, "idempotency-key": key], body)
            }
            let body = "{\"user_ids\":[\"z\",\"a\",\"m\"],\"title\":\"once\"}"
            let first = try await send("k 1", body)
            #expect(first.status == 201)
            #expect(!first.headers.contains(name: "idempotent-replayed"))
            for _ in 0..<3 {
                let again = try await send("k 1", body)
                #expect(again.status == 201)
                #expect(again.headers["idempotent-replayed"] == ["true"])
                #expect(again.json == first.json)
            }
            #expect(first.list("notifications").map { $0["seq"] } == [.number("1"), .number("1"), .number("1")])

            let other = try await send("k 1", "{\"user_ids\":[\"z\"],\"title\":\"another\"}")
            #expect(other.status == 422)
            #expect(try await api.ask("GET", "/v1/notifications/count", token: try api.token("z")).number("unread") == 1)
            // Another key of the request, and the same of another API key, are requests of their own.
            #expect(try await send("k 2", body).json != first.json)
            let second = try await APIKeyStore(pool: api.pool).create(name: "another", scopes: [.notify]).key
            #expect(try await send("k 1", body, by: second).list("notifications").map { $0["seq"] } == [.number("3"), .number("3"), .number("3")])
            // What was refused is not remembered.
            #expect(try await send("k 3", "{\"user_ids\":[\"z\"]}").status == 422)
            #expect(try await send("k 3", "{\"user_ids\":[\"z\"],\"title\":\"t\"}").status == 201)
            for bad in [String(repeating: "k", count: 256), "é"] { #expect(try await send(bad, body).status == 422, "\(bad)") }

            // What has no number is answered without one again; so is what goes in one large transaction.
            let later = "{\"user_ids\":[\"z\"],\"title\":\"later\",\"deliver_at\":\"2999-01-01T00:00:00Z\"}"
            let stored = try await send("k 4", later)
            #expect(stored.list("notifications").first?["seq"] == .null)
            #expect(try await send("k 4", later).json == stored.json)
            let users = (0..<300).map { "\"u\($0)\"" }.joined(separator: ",")
            let large = "{\"user_ids\":[\(users)],\"title\":\"many\"}"
            let many = try await send("k 5", large)
            #expect(many.list("notifications").count == 300)
            #expect(try await send("k 5", large).json == many.json)

            // What was right then may be wrong by now: its answer is still its answer.
            let past = "{\"user_ids\":[\"past\"],\"title\":\"past\",\"expires_at\":\"2020-01-01T00:00:00Z\"}"
            #expect(try await send("k 6", past).status == 422)
            let known = "{\"notifications\":[{\"id\":\"01a1fcc4-07ed-72f9-9d16-5488f6ff8fa7\",\"user_id\":\"past\",\"seq\":null}],\"skipped\":[]}"
            let remember = PostgresStatement(
                """
                INSERT INTO idempotency (owner, route, key, digest, answer, ids, seqs, at)
                SELECT id, 'notify', 'k 6', sha256(convert_to($1, 'UTF8')), $2, '{01a1fcc4-07ed-72f9-9d16-5488f6ff8fa7}', '{41}', now() FROM apikeys WHERE name = 'test'
                """)
            _ = try await api.pool.execute(remember, [.text(past), .text(known)])
            let again = try await send("k 6", past)
            #expect(again.status == 201 && again.headers["idempotent-replayed"] == ["true"])
            #expect(again.list("notifications").map { $0["seq"] } == [.number("41")])
            #expect(try await send("k 6", past + " ").status == 422)

            // A day later the key is new again.
            _ = try await api.pool.execute(PostgresStatement("UPDATE idempotency SET at = at - interval '25 hours'"))
            #expect(try await send("k 1", body).list("notifications").map { $0["seq"] } == [.number("5"), .number("4"), .number("4")])
            try await Retention(pool: api.pool).run(days: 90)
            #expect(try await api.pool.execute(PostgresStatement("SELECT count(*) FROM idempotency")).first?.int8(0) == 1)
        }
    }

    @Test("of many requests with one key at the same time one is carried out, and none is answered otherwise")
    func idempotencyAtOnce() async throws {
        try await TestAPI.run { api in
            let answers = try await withThrowingTaskGroup(of: Answer.self) { group in
                for _ in 0..<20 {
                    group.addTask {
                        try await api.ask(
                            "POST", "/v1/internal/notify", ["x-api-key": api.key, "idempotency-key": "one"], "{\"user_ids\":[\"a\",\"b\"],\"title\":\"t\"}")
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let done = answers.filter { $0.status == 201 }
            #expect(!done.isEmpty)
            #expect(done.count + answers.filter { $0.status == 409 }.count == 20)
            #expect(done.allSatisfy { $0.json == done[0].json })
            #expect(try await api.ask("GET", "/v1/notifications/count", token: try api.token("a")).number("unread") == 1)
        }
    }

    @Test("what is stored for later, or for tracking only, has no number and is in no list")
    func withoutNumber() async throws {
        try await TestAPI.run { api in
            let later = try await api.notify("{\"user_id\":\"u\",\"title\":\"T\",\"deliver_at\":\"2999-01-01T00:00:00Z\"}")
            #expect(later.list("notifications").first?["seq"] == .null)
            let tracked = try await api.notify("{\"user_id\":\"u\",\"title\":\"T\",\"channels\":[\"webhook\"]}")
            #expect(tracked.list("notifications").first?["seq"] == .null)
            let token = try api.token("u")
            #expect(try await api.ask("GET", "/v1/notifications", token: token).list("data").isEmpty)
            let id = tracked.list("notifications").first?["id"]?.string ?? ""
            #expect(try await api.ask("GET", "/v1/notifications/\(id)", token: token).status == 404)
        }
    }

    @Test("notify refuses what is not JSON, not valid, not allowed", arguments: [
        ("{", 400, "notifications_m.invalid_body"), ("{\"title\":\"\u{FFFD}", 400, "notifications_m.invalid_body"),
        ("[]", 422, "notifications_m.invalid_body"), ("{\"title\":\"T\"}", 422, "notifications_m.invalid_body"),
        ("{\"user_id\":\"u\",\"title\":\"T\",\"type\":\"nope\"}", 422, "notifications_m.invalid_group"),
        ("{\"user_id\":\"u\",\"title\":\"T\",\"type\":\"chat\",\"event\":\"nope\"}", 422, "notifications_m.invalid_event"),
        ("{\"user_id\":\"u\",\"title\":\"T\",\"channels\":[\"pigeon\"]}", 422, "notifications_m.invalid_channel"),
    ])
    func refusals(body: String, status: Int, code: String) async throws {
        try await TestAPI.run { api in
            let answer = try await api.notify(body)
            #expect(answer.status == status)
            #expect(answer.code == code)
        }
    }

    @Test("each route takes its own kind of credential")
    func credentials() async throws {
        try await TestAPI.run { api in
            let body = "{\"user_id\":\"u\",\"title\":\"T\"}"
            let token = try api.token("u")
            #expect(try await api.ask("POST", "/v1/internal/notify", [:], body).code == "notifications_m.unauthorized")
            #expect(try await api.notify(body, key: "ck_wrong").status == 401)
            #expect(try await api.notify(body, key: token).status == 403)
            #expect(try await api.ask("GET", "/v1/notifications").code == "notifications_m.invalid_user_id")
            #expect(try await api.ask("GET", "/v1/notifications", token: api.key).status == 403)
            #expect(try await api.ask("GET", "/v1/internal/users/u/count", token: token).status == 403)
        }
    }

    @Test("a cookie reads, and writes only from a page that may")
    func cookies() async throws {
        try await TestAPI.run { api in
            let cookie = "carillon_token=\(try api.token("u"))"
            #expect(try await api.ask("GET", "/v1/notifications/count", ["cookie": cookie]).status == 200)
            let denied = try await api.ask("POST", "/v1/notifications/seen", ["cookie": cookie])
            #expect(denied.status == 403)
            #expect(denied.code == "notifications_m.forbidden")
            #expect(try await api.ask("POST", "/v1/notifications/seen", ["cookie": cookie, "origin": "https://evil.example.com"]).status == 403)
            #expect(try await api.ask("POST", "/v1/notifications/seen", ["cookie": cookie, "origin": "https://app.example.com"]).status == 200)
            #expect(try await api.ask("POST", "/v1/notifications/seen", ["cookie": cookie, "origin": "http://127.0.0.1"]).status == 200)
        }
    }

    @Test("pages follow each other by cursor without a hole, and the link leads on")
    func pages() async throws {
        try await TestAPI.run { api in
            let token = try api.token("u")
            for index in 1...7 { #expect(try await api.notify("{\"user_id\":\"u\",\"title\":\"\(index)\"}").status == 201) }
            var path = "/v1/notifications?limit=3"
            var titles: [String] = []
            while true {
                let page = try await api.ask("GET", path, token: token)
                titles += page.list("data").compactMap { $0["title"]?.string }
                guard let link = page.headers.first(name: "link") else {
                    #expect(page.json["page"]?["next"] == .null)
                    break
                }
                path = String(link.dropFirst().prefix { $0 != ">" })
            }
            #expect(titles == ["7", "6", "5", "4", "3", "2", "1"])
            #expect(try await api.ask("GET", "/v1/notifications?limit=3&offset=5", token: token).list("data").count == 2)
            #expect(try await api.ask("GET", "/v1/notifications?limit=201", token: token).status == 422)
        }
    }

    @Test("a list that did not change is not sent again")
    func conditional() async throws {
        try await TestAPI.run { api in
            let token = try api.token("u")
            let first = try await api.ask("GET", "/v1/notifications", token: token)
            let tag = try #require(first.headers.first(name: "etag"))
            let headers: HTTPHeaders = ["authorization": "Bearer \(token)", "if-none-match": tag]
            let again = try await api.ask("GET", "/v1/notifications", headers)
            #expect(again.status == 304)
            #expect(again.body.isEmpty)
            #expect(try await api.notify("{\"user_id\":\"u\",\"title\":\"T\"}").status == 201)
            #expect(try await api.ask("GET", "/v1/notifications", headers).status == 200)
        }
    }

    @Test("reading, archiving and deleting one notification")
    func one() async throws {
        try await TestAPI.run { api in
            let token = try api.token("u")
            let other = try api.token("other")
            let id = try await api.notify("{\"user_id\":\"u\",\"title\":\"T\"}").list("notifications").first?["id"]?.string ?? ""
            let path = "/v1/notifications/\(id)"
            #expect(try await api.ask("GET", path, token: token).json["read"] == .bool(false))
            #expect(try await api.ask("GET", path, token: other).code == "notifications_m.not_found")
            #expect(try await api.ask("GET", "/v1/notifications/nonsense", token: token).code == "notifications_m.invalid_id")

            let read = try await api.ask("PATCH", path + "/read", token: token)
            #expect(read.json["read"] == .bool(true))
            #expect(read.json["seen"] == .bool(true))
            #expect(read.number("seq") == 2)
            // Read again: nothing changes, and the answer is the same.
            #expect(try await api.ask("POST", path + "/read", token: token, "{}").text == read.text)
            #expect(try await api.ask("PATCH", path, token: token, "{}").text == read.text)
            let unread = try await api.ask("PATCH", path, token: token, "{\"read\":false}")
            #expect(unread.json["read"] == .bool(false))
            #expect(try await api.ask("GET", "/v1/notifications/count", token: token).number("unread") == 1)
            #expect(try await api.ask("POST", path + "/read", token: token, "{\"seen\":true}").json["read"] == .bool(false))
            let archived = try await api.ask("PATCH", path, token: token, "{\"archived\":true}")
            #expect(archived.json["read"] == .bool(true))
            #expect(try await api.ask("GET", "/v1/notifications", token: token).list("data").isEmpty)
            #expect(try await api.ask("GET", "/v1/notifications?archived=true", token: token).list("data").count == 1)
            #expect(try await api.ask("PATCH", path + "/read", token: token, "{\"title\":\"x\"}").status == 422)
            #expect(try await api.ask("PATCH", path + "/read", token: token, "no").status == 400)

            #expect(try await api.ask("DELETE", path, token: other).status == 404)
            #expect(try await api.ask("DELETE", path, token: token).status == 204)
            #expect(try await api.ask("DELETE", path, token: token).status == 404)
            #expect(try await api.ask("PATCH", path + "/read", token: token).status == 404)
        }
    }

    @Test("all read, all of one type, up to one, and all seen")
    func all() async throws {
        try await TestAPI.run { api in
            let token = try api.token("u")
            var ids: [String] = []
            for type in ["chat", "task", "chat", "task", "chat"] {
                let answer = try await api.notify("{\"user_id\":\"u\",\"title\":\"T\",\"type\":\"\(type)\"}")
                ids.append(answer.list("notifications").first?["id"]?.string ?? "")
            }
            let seen = try await api.ask("POST", "/v1/notifications/seen", token: token)
            #expect(seen.number("unseen") == 0)
            #expect(seen.number("unread") == 5)
            let upTo = try await api.ask("PATCH", "/v1/notifications/read-all", token: token, "{\"type\":\"chats\",\"up_to\":\"\(ids[2])\"}")
            #expect(upTo.number("updated") == 2)
            #expect(upTo.number("unread") == 3)
            let type = try await api.ask("POST", "/v1/notifications/read-all", token: token, "{\"type\":\"task\"}")
            #expect(type.number("updated") == 2)
            // What was meant as a filter, and is none, would mark everything.
            let mistyped = try await api.ask("POST", "/v1/notifications/read-all", token: token, "{\"customerId\":\"c\"}")
            #expect(mistyped.status == 422 && mistyped.text.contains("/customerId"))
            let rest = try await api.ask("POST", "/v1/notifications/read-all", token: token)
            #expect(rest.number("updated") == 1)
            #expect(rest.number("unread") == 0)
            let none = try await api.ask("POST", "/v1/notifications/read-all", token: token)
            #expect(none.number("updated") == 0)
            #expect(none.json["last_event_id"] == rest.json["last_event_id"])
            #expect(try await api.ask("POST", "/v1/notifications/read-all", token: token, "{\"up_to\":\"x\"}").status == 400)
            #expect(try await api.ask("POST", "/v1/notifications/read-all", token: token, "{\"up_to\":\"\(NotificationID.make())\"}").status == 404)
            #expect(try await api.ask("POST", "/v1/notifications/read-all", token: token, "{\"customer_id\":5}").status == 422)
        }
    }

    @Test("a token of one customer sees, counts and marks that customer's rows and those of none")
    func customers() async throws {
        try await TestAPI.run { api in
            for customer in ["\"a\"", "\"b\"", "\"b\"", "null"] {
                #expect(try await api.notify("{\"user_id\":\"u\",\"title\":\"T\",\"customer_id\":\(customer)}").status == 201)
            }
            let limited = try api.token("u", customers: ["a"])
            let list = try await api.ask("GET", "/v1/notifications", token: limited)
            #expect(list.list("data").count == 2)
            #expect(list.number("unread") == 2)
            #expect(try await api.ask("GET", "/v1/notifications/count", token: limited).number("unread") == 2)
            #expect(try await api.ask("GET", "/v1/notifications/count?customer_id=a", token: limited).number("unread") == 1)
            #expect(try await api.ask("GET", "/v1/notifications/count?customer_id=b", token: limited).status == 403)
            #expect(try await api.ask("GET", "/v1/notifications?customer_id=b", token: limited).status == 403)
            #expect(try await api.ask("POST", "/v1/notifications/read-all", token: limited, "{\"customer_id\":\"b\"}").status == 403)
            let full = try api.token("u")
            #expect(try await api.ask("GET", "/v1/notifications?customer_id=b", token: full).list("data").count == 2)
            let other = try await api.ask("GET", "/v1/notifications?customer_id=b", token: full).list("data").first?["id"]?.string ?? ""
            #expect(try await api.ask("GET", "/v1/notifications/\(other)", token: limited).status == 404)
            #expect(try await api.ask("DELETE", "/v1/notifications/\(other)", token: limited).status == 404)
            let seen = try await api.ask("POST", "/v1/notifications/seen", token: limited)
            #expect(seen.number("unseen") == 0)
            let marked = try await api.ask("POST", "/v1/notifications/read-all", token: limited)
            #expect(marked.number("updated") == 2)
            #expect(marked.number("unread") == 0)
            let count = try await api.ask("GET", "/v1/notifications/count", token: full)
            #expect(count.number("unread") == 2)
            #expect(count.number("unseen") == 2)
        }
    }
}
