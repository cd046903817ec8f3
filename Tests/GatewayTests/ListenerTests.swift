import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
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

    @Test("a stream that was asked for before the request before it was answered hears its client", arguments: ["", "Connection: Upgrade\r\nUpgrade: x\r\n"])
    func streamBehindARequest(_ header: String) async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.send("GET /v1/gated HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/notifications/sse HTTP/1.1\r\nHost: x\r\n\(header)\r\n")
            for await _ in node.gate.arrived { break }
            // The rest has arrived by then.
            try await client.send("dropped")
            node.gate.open()
            _ = try await client.received("rest:0")
            try await client.send("ping")
            _ = try await client.received("pong")
            await client.close()
        }
    }

    @Test("after the last answer what still comes is read, so that the client is not cut off before it has read that")
    func readsOnAfterTheLastAnswer() async throws {
        try await TestNode.run { node in
            // It goes on writing after the server has ended its side.
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).channelOption(.allowRemoteHalfClosure, value: true)
                .connect(to: node.address).get()
            let next = "GET /v1/echo?q=2 HTTP/1.1\r\nHost: x\r\n\r\n"
            let last = "GET /v1/echo?q=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            // More than the buffers on the way hold: if nobody reads it, it fails.
            try await channel.writeAndFlush(ByteBuffer(string: last + String(repeating: next, count: 200_000)))
            try await channel.close()
        }
    }

    @Test("requests of all kinds take turns on one connection, in one write and in pieces")
    func turns() async throws {
        try await TestNode.run { node in
            let requests = [
                ("GET /v1/echo?q=a HTTP/1.1\r\nHost: x\r\n\r\n", "GET /echo a 0"), ("POST /v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "body 3;"),
                ("GET /v1/things/7 HTTP/1.1\r\nHost: x\r\n\r\n", "thing 7"), ("GET /v1/nothing/at/all HTTP/1.1\r\nHost: x\r\n\r\n", "not_found"),
                ("GET /v1/parts HTTP/1.1\r\nHost: x\r\n\r\n", "three"),
            ]
            let unusual = ("POST /v1/things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "body 2;")
            for order in [requests + requests, [requests[0], requests[2], requests[0], unusual] + requests] {
                for size in [1, 7, 100_000] {
                    let client = try await node.client()
                    let bytes = Array(order.map(\.0).joined().utf8)
                    for start in stride(from: 0, to: bytes.count, by: size) {
                        try await client.send(String(decoding: bytes[start..<min(start + size, bytes.count)], as: UTF8.self))
                    }
                    let text = try await client.received { $0.count(of: "HTTP/1.1 ") == order.count && $0.contains("three") && $0.hasSuffix("0\r\n\r\n") }
                    let places = order.indices.map { index in text.components(separatedBy: "HTTP/1.1 ").dropFirst()[index + 1].contains(order[index].1) }
                    #expect(places.allSatisfy { $0 }, "\(text)")
                    await client.close()
                }
            }
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

    @Test("a client that asks on and reads nothing has its requests wait; it gets all answers once it reads")
    func asksAndDoesNotRead() async throws {
        try await TestNode.run { node in
            let client = try await node.client()
            try await client.setReading(false)
            // 120 MB of answers: more than all buffers on the way hold.
            try await client.send(String(repeating: "GET /v1/large HTTP/1.1\r\nHost: x\r\n\r\n", count: 40))
            // The node serves others meanwhile, and has made no more than the first answers.
            _ = try await node.exchange("GET /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(node.larges.count < 10)
            try await client.setReading(true)
            _ = try await client.received { _ in node.larges.count == 40 }
            await client.close()
        }
    }

    @Test("a client that reads nothing for the idle time is given up")
    func readsNothing() async throws {
        try await TestNode.run({ $0.idleTimeout = .seconds(1) }) { node in
            // One that is slow to ask is idle, too: then it asks once more.
            while node.larges.count == 0 {
                let client = try await node.client()
                do {
                    try await client.setReading(false)
                    try await client.send(String(repeating: "GET /v1/large HTTP/1.1\r\nHost: x\r\n\r\n", count: 20))
                } catch is ChannelError {
                    continue
                }
                while node.server.counters.connections > 0 { try await Task.sleep(for: .milliseconds(10)) }
                await client.close()
            }
            #expect(node.larges.count < 20)
        }
    }

    @Test("a shutdown waits for a client that still reads its answer, and not longer than its grace for one that reads nothing", arguments: [true, false])
    func readsDuringShutdown(reads: Bool) async throws {
        let node = try await TestNode { $0.shutdownGrace = reads ? .seconds(60) : .milliseconds(200) }
        let client = try await node.client()
        try await client.setReading(false)
        try await client.send("GET /v1/huge HTTP/1.1\r\nHost: x\r\n\r\n")
        while node.larges.count == 0 { await Task.yield() }
        async let ended: Void = node.server.shutdown()
        if reads {
            // It takes no more connections, and has had the time to close those that it has.
            while let other = try? await node.client() { await other.close() }
            for _ in 0..<100 { for loop in MultiThreadedEventLoopGroup.singleton.makeIterator() { try await loop.submit {}.get() } }
            try await client.setReading(true)
            let text = await client.receivedToEnd()
            #expect(text.utf8.count > 30_000_000 && text.utf8.suffix(30_000_000).allSatisfy { $0 == 120 })
        }
        await ended
        await client.close()
    }

    @Test("a shutdown waits for a request that is on its way in, and answers it")
    func shutdownReceiving() async throws {
        let node = try await TestNode { $0.shutdownGrace = .seconds(60) }
        let client = try await node.client()
        try await client.send("POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        _ = try await client.received("100 Continue")
        async let ended: Void = node.server.shutdown()
        while let other = try? await node.client() { await other.close() }
        for _ in 0..<100 { for loop in MultiThreadedEventLoopGroup.singleton.makeIterator() { try await loop.submit {}.get() } }
        try await client.send("text")
        let text = await client.receivedToEnd()
        #expect(text.contains("POST /echo"))
        #expect(text.contains("connection: close"))
        await ended
        await client.close()
    }

    @Test("half a head is answered when its time is over")
    func slowHead() async throws {
        try await TestNode.run({ $0.headTimeout = .seconds(1) }) { node in
            let answer = try await node.exchange("GET /v1/echo HTTP/1.1\r\nHos")
            #expect(answer.hasPrefix("HTTP/1.1 408"))
            #expect(answer.contains("notifications_m.request_timeout"))
        }
    }

    @Test("what is not HTTP gets a problem and the end of the connection, as soon as that is clear", arguments: [
        "nonsense\r\n\r\n", "nonsense", "\u{16}\u{3}\u{1}", "GET / HTTP/1.1\nHost: x\n\n", "GET /v1/echo HTTP/1.1\r\n\r\n", "GET /v1/echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
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

    @Test("strangers' large bodies leave room for small ones and for those whose credential is known")
    func bodiesOfStrangers() async throws {
        try await TestNode.run({
            $0.publishBodyLimit = 4000
            $0.heldBodies = 8000
            $0.freeBody = 100
            $0.recognizes = { $0.first(name: "authorization") == "Bearer known" }
        }) { node in
            // Each of them holds 100, and 1,900 that count.
            var strangers: [RawClient] = []
            for _ in 0..<2 {
                let client = try await node.client()
                try await client.send("POST /v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 4000\r\n\r\n" + String(repeating: "x", count: 2000))
                strangers.append(client)
            }
            while node.server.counters.bodyBytes < 4000 { await Task.yield() }
            func post(_ credential: String, _ size: Int) async throws -> String {
                try await node.exchange(
                    "POST /v1/publish HTTP/1.1\r\nHost: x\r\n\(credential)Content-Length: \(size)\r\nConnection: close\r\n\r\n" + String(repeating: "x", count: size))
            }
            #expect(try await post("Authorization: Bearer y\r\n", 1000).hasPrefix("HTTP/1.1 503"))
            #expect(try await post("", 100).hasPrefix("HTTP/1.1 200"))
            #expect(try await post("Authorization: Bearer known\r\n", 4000).hasPrefix("HTTP/1.1 200"))
            #expect(node.server.counters.bodiesRefused == 1)
            for client in strangers { await client.close() }
            while node.server.counters.bodyBytes > 0 { await Task.yield() }
            #expect(try await post("", 4000).hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test("many strangers' first bytes are counted, too, and leave room for those whose credential is known")
    func firstBytesOfStrangers() async throws {
        try await TestNode.run({
            $0.freeBody = 100
            $0.heldSmallBodies = 1000
            $0.heldBodies = 2000
            $0.recognizes = { $0.first(name: "authorization") == "Bearer known" }
        }) { node in
            let begun = "POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\n" + String(repeating: "x", count: 100)
            // Five have half of what is for first bytes, ten the strangers' half of all the rest.
            var strangers: [RawClient] = []
            for number in 1...15 {
                let client = try await node.client()
                try await client.send(begun)
                strangers.append(client)
                while node.server.counters.bodyBytes < 100 * number { await Task.yield() }
            }
            #expect(try await node.exchange(begun).hasPrefix("HTTP/1.1 503"))
            #expect(node.server.counters.bodiesRefused == 1)
            #expect(node.server.counters.bodyBytes == 1500)
            let known = "POST /v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer known\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
            #expect(try await node.exchange(known + String(repeating: "x", count: 1000)).hasPrefix("HTTP/1.1 200"))
            for client in strangers { await client.close() }
            while node.server.counters.bodyBytes > 0 { await Task.yield() }
        }
    }

    @Test("a body that does not come is answered when its time is over, and one that is taken as it comes when nothing came for so long", arguments: [
        "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
        "POST /v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /v1/lines HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100\r\n\r\nabc",
    ])
    func slowBody(text: String) async throws {
        try await TestNode.run({ $0.bodyTimeout = .seconds(1) }) { node in
            let answer = try await node.exchange(text)
            #expect(answer.hasPrefix("HTTP/1.1 408"))
            #expect(answer.contains("notifications_m.request_timeout"))
            #expect(node.server.counters.bodyBytes == 0)
        }
    }

    @Test("nothing is inflated: a body that is encoded is refused at its head", arguments: [
        ("Content-Encoding: gzip\r\n", "415"), ("Content-Encoding: identity\r\nContent-Encoding: br\r\n", "415"), ("Content-Encoding: DEFLATE\r\n", "415"),
        ("Content-Encoding: Identity\r\n", "200"),
    ])
    func encodedBodies(header: String, status: String) async throws {
        try await TestNode.run { node in
            for path in ["/v1/echo", "/v1/things", "/v1/lines"] {
                let type = path == "/v1/lines" ? "Content-Type: application/x-ndjson\r\n" : ""
                let answer = try await node.exchange("POST \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(type)\(header)Content-Length: 3\r\n\r\nabc")
                #expect(answer.hasPrefix("HTTP/1.1 \(status)"), "\(answer.prefix(200))")
                if status == "415" { #expect(answer.contains("accept-encoding: identity\r\n") && answer.contains("notifications_m.unsupported_encoding")) }
            }
        }
    }

    @Test("a transfer coding other than chunked is refused, whatever stands around it", arguments: [
        "gzip, chunked", "chunked, gzip", "gzip", "identity", "chunked, chunked", "xchunked",
    ])
    func transferCodings(coding: String) async throws {
        try await TestNode.run { node in
            let answer = try await node.exchange("POST /v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \(coding)\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 501") || answer.hasPrefix("HTTP/1.1 400"), "\(answer.prefix(200))")
            #expect(answer.count(of: "x-request-id: ") == 1)
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
