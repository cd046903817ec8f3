import NIOCore
import Testing

@testable import Gateway

@Suite("The one port of a node")
struct ListenerTests {
    @Test("a connection carries requests to all kinds of routes, and then a stream that finds no HTTP handler left")
    func keepAliveThenStream() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send("GET /api/v1/echo?q=a%20b HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await client.received("GET /echo a b 0 127.0.0.1;")
            try await client.send("GET /api/things/a%2Fb?q=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await client.received("thing a/b 1;")
            try await client.send("POST /v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde")
            _ = try await client.received("body 5;")
            try await client.send("GET /v1/notifications/sse HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine-1\r\n\r\n")
            let text = try await client.received("\n\n")
            #expect(text.contains("rest:0 path:/notifications/sse id:mine-1"))
            await client.close()
        }
    }

    @Test("a stream may be first on its connection, and what the client sends after its request is dropped")
    func streamFirst() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send(
                "GET /api/notifications/sse HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/echo HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/ec")
            try await client.send("ho HTTP/1.1\r\n\r\n nonsense")
            let text = try await client.received("rest:0")
            #expect(text.count(of: "HTTP/1.1") == 1)
            await client.close()
        }
    }

    @Test("paths outside of the service are passed as they are, and the service's routes need a prefix")
    func prefixes() async throws {
        try await TestNode.run { node in
            let health = try await node.exchange("GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(health.contains("GET /health/live - 0"))
            let bare = try await node.exchange("GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(bare.hasPrefix("HTTP/1.1 404"))
            #expect(bare.contains("notifications_m.not_found"))
            let glued = try await node.exchange("GET /v1echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(glued.hasPrefix("HTTP/1.1 404"))
        }
    }

    @Test("pipelined requests are answered in order, also those of which an earlier one takes longer")
    func pipelining() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send(
                "GET /v1/gated HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/echo?q=2 HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/things/3 HTTP/1.1\r\nHost: x\r\n\r\n")
            for await _ in node.gate.arrived { break }
            node.gate.open()
            let text = try await client.received("thing 3")
            let places = ["gate", "GET /echo 2", "thing 3"].compactMap { text.firstRange(of: $0)?.lowerBound }
            #expect(places.count == 3)
            #expect(places == places.sorted())
            await client.close()
        }
    }

    @Test("a thousand pipelined requests that are answered at once do not pile up on the stack")
    func manyPipelined() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send(String(repeating: "GET /v1/echo HTTP/1.1\r\nHost: x\r\n\r\n", count: 1000))
            let text = try await client.received { $0.count(of: "HTTP/1.1 200") == 1000 }
            #expect(text.count(of: "GET /echo") == 1000)
            await client.close()
        }
    }

    @Test("what is not HTTP gets a problem and the end of the connection", arguments: [
        "nonsense\r\n\r\n", "GET /v1/echo HTTP/1.1\r\n\r\n", "GET /v1/echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET echo HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /v1/echo HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ])
    func malformed(text: String) async throws {
        try await TestNode.run { node in
            let answer = try await node.exchange(text)
            #expect(answer.hasPrefix("HTTP/1.1 400"))
            #expect(answer.contains("application/problem+json"))
            #expect(answer.contains("connection: close"))
            #expect(answer.contains("\"instance\":\""))
        }
    }

    @Test("a header block over the bound is refused")
    func largeHeaders() async throws {
        try await TestNode.run { node in
            let one = try await node.exchange("GET /v1/echo HTTP/1.1\r\nHost: x\r\nX-Large: \(String(repeating: "a", count: 17_000))\r\n\r\n")
            #expect(one.hasPrefix("HTTP/1.1 431"))
            let many = (0..<200).map { "X-\($0): \(String(repeating: "a", count: 100))\r\n" }.joined()
            #expect(try await node.exchange("GET /v1/echo HTTP/1.1\r\nHost: x\r\n\(many)\r\n").hasPrefix("HTTP/1.1 431"))
            #expect(try await node.exchange("GET /v1/echo?\(String(repeating: "a", count: 17_000)) HTTP/1.1\r\nHost: x\r\n\r\n").hasPrefix("HTTP/1.1 431"))
        }
    }

    @Test("a body over its route's bound is refused, at the head where its length is told, else when it is passed")
    func largeBodies() async throws {
        try await TestNode.run { node in
            let announced = try await node.exchange("POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
            #expect(announced.hasPrefix("HTTP/1.1 413"))
            #expect(announced.contains("notifications_m.too_large"))
            let chunk = "3e8\r\n\(String(repeating: "a", count: 1000))\r\n"
            let chunked = try await node.exchange("POST /v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)\(chunk)")
            #expect(chunked.hasPrefix("HTTP/1.1 413"))
            let client = try await node.client()
            try await client.send("POST /v1/publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)\(chunk)0\r\n\r\n")
            _ = try await client.received("POST /publish - 2000")
            try await client.send("POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n")
            #expect(await client.receivedToEnd().contains("HTTP/1.1 4"))
        }
    }

    @Test("100-continue is answered, and not for a body that is not wanted")
    func expectContinue() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send("POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            _ = try await client.received("HTTP/1.1 100 Continue\r\n\r\n")
            try await client.send("abc")
            _ = try await client.received("POST /echo - 3")
            await client.close()
            let large = try await node.exchange("POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\nExpect: 100-continue\r\n\r\n")
            #expect(large.hasPrefix("HTTP/1.1 413"))
            let role = try await node.exchange("POST /v1/elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            #expect(role.hasPrefix("HTTP/1.1 421"))
        }
    }

    @Test("a route of a role that the node lacks is misdirected, and the connection goes on")
    func wrongRole() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send("GET /api/elsewhere/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/echo HTTP/1.1\r\nHost: x\r\n\r\n")
            let text = try await client.received("GET /echo")
            #expect(text.contains("HTTP/1.1 421"))
            #expect(text.contains("notifications_m.wrong_role"))
            await client.close()
        }
    }

    @Test("HTTP/1.0 is answered and closed, or kept where it asks")
    func oldClients() async throws {
        try await TestNode.run { node in
            let once = try await node.exchange("GET /v1/echo HTTP/1.0\r\n\r\n")
            #expect(once.hasPrefix("HTTP/1.0 200"))
            #expect(once.contains("connection: close"))
            let parts = try await node.exchange("GET /v1/parts HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            #expect(parts.hasSuffix("\r\n\r\nonetwothree"))
            let client = try await node.client()
            try await client.send("GET /v1/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            #expect(try await client.received("GET /echo").contains("connection: keep-alive"))
            try await client.send("GET /v1/echo HTTP/1.0\r\n\r\n")
            #expect(await client.receivedToEnd().count(of: "200 OK") == 2)
        }
    }

    @Test("HEAD has the length and no body")
    func head() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send("HEAD /v1/echo HTTP/1.1\r\nHost: x\r\n\r\nHEAD /v1/things/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/echo HTTP/1.1\r\nHost: x\r\n\r\n")
            let text = try await client.received("GET /echo")
            #expect(text.count(of: "HTTP/1.1 200") == 3)
            #expect(!text.contains("HEAD /echo"))
            #expect(!text.contains("thing"))
            #expect(text.contains("content-length: 10\r\n"))
            await client.close()
            let open = try await node.exchange("HEAD /v1/parts HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(open.hasPrefix("HTTP/1."))
            #expect(open.contains(" 200 OK\r\n"))
            #expect(open.hasSuffix("\r\n\r\n"))
            #expect(!open.contains("chunked"))
        }
    }

    @Test("an answer of unknown length comes in chunks, a large one whole")
    func bodies() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send("GET /v1/parts HTTP/1.1\r\nHost: x\r\n\r\n")
            let text = try await client.received("0\r\n\r\n")
            #expect(text.contains("transfer-encoding: chunked"))
            #expect(text.contains("3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n"))
            await client.close()
            let large = try await node.exchange("GET /v1/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(large.utf8.count { $0 == UInt8(ascii: "x") } >= 3_000_000)
            #expect(large.contains("content-length: 3000000"))
        }
    }

    @Test("a preflight is answered for every path, with whose page may call")
    func preflight() async throws {
        try await TestNode.run { node in
            func ask(_ origin: String) async throws -> String {
                try await node.exchange(
                    "OPTIONS /v1/any/thing HTTP/1.1\r\nHost: x\r\nOrigin: \(origin)\r\nAccess-Control-Request-Method: PATCH\r\nConnection: close\r\n\r\n")
            }
            let allowed = try await ask("https://app.example.com")
            #expect(allowed.hasPrefix("HTTP/1.1 204"))
            #expect(allowed.contains("access-control-allow-origin: https://app.example.com"))
            #expect(allowed.contains("access-control-max-age: 600"))
            #expect(allowed.contains("last-event-id"))
            let other = try await ask("https://other.example.com")
            #expect(!other.contains("access-control-allow-origin"))
        }
    }

    @Test("every answer carries the request's id, the date, and what CORS needs")
    func answerHeaders() async throws {
        try await TestNode.run { node in
            for path in ["/v1/echo", "/v1/things/1", "/v1/nothing", "/v1/problem", "/v1/broken", "/v1/failing"] {
                let text = try await node.exchange(
                    "GET \(path) HTTP/1.1\r\nHost: x\r\nX-Request-Id: abc.1\r\nOrigin: https://app.example.com\r\nConnection: close\r\n\r\n")
                #expect(text.contains("x-request-id: abc.1\r\n"))
                #expect(text.contains("access-control-allow-origin: https://app.example.com\r\n"))
                #expect(text.contains(" GMT\r\n"))
            }
            let bad = try await node.exchange("GET /v1/echo HTTP/1.1\r\nHost: x\r\nX-Request-Id: a b\r\nConnection: close\r\n\r\n")
            #expect(!bad.contains("x-request-id: a b"))
        }
    }

    @Test("what routes throw is a problem, and says nothing about the inside")
    func problems() async throws {
        try await TestNode.run { node in
            let problem = try await node.exchange("GET /v1/problem HTTP/1.1\r\nHost: x\r\nX-Request-Id: r1\r\nConnection: close\r\n\r\n")
            #expect(problem.hasPrefix("HTTP/1.1 409"))
            #expect(problem.contains("\"code\":\"notifications_m.conflict\""))
            #expect(problem.contains("\"instance\":\"r1\""))
            for path in ["/v1/broken", "/v1/failing"] {
                let broken = try await node.exchange("GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                #expect(broken.hasPrefix("HTTP/1.1 500"))
                #expect(!broken.contains("Secret"))
            }
            let method = try await node.exchange("DELETE /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(method.hasPrefix("HTTP/1.1 405"))
            #expect(method.contains("allow: GET, POST, HEAD"))
        }
    }

    @Test("a loopback proxy's word on the client's address counts, if it is an address", arguments: [
        ("10.1.2.3", "10.1.2.3"), ("1.1.1.1, 10.9.9.9", "10.9.9.9"), ("nonsense", "127.0.0.1"),
    ])
    func forwarded(header: String, address: String) async throws {
        try await TestNode.run { node in
            let text = try await node.exchange("GET /v1/echo HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: \(header)\r\nConnection: close\r\n\r\n")
            #expect(text.contains("GET /echo - 0 \(address);"))
        }
    }

    @Test("draining closes what waits, and answers what is under way as the last")
    func drain() async throws {
        try await TestNode.run { node in
            let idle = try await node.client()
            try await idle.send("GET /v1/echo HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await idle.received("GET /echo")
            let busy = try await node.client()
            try await busy.send("GET /v1/gated HTTP/1.1\r\nHost: x\r\n\r\n")
            for await _ in node.gate.arrived { break }
            node.server.drain()
            _ = await idle.receivedToEnd()
            node.gate.open()
            let text = await busy.receivedToEnd()
            #expect(text.contains("\"gate\":1"))
            #expect(text.contains("connection: close"))
        }
    }

    @Test("past the bound a request is told to come again, and a stream gets an answer that it comes back from")
    func tooManyConnections() async throws {
        try await TestNode.run { $0.maxConnections = 1 } _: { node in
            let first = try await node.client()
            try await first.send("GET /v1/echo HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await first.received("GET /echo")
            let plain = try await node.exchange("GET /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(plain.hasPrefix("HTTP/1.1 503"))
            #expect(plain.contains("retry-after: 1"))
            let stream = try await node.exchange("GET /v1/notifications/sse HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(stream.hasPrefix("HTTP/1.1 200"))
            #expect(stream.contains("retry: "))
            await first.close()
        }
    }
}
