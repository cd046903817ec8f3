import NIOCore
import NIOHTTP1
import Testing

@testable import Gateway

/// A route that takes its body and says how long it was.
struct Swallow: BodyRoute {
    func respond(to request: GatewayRequest, body: BodyParts) async throws -> GatewayResponse {
        var count = 0
        for try await part in body { count += part.readableBytes }
        return .json(.ok, Array("swallowed \(count) of \(request.path);".utf8))
    }
}

/// A route that does not like the first part of its body.
struct Refuse: BodyRoute {
    func respond(to request: GatewayRequest, body: BodyParts) async throws -> GatewayResponse {
        for try await _ in body { throw Problem.invalidField("", "not this") }
        return GatewayResponse(status: .ok)
    }
}

@Suite("Bodies that are taken as they come")
struct BodyRouteTests {
    private let head = "POST /v1/lines HTTP/1.1\r\nHost: x\r\nContent-Type: Application/X-NDJSON ; charset=utf-8\r\n"

    @Test("by content type a path has two routes, and the connection goes on after each of them")
    func twoKinds() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            for _ in 0..<3 {
                try await client.send("\(self.head)Content-Length: 5\r\n\r\nabcde")
                try await client.send("POST /v1/lines HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
                try await client.send("\(self.head)Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
            }
            let text = try await client.received { $0.count(of: "HTTP/1.1 200") == 9 && $0.count(of: ";") == 9 }
            #expect(text.count(of: "swallowed 5 of /lines;") == 3)
            #expect(text.count(of: "swallowed 7 of /lines;") == 3)
            #expect(text.count(of: "POST /lines - 3") == 3)
            await client.close()
        }
    }

    @Test("a large body comes whole, past the bounds of those that are held")
    func large() async throws {
        try await TestNode.run { node in
            let part = String(repeating: "x", count: 1_000_000)
            let client = try await node.client()
            try await client.send("\(self.head)Content-Length: 10000000\r\n\r\n")
            for _ in 0..<10 { try await client.send(part) }
            _ = try await client.received("swallowed 10000000 of /lines;")
            await client.close()
        }
    }

    @Test("past its bound it is refused, also without a length")
    func tooLarge() async throws {
        try await TestNode.run({ $0.passedBodyLimit = 100 }) { node in
            let declared = try await node.exchange("\(self.head)Content-Length: 101\r\n\r\n")
            #expect(declared.hasPrefix("HTTP/1.1 413"))
            let chunk = String(repeating: "x", count: 80)
            let chunked = try await node.exchange("\(self.head)Transfer-Encoding: chunked\r\n\r\n50\r\n\(chunk)\r\n50\r\n\(chunk)\r\n")
            #expect(chunked.hasPrefix("HTTP/1.1 413"))
        }
    }

    @Test("an answer before the end is the last one, and what is no body any more is told so")
    func early() async throws {
        try await TestNode.run { node in
            let early = try await node.exchange(
                "POST /v1/refuses HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000000\r\n\r\nabc")
            #expect(early.hasPrefix("HTTP/1.1 422"))
            #expect(early.lowercased().contains("connection: close"))
            let garbage = try await node.exchange("\(self.head)Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
            #expect(garbage.hasPrefix("HTTP/1.1 400"))
        }
    }

    @Test("a client that waits for permission gets it")
    func permission() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send("\(self.head)Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            _ = try await client.received("HTTP/1.1 100 Continue\r\n\r\n")
            try await client.send("abc")
            _ = try await client.received("swallowed 3 of /lines;")
            await client.close()
        }
    }

    @Test("a connection that breaks off ends its route, so that a node stops at once")
    func breaksOff() async throws {
        try await TestNode.run { node in
            for _ in 0..<20 {
                let client = try await node.client()
                try await client.send("\(self.head)Content-Length: 1000000\r\n\r\nabc")
                await client.close()
            }
        }
    }
}
