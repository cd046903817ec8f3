import NIOHTTP1
import NotificationCore
import Testing

@testable import Delivery

@Suite("transfers", .timeLimit(.minutes(2)))
struct TransferTests {
    private static func engine(_ addresses: AddressGuard? = nil, atOnce: Int = 256, waiting: Int = 1024) throws -> TransferEngine {
        var settings = TransferEngine.Settings(addresses: addresses)
        settings.atOnce = atOnce
        settings.waiting = waiting
        return try #require(TransferEngine(settings))
    }

    private static func post(_ url: String, _ limit: Duration = .seconds(30)) -> TransferRequest {
        TransferRequest(url: url, kind: .post(headers: ["X-Test: yes"], body: Array("hello".utf8)), timeLimit: limit)
    }

    private func failure(_ body: () async throws(TransferError) -> TransferAnswer) async -> TransferError? {
        do throws(TransferError) {
            _ = try await body()
            return nil
        } catch {
            return error
        }
    }

    @Test("a body arrives, and an answer comes back")
    func plain() async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine()
            let answer = try await engine.perform(Self.post(server.url("/ok")))
            #expect(answer.status == 200 && answer.body == Array("fine".utf8) && !answer.isCut)
            let request = try #require(server.received.first)
            #expect(request.head.method == .POST && request.body == Array("hello".utf8) && request.head.headers["x-test"] == ["yes"])
            await engine.close()
        }
    }

    @Test("a connection is used again")
    func reuse() async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine()
            for _ in 0..<5 { _ = try await engine.perform(Self.post(server.url("/ok"))) }
            #expect(server.received.count == 5 && Set(server.received.map(\.connection)).count == 1)
            await engine.close()
        }
    }

    @Test("of a long body the first KiB is kept, of an endless one too, and one that never ends is an answer at the time limit")
    func bodies() async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine()
            for path in ["/long", "/endless"] {
                let answer = try await engine.perform(Self.post(server.url(path)))
                #expect(answer.status == 200 && answer.body.count == 1024 && answer.isCut)
            }
            let answer = try await engine.perform(Self.post(server.url("/drip"), .seconds(5)))
            #expect(answer.status == 200 && answer.body == Array("fine".utf8) && answer.isCut)
            await engine.close()
        }
    }

    @Test("redirects are answers")
    func redirect() async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine()
            #expect(try await engine.perform(Self.post(server.url("/redirect"))).status == 307)
            #expect(server.received.map(\.head.uri) == ["/redirect"])
            await engine.close()
        }
    }

    @Test("Retry-After is read, in seconds and as a date", arguments: [("7", true), ("Fri,%2001%20Jan%202100%2000:00:00%20GMT", true), ("soon", false)])
    func retryAfter(_ value: String, _ isRead: Bool) async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine()
            let answer = try await engine.perform(Self.post(server.url("/status/503?a=\(value)")))
            #expect(answer.status == 503)
            if value == "7" { #expect(answer.retryAfter == .seconds(7)) } else { #expect((answer.retryAfter != nil) == isRead) }
            await engine.close()
        }
    }

    @Test("one that gets no answer ends at its time limit, one whose connection breaks at once")
    func failures() async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine()
            #expect(await self.failure { () async throws(TransferError) in try await engine.perform(Self.post(server.url("/silent"), .milliseconds(200))) }?.code == .timedOut)
            #expect(await self.failure { () async throws(TransferError) in try await engine.perform(Self.post(server.url("/close"))) }?.code == .failed)
            await engine.close()
        }
    }

    @Test("a cancelled one ends, before it began and after", arguments: [1, 256])
    func cancelled(_ atOnce: Int) async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine(atOnce: atOnce)
            let tasks = (0..<4).map { _ in
                Task { await self.failure { () async throws(TransferError) in try await engine.perform(Self.post(server.url("/silent"))) }?.code }
            }
            while server.received.isEmpty { await Task.yield() }
            for task in tasks { task.cancel() }
            for task in tasks { #expect(await task.value == .cancelled) }
            await engine.close()
        }
    }

    @Test("more than the bound are refused, and the engine's end ends all")
    func bounds() async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine(atOnce: 1, waiting: 2)
            let tasks = (0..<8).map { _ in
                Task { await self.failure { () async throws(TransferError) in try await engine.perform(Self.post(server.url("/silent"))) }?.code }
            }
            while server.received.isEmpty { await Task.yield() }
            // At least these find the queue full.
            var codes: [TransferError.Code?] = []
            for _ in 0..<3 {
                let late = Task { await self.failure { () async throws(TransferError) in try await engine.perform(Self.post(server.url("/silent"))) }?.code }
                late.cancel()
                codes.append(await late.value)
            }
            #expect(codes.allSatisfy { $0 == .overloaded || $0 == .cancelled })
            await engine.close()
            var overloaded = 0
            for task in tasks { if await task.value == .overloaded { overloaded += 1 } }
            #expect(overloaded >= 5)
            #expect(await self.failure { () async throws(TransferError) in try await engine.perform(Self.post(server.url("/ok"))) }?.code == .overloaded)
        }
    }

    @Test("many go at once: silent ones do not hold up the others")
    func many() async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine()
            let silent = (0..<50).map { _ in Task { await self.failure { () async throws(TransferError) in try await engine.perform(Self.post(server.url("/silent"))) } } }
            while server.received.count < 50 { await Task.yield() }
            try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<100 { group.addTask { try await engine.perform(Self.post(server.url("/ok"))).status } }
                for try await status in group { #expect(status == 200) }
            }
            for task in silent { task.cancel() }
            await engine.close()
        }
    }

    @Test(
        "an address that is not allowed is not connected to, in whatever form it is written",
        arguments: ["http://127.0.0.1:PORT/ok", "http://localhost:PORT/ok", "http://0x7f000001:PORT/ok", "http://2130706433:PORT/ok", "http://127.1:PORT/ok", "http://[::1]:PORT/ok", "http://[::ffff:127.0.0.1]:PORT/ok", "http://0:PORT/ok"])
    func guarded(_ url: String) async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine(AddressGuard())
            let failure = await self.failure { () async throws(TransferError) in try await engine.perform(Self.post(url.replacing("PORT", with: "\(server.port)"))) }
            #expect(failure?.code == .refusedAddress)
            #expect(server.received.isEmpty)
            await engine.close()
        }
    }

    @Test("a name that led to a public address and then leads inside is refused when it is connected to")
    func rebinding() async throws {
        try await AnsweringServer.run { server in
            let engine = try Self.engine(AddressGuard(allowed: [try #require(IPRange("127.0.0.2"))]))
            func call(_ address: String, _ path: String) async -> TransferError? {
                var request = Self.post("http://rebinding.example:\(server.port)\(path)", .milliseconds(500))
                request.resolve = ["rebinding.example:\(server.port):\(address)"]
                return await self.failure { () async throws(TransferError) in try await engine.perform(request) }
            }
            // Nobody listens there, and yet it may be tried.
            #expect(await call("127.0.0.2", "/ok")?.code == .failed)
            #expect(await call("127.0.0.1", "/ok")?.code == .refusedAddress)
            #expect(await call("169.254.169.254", "/ok")?.code == .refusedAddress)
            #expect(await call("[::1]", "/ok")?.code == .refusedAddress)
            #expect(server.received.isEmpty)
            await engine.close()
        }
    }

    @Test("other schemes are not spoken", arguments: ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "dict://127.0.0.1:11211/stats"])
    func schemes(_ url: String) async throws {
        let engine = try Self.engine()
        #expect(await self.failure { () async throws(TransferError) in try await engine.perform(Self.post(url)) }?.code == .failed)
        await engine.close()
    }
}
