import CarillonClient
import Foundation
import Testing

@Suite("CarillonClient and a node", .timeLimit(.minutes(2)))
struct ClientTests {
    @Test("the README's example works as it stands there")
    func example() async throws {
        try await RunningNode.run { node in
            try await Self.example(url: node.url, key: node.key)
            let count = try await CarillonClient(url: node.url, apiKey: node.key).count(of: "alice")
            #expect(count.unread == 1)
        }
        let source = try String(contentsOfFile: #filePath, encoding: .utf8)
        let lines = source.split(separator: "\n", omittingEmptySubsequences: false)
        let begin = try #require(lines.firstIndex { $0.hasSuffix("// README: from here") })
        let end = try #require(lines.firstIndex { $0.hasSuffix("// README: to here") })
        let readme = try String(contentsOf: URL(filePath: #filePath).appending(path: "../../../README.md").standardized, encoding: .utf8)
        for line in lines[(begin + 1)..<end] {
            let bare = line.drop { $0 == " " }
            #expect(readme.contains("    \(bare)\n") || bare.isEmpty, "missing in the README: \(bare)")
        }
    }

    private static func example(url: String, key: String) async throws {
        // README: from here
        let carillon = try CarillonClient(url: url, apiKey: key)
        let message = NotificationMessage(title: "Booking confirmed", type: "BOOKING_CREATED", link: "/bookings/7", recordType: "booking", recordID: "7")
        let receipt = try await carillon.createNotification(message, for: ["alice", "bob"])
        let job = try await carillon.trigger(message, for: ["carol"])
        try await carillon.correct(.record(type: "booking", id: "7"), NotificationCorrection(title: "Booking changed"))
        let badge = try await carillon.count(of: "alice").unread
        // README: to here
        #expect(receipt.notifications.map(\.userID) == ["alice", "bob"] && badge == 1)
        _ = try await carillon.job(job.id)
    }

    @Test("every call is understood by the service")
    func calls() async throws {
        try await RunningNode.run { node in
            let client = try CarillonClient(url: node.url, apiKey: node.key)
            let message = NotificationMessage(
                title: "Hello", content: "World", type: "chat", event: "message_received", level: .info, priority: .low, link: "/x", linkText: "x",
                customerID: "c", recordType: "r", recordID: "1", data: ["a": [1, nil, 1.5, true, "x"]], channels: [.inApp], expiresAt: .now + 3600,
                collapseKey: "k", templateData: ["b": 2])
            let receipt = try await client.createNotification(message, for: ["alice"], idempotencyKey: "once")
            #expect(try await client.createNotification(message, for: ["alice"], idempotencyKey: "once").isReplayed)
            let made = try #require(receipt.notifications.first)
            #expect(made.userID == "alice" && made.seq == 1)
            let count = try await client.count(of: "alice", customerID: "c")
            #expect(count.unread == 1 && count.byType == ["chat": 1])
            #expect(try await client.correct(.id(made.id), NotificationCorrection(title: "New", content: .remove, data: .set(["z": 1]))) == 1)
            #expect(try await client.takeBack(.collapseKey("k")) == 1)
            #expect(try await client.count(of: "alice").unread == 0)

            let direct = NotificationMessage(title: "Now")
            #expect(try await client.sendDirectEvent(direct, to: ["alice"]).edges >= 0)
            #expect(try await client.broadcast(direct).edges >= 0)

            let contact = Contact(email: "alice@example.com", phone: "+33123456789", locale: "fr-FR", timezone: "Europe/Paris", telegramChatID: "7")
            try await client.setContact(contact, of: "alice")
            #expect(try await client.contact(of: "alice") == contact)
            try await client.deleteContact(of: "alice")
            let gone = await #expect(throws: CarillonError.self) { try await client.contact(of: "alice") }
            #expect(gone?.code == .notFound && gone?.status == 404 && gone?.requestID != nil)
        }
    }

    @Test("users that come as a sequence are each notified")
    func lines() async throws {
        try await RunningNode.run { node in
            let client = try CarillonClient(url: node.url, apiKey: node.key)
            let users = AsyncStream<String> { continuation in
                for number in 0..<5000 { continuation.yield("user \"\(number)\" é🔔") }
                continuation.finish()
            }
            let id = try await client.trigger(NotificationMessage(title: "Hello"), forEach: users, idempotencyKey: "lines").id
            var status = try await client.job(id)
            while status.done + status.skipped + status.failed < 5000 {
                try await Task.sleep(for: .milliseconds(20))
                status = try await client.job(id)
            }
            #expect(status.total == 5000 && status.done == 5000)
            #expect(try await client.count(of: "user \"4999\" é🔔").unread == 1)
        }
    }

    @Test("what is wrong is said, with the field")
    func wrong() async throws {
        try await RunningNode.run { node in
            let client = try CarillonClient(url: node.url, apiKey: node.key)
            let invalid = await #expect(throws: CarillonError.self) { try await client.createNotification(NotificationMessage(type: "chat"), for: []) }
            #expect(invalid?.status == 422 && invalid?.errors.contains { $0.pointer == "/user_ids" } == true)
            let stranger = try CarillonClient(url: node.url, apiKey: "ck_" + String(repeating: "A", count: 43))
            let unauthorized = await #expect(throws: CarillonError.self) { try await stranger.broadcast(NotificationMessage(title: "x")) }
            #expect(unauthorized?.code == .unauthorized && unauthorized?.attempts == 1)
        }
    }
}
