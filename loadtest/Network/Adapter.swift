import ArgumentParser
import NIOCore

/// The server under test: how its streams are asked for, how it is told to publish, and what it shows.
///
/// Rivals have no users, numbers or counts: each user is a channel of its own, a broadcast is one channel for all, and what is
/// published is what a direct event of Carillon shows, byte for byte but for the time. What they lose and double is told by the calls.
enum Adapter: String, Codable, Sendable, CaseIterable, ExpressibleByArgument {
    case carillon
    /// Nginx with the module nchan: `GET /sub/CHANNEL`, `POST /pub/CHANNEL`.
    case nchan
    /// Pushpin: `GET /sub/CHANNEL` by way of its origin, `POST /publish/` with the items of its HTTP push port.
    case pushpin

    var isCarillon: Bool { self == .carillon }

    /// What a direct event of this run holds, as JSON.
    static func payload(run: String, due: UInt64, call: CallNumber) -> String {
        "{\"id\":\"00000000-0000-7000-8000-000000000000\",\"type\":\"SYSTEM\",\"event\":null,\"level\":\"INFO\",\"priority\":\"MEDIUM\",\"title\":\"Load test\","
            + "\"content\":\"A notification of the load generator\",\"link_url\":null,\"link_text\":null,\"customer_id\":null,"
            + "\"rec_type\":\"loadtest\",\"rec_id\":\"\(call)\",\"data\":{\"due\":\(due),\"run\":\"\(run)\"},"
            + "\"created_at\":\"2026-01-01T00:00:00.000Z\",\"expires_at\":null,\"read\":false,\"ephemeral\":true}"
    }

    /// Where a rival takes a message for one channel, and the body that it takes there.
    func publication(to channel: String, _ payload: String) -> (line: String, body: String) {
        switch self {
        case .carillon: preconditionFailure("Carillon's requests are not made here")
        case .nchan: ("POST /pub/\(channel)", payload)
        case .pushpin:
            (
                "POST /publish/",
                "{\"items\":[{\"channel\":\"\(channel)\",\"formats\":{\"http-stream\":{\"content\":\(jsonString("data: \(payload)\n\n"))}}}]}"
            )
        }
    }
}

extension RunPlan {
    /// A rival's channel of a user.
    func channel(ofUser user: Int) -> String {
        parts[0].publish == .broadcast ? "lt-\(runID)-all" : users[user].name
    }
}
