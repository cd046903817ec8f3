import NotificationCore
import Testing

@testable import Gateway

struct TraceContextTests {
    private static let trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    @Test("a client's trace goes on under a part of its own", arguments: [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true), ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", false),
        // Flags and versions to come.
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", true), ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings", true),
    ])
    func parent(header: String, sampled: Bool) throws {
        let context = try #require(TraceContext(parent: header))
        #expect(context.traceID == Self.trace && context.isSampled == sampled)
        #expect(context.spanID.utf8.count == 16 && context.spanID != "00f067aa0ba902b7")
        #expect(context.header == "00-\(Self.trace)-\(context.spanID)-\(sampled ? "01" : "00")")
    }

    @Test("what is no trace is none", arguments: [
        nil, "", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more", "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e47\u{e9}6-00f067aa0ba902b7-01", String(repeating: "00-", count: 200),
    ] as [String?])
    func nonsense(header: String?) {
        #expect(TraceContext(parent: header) == nil)
    }

    @Test("an answer says which part of the trace it was, and the router's log lines do")
    func answer() async throws {
        try await TestNode.run { node in
            let text = try await node.exchange(
                "GET /v1/echo HTTP/1.1\r\nHost: x\r\ntraceparent: 00-\(Self.trace)-00f067aa0ba902b7-01\r\nConnection: close\r\n\r\n")
            #expect(text.contains("traceresponse: 00-\(Self.trace)-"))
            let plain = try await node.exchange("GET /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(!plain.contains("traceresponse"))
        }
    }

    @Test("only named proxies are believed, and this machine", arguments: [
        ("127.0.0.1", true), ("::1", true), ("10.1.2.3", true), ("10.2.0.1", false), ("2001:db8::7", true), ("2001:db9::7", false), ("unknown", false),
    ])
    func proxies(peer: String, trusted: Bool) throws {
        var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0, nodeName: "test")
        configuration.trustedProxies = [try #require(IPRange("10.1.0.0/16")), try #require(IPRange("2001:db8::/32"))]
        #expect(configuration.trusts(peer) == trusted)
    }
}
