import NIOHTTP1
import NotificationCore
import NotificationStore
import Testing

@testable import API

@Suite("Preferences, contacts and deliveries, on a real database")
struct PreferenceRouteTests {
    private let path = "/v1/notifications/preferences"

    @Test("preferences are answered as they were said, replaced by PUT and merged by PATCH")
    func roundTrip() async throws {
        try await TestAPI.run { api in
            let token = try api.token("a/{}%:")
            #expect(try await api.ask("GET", path, token: token).text == "{}")
            let said = #"{"channels":{"in_app":true,"email":true,"sms":false},"types":{"chat":{"channels":{"email":false},"events":{"message_received":{"sms":true}}}},"quiet_hours":{"start":"22:00","end":"07:00","timezone":"Europe/Paris"},"digest":{"email":"daily"}}"#
            let put = try await api.ask("PUT", path, token: token, said)
            #expect(put.status == 200 && put.text == said)
            let read = try await api.ask("GET", "/api" + "/notifications/preferences", token: token)
            #expect(read.text == said && read.headers.contains(name: "etag"))
            let patched = try await api.ask("PATCH", path, token: token, #"{"sms":null,"quiet_hours":null,"digest":null,"categories":{"chats":null,"task":false}}"#)
            #expect(patched.text == #"{"channels":{"in_app":true,"email":true},"types":{"task":{"channels":{"in_app":false,"email":false,"sms":false,"telegram":false}}}}"#)
            #expect(try await api.ask("PUT", path, token: token, #"{"inApp":false}"#).text == #"{"channels":{"in_app":false}}"#)
            // Somebody else has said nothing.
            #expect(try await api.ask("GET", path, token: try api.token("b")).text == "{}")
        }
    }

    @Test(
        "what is wrong changes nothing and is told by its code",
        arguments: [
            ("PUT", "{", 400, "invalid_body"), ("PATCH", "", 400, "invalid_body"), ("PUT", "[]", 422, "invalid_body"), ("PUT", #"{"types":{"weather":true}}"#, 422, "invalid_group"),
            ("PATCH", #"{"types":{"chat":{"events":{"rain":true}}}}"#, 422, "invalid_event"), ("PATCH", #"{"channels":{"fax":true}}"#, 422, "invalid_channel"),
            ("PATCH", #"{"quiet_hours":{"start":"22:00","end":"07:00","timezone":"Mars"}}"#, 422, "invalid_body"), ("PATCH", #"{"quiet_hours":{"end":"07:00"}}"#, 422, "invalid_body"),
        ])
    func wrong(_ method: String, _ body: String, _ status: Int, _ code: String) async throws {
        try await TestAPI.run { api in
            let token = try api.token("u")
            #expect(try await api.ask("PUT", path, token: token, #"{"email":true}"#).status == 200)
            let answer = try await api.ask(method, path, token: token, body)
            #expect(answer.status == status && answer.code == "notifications_m." + code)
            #expect(try await api.ask("GET", path, token: token).text == #"{"channels":{"email":true}}"#)
        }
    }

    @Test("who asks: a user, for the customers of the token")
    func access() async throws {
        try await TestAPI.run { api in
            for (method, path) in [("GET", path), ("PUT", path), ("PATCH", path), ("GET", path + "/effective")] {
                let body = method == "GET" ? nil : "{}"
                #expect(try await api.ask(method, path, [:], body).code == "notifications_m.invalid_user_id")
                #expect(try await api.ask(method, path, ["x-api-key": api.key], body).status == 401)
                #expect(try await api.ask(method, path, token: api.key, body).code == "notifications_m.forbidden")
                let scoped = try api.token("u", customers: ["acme"])
                #expect(try await api.ask(method, path + "?customer_id=acme", token: scoped, body).status == 200)
                #expect(try await api.ask(method, path, token: scoped, body).status == 200)
                #expect(try await api.ask(method, path + "?customer_id=other", token: scoped, body).code == "notifications_m.forbidden")
                #expect(try await api.ask(method, path + "?customer_id=", token: scoped, body).status == 422)
            }
        }
    }

    @Test("effective: the decision for each channel, whose word it is, and until when it is quiet")
    func effective() async throws {
        try await TestAPI.run { api in
            let token = try api.token("u")
            _ = try await api.ask("PUT", path, token: token, #"{"email":true,"types":{"chat":{"channels":{"sms":true},"events":{"message_received":{"sms":false}}}}}"#)
            _ = try await api.ask("PUT", path + "?customer_id=c", token: token, #"{"in_app":false,"quiet_hours":{"start":"00:00","end":"23:59"},"types":{"chat":{"email":false}}}"#)
            func ask(_ query: String) async throws -> Answer { try await api.ask("GET", path + "/effective" + query, token: token) }
            func channels(_ query: String) async throws -> [String] {
                let answer = try await ask(query)
                return ["in_app", "email", "sms", "telegram"].map { name in
                    let channel = answer.json["channels"]?[name]
                    return "\(channel?["enabled"] == .bool(true) ? "+" : "-")\(channel?["reason"]?.string ?? "")"
                }
            }
            #expect(try await channels("?type=chats&event=message_received") == ["+catalogue", "+channel", "-event", "-catalogue"])
            #expect(try await channels("?type=chat") == ["+catalogue", "+channel", "+type", "-catalogue"])
            #expect(try await channels("?type=task") == ["+catalogue", "+channel", "-catalogue", "-catalogue"])
            #expect(try await channels("") == ["+catalogue", "+channel", "-catalogue", "-catalogue"])
            #expect(try await channels("?type=chat&event=safe&customer_id=c") == ["-customer_channel", "+required", "+type", "-catalogue"])
            #expect(try await channels("?type=chat&event=message_received&customer_id=c") == ["-customer_channel", "-customer_type", "-event", "-catalogue"])
            let answer = try await ask("?type=chats&event=message_received&customer_id=c")
            #expect(answer.json["type"] == .string("chat") && answer.json["event"] == .string("message_received") && answer.json["customer_id"] == .string("c"))
            #expect(answer.json["quiet_until"]?.string?.hasSuffix("T23:59:00Z") == true || answer.json["quiet_until"] == .null)
            #expect(try await ask("").json["quiet_until"] == .null)
            #expect(try await ask("?type=weather").code == "notifications_m.invalid_group")
            #expect(try await ask("?type=chat&event=rain").code == "notifications_m.invalid_event")
        }
    }

    @Test("a channel that was turned off does not get it; what was left out is answered, and each notification knows its channels")
    func decided() async throws {
        try await TestAPI.run { api in
            let (off, mail) = (try api.token("off"), try api.token("mail"))
            _ = try await api.ask("PUT", path + "?customer_id=acme", token: off, #"{"types":{"chat":false}}"#)
            _ = try await api.ask("PUT", path, token: mail, #"{"email":true,"sms":true}"#)
            let contact = try await api.ask("PUT", "/v1/contacts/mail", ["x-api-key": api.key], #"{"email":"a@b.c"}"#)
            #expect(contact.status == 200)
            let answer = try await api.notify(#"{"user_ids":["off","mail","x"],"type":"chats","customer_id":"acme","title":"t"}"#)
            #expect(answer.status == 201)
            #expect(answer.list("notifications").map { $0["user_id"]?.string } == ["mail", "x"])
            #expect(answer.list("skipped") == [.object([("user_id", .string("off")), ("reason", .string("preference"))])])
            #expect(try await api.ask("GET", "/v1/notifications", token: off).list("data").isEmpty)
            #expect(try await api.notify(#"{"user_ids":["off"],"type":"chat","customer_id":"other","title":"t"}"#).list("notifications").count == 1)

            func deliveries(_ answer: Answer, _ index: Int, _ token: String) async throws -> Answer {
                try await api.ask("GET", "/v1/notifications/\(answer.list("notifications")[index]["id"]?.string ?? "")/deliveries", token: token)
            }
            func brief(_ answer: Answer) -> [String] {
                answer.list("data").map { "\($0["channel"]?.string ?? "") \($0["state"]?.string ?? "") \($0["reason"]?.string ?? "-")" }
            }
            let mine = try await deliveries(answer, 0, mail)
            #expect(brief(mine) == ["in_app delivered -", "email suppressed not_configured", "sms suppressed no_contact"])
            #expect(mine.list("data").allSatisfy { $0["at"]?.string != nil })
            #expect(brief(try await deliveries(answer, 1, try api.token("x"))) == ["in_app delivered -"])
            #expect(try await deliveries(answer, 0, off).status == 404)
            #expect(try await deliveries(answer, 0, try api.token("mail", customers: ["other"])).status == 404)
            #expect(try await api.ask("GET", "/v1/notifications/x/deliveries", token: mail).code == "notifications_m.invalid_id")
            let later = try await api.notify(#"{"user_ids":["x"],"title":"t","deliver_at":"2999-01-01T00:00:00Z"}"#)
            #expect(brief(try await deliveries(later, 0, try api.token("x"))) == ["in_app queued -"])

            for (channels, user, reason) in [("[\"email\"]", "x", "no_contact"), ("[\"email\"]", "mail", "not_configured"), ("[\"in_app\",\"sms\"]", "off", "preference")] {
                let left = try await api.notify("{\"user_id\":\"\(user)\",\"type\":\"chat\",\"customer_id\":\"acme\",\"title\":\"t\",\"channels\":\(channels)}")
                #expect(left.status == 201 && left.list("notifications").isEmpty)
                #expect(left.list("skipped").map { $0["reason"]?.string } == [reason])
            }
            // The same again under its key.
            func keyed() async throws -> Answer {
                let body = #"{"user_ids":["off"],"type":"chat","customer_id":"acme","title":"t"}"#
                return try await api.ask("POST", "/v1/internal/notify", ["x-api-key": api.key, "idempotency-key": "k"], body)
            }
            let first = try await keyed()
            let again = try await keyed()
            #expect(first.json == again.json && !first.headers.contains(name: "idempotent-replayed") && again.headers.contains(name: "idempotent-replayed"))
        }
    }

    @Test("contacts are replaced whole, read, and forgotten, under any user id")
    func contacts() async throws {
        try await TestAPI.run { api in
            let path = "/v1/contacts/a%2F%7B%7D%25:%F0%9F%9A%A2"
            func ask(_ method: String, _ body: String? = nil) async throws -> Answer { try await api.ask(method, path, ["x-api-key": api.key], body) }
            #expect(try await ask("GET").code == "notifications_m.not_found")
            let put = try await ask("PUT", #"{"email":"a@b.c","phone":"+33612345678","locale":"fr-CA","timezone":"Europe/Paris","telegram_chat_id":"-12"}"#)
            #expect(put.status == 200 && put.json["user_id"] == .string("a/{}%:🚢") && put.json["phone"] == .string("+33612345678"))
            #expect(try await ask("GET").json == put.json)
            #expect(try await api.recipients.read([UserID("a/{}%:🚢")!], customer: nil).values.first?.contact?.locale == "fr-CA")
            let less = try await ask("PUT", #"{"email":"a@b.c"}"#)
            #expect(less.json["phone"] == .null && less.json["timezone"] == .null)
            for wrong in [#"{"email":"a"}"#, #"{"phone":"0612"}"#, #"{"fax":"1"}"#, #"{"locale":"x"}"#, #"{"timezone":"Mars"}"#, #"{"telegram_chat_id":true}"#, "[]"] {
                #expect(try await ask("PUT", wrong).status == 422, "\(wrong)")
            }
            #expect(try await ask("PUT", "{").status == 400)
            #expect(try await ask("GET").json == less.json)
            #expect(try await ask("DELETE").status == 204)
            #expect(try await ask("DELETE").status == 404)
            #expect(try await ask("GET").status == 404)

            let other = try await APIKeyStore(pool: api.pool).create(name: "other", scopes: [.notify, .direct, .webhooks, .admin]).key
            for method in ["GET", "PUT", "DELETE"] {
                #expect(try await api.ask(method, path, ["x-api-key": other], method == "PUT" ? "{}" : nil).code == "notifications_m.forbidden")
                #expect(try await api.ask(method, path, [:], method == "PUT" ? "{}" : nil).code == "notifications_m.unauthorized")
            }
            let long = String(repeating: "x", count: 129)
            #expect(try await api.ask("GET", "/v1/contacts/\(long)", ["x-api-key": api.key]).status == 422)
        }
    }
}
