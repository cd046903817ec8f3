import Foundation
import Testing

@testable import Gateway

@Suite("Request ids")
struct RequestIDTests {
    private static let chunk = "3e8\r\n\(String(repeating: "a", count: 1000))\r\n"

    @Test("every answer has one, which is the client's where it is a plain word, and a problem's instance", arguments: [
        "GET /v1/echo", "HEAD /v1/echo", "GET /v1/things/1", "HEAD /v1/things/1", "GET /v1/parts", "GET /v1/large", "OPTIONS /v1/echo", "GET /health/live",
        "GET /v1/nothing", "DELETE /v1/echo", "POST /v1/things/1", "GET /v1/problem", "GET /v1/broken", "GET /v1/failing", "POST /v1/elsewhere",
    ])
    func answers(line: String) async throws {
        try await TestNode.run { node in
            for (given, isTaken) in [("mine-1", true), ("A.b_C-2", true), ("two words", false), ("x\"y", false), (String(repeating: "a", count: 65), false)] {
                let answer = try await node.exchange("\(line) HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: \(given)\r\nContent-Length: 0\r\n\r\n")
                let id = try #require(Self.id(of: answer), "\(answer.prefix(400))")
                #expect((id == given) == isTaken)
                #expect((1...64).contains(id.utf8.count))
                if answer.contains("application/problem+json"), !line.hasPrefix("HEAD") { #expect(answer.contains("\"instance\":\"\(id)\"")) }
            }
        }
    }

    @Test("refusals before a route have one too", arguments: [
        "nonsense\r\n\r\n", "GET /v1/echo HTTP/1.1\r\n\r\n", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /v1/echo HTTP/1.1\r\nHost: x\r\nX-Large: \(String(repeating: "a", count: 17_000))\r\n\r\n",
        "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n",
        "POST /v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)\(chunk)",
        "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 200-ok\r\n\r\n",
        "POST /v1/elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    ])
    func refusals(text: String) async throws {
        try await TestNode.run { node in
            let answer = try await node.exchange(text)
            let id = try #require(Self.id(of: answer), "\(answer.prefix(400))")
            #expect(answer.contains("application/problem+json"))
            #expect(answer.contains("\"instance\":\"\(id)\""))
        }
    }

    @Test("where there is no room each answer has one as well, the stream's among them")
    func excess() async throws {
        try await TestNode.run({ $0.maxConnections = 0 }) { node in
            for line in ["GET /v1/echo", "GET /v1/notifications/sse"] {
                let answer = try await node.exchange("\(line) HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: mine\r\n\r\n")
                #expect(Self.id(of: answer) == "mine", "\(answer.prefix(400))")
            }
        }
    }

    /// The value of the only such header.
    private static func id(of answer: String) -> String? {
        let values = answer.components(separatedBy: "\r\n\r\n")[0].split(separator: "\r\n").filter { $0.lowercased().hasPrefix("x-request-id: ") }
        return values.count == 1 ? String(values[0].dropFirst("x-request-id: ".count)) : nil
    }
}
