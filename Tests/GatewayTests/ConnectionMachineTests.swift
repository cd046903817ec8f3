import NIOCore
import NIOHTTP1
import NotificationCore
import Testing

@testable import Gateway

@Suite("The machine of one HTTP connection")
struct ConnectionMachineTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

    private func machine() -> ConnectionMachine {
        ConnectionMachine(
            timeouts: ConnectionMachine.Timeouts(head: .seconds(10), body: .seconds(30), idle: .seconds(75), linger: .seconds(2)), now: self.start)
    }

    private func request(_ headers: HTTPHeaders = ["host": "x"], version: HTTPVersion = .http1_1) -> IncomingRequest {
        IncomingRequest(
            head: HTTPRequestHead(version: version, method: .POST, uri: "/v1/x", headers: headers), target: .plain(EchoRoute()),
            path: CanonicalPath("/v1/x"), query: "", bodyLimit: 10)
    }

    /// The action's name, which is what the tests compare.
    private func name(_ action: ConnectionMachine.Action) -> String {
        switch action {
        case .none: "none"
        case .sendContinue: "continue"
        case .answer(let request): "answer \(request.body.readableBytes)"
        case .takeOver: "take over"
        case .refuse(let problem, _): "refuse \(problem.status.code)"
        case .linger: "linger"
        case .close: "close"
        }
    }

    @Test("an idle connection is closed after its time, one with half a head is told that it is slow")
    func idle() {
        var idle = self.machine()
        #expect(self.name(idle.tick(now: self.start + .seconds(74))) == "none")
        #expect(self.name(idle.tick(now: self.start + .seconds(75))) == "close")
        var slow = self.machine()
        slow.readComplete(now: self.start + .seconds(5))
        slow.readComplete(now: self.start + .seconds(14))
        #expect(self.name(slow.tick(now: self.start + .seconds(14))) == "none")
        #expect(self.name(slow.tick(now: self.start + .seconds(15))) == "refuse 408")
        #expect(self.name(slow.answered(now: self.start + .seconds(15))) == "linger")
        #expect(self.name(slow.tick(now: self.start + .seconds(17))) == "close")
    }

    @Test("a body that does not come is told so; an answer may take its time")
    func slowBody() {
        var machine = self.machine()
        #expect(self.name(machine.head(self.request(), now: self.start)) == "none")
        #expect(self.name(machine.body(ByteBuffer(string: "abc"), now: .now())) == "none")
        #expect(self.name(machine.tick(now: self.start + .seconds(29))) == "none")
        #expect(self.name(machine.tick(now: self.start + .seconds(30))) == "refuse 408")
        var answering = self.machine()
        _ = answering.head(self.request(), now: self.start)
        #expect(self.name(answering.end()) == "answer 0")
        #expect(self.name(answering.tick(now: self.start + .hours(1))) == "none")
    }

    @Test("a body within its bound is collected, one past it refused, and what still comes of it is dropped")
    func bodies() {
        var machine = self.machine()
        _ = machine.head(self.request(), now: self.start)
        #expect(self.name(machine.body(ByteBuffer(string: "12345"), now: .now())) == "none")
        #expect(self.name(machine.body(ByteBuffer(string: "67890"), now: .now())) == "none")
        #expect(self.name(machine.end()) == "answer 10")
        #expect(self.name(machine.answered(now: self.start)) == "none")
        _ = machine.head(self.request(), now: self.start)
        _ = machine.body(ByteBuffer(string: "1234567890"), now: .now())
        #expect(self.name(machine.body(ByteBuffer(string: "1"), now: .now())) == "refuse 413")
        #expect(self.name(machine.body(ByteBuffer(string: "1"), now: .now())) == "none")
        #expect(self.name(machine.answered(now: self.start)) == "linger")
        #expect(self.name(machine.end()) == "none")
    }

    @Test("draining lets a request end and closes after its answer")
    func drain() {
        var waiting = self.machine()
        #expect(self.name(waiting.drain()) == "close")
        var busy = self.machine()
        _ = busy.head(self.request(), now: self.start)
        #expect(self.name(busy.drain()) == "none")
        #expect(self.name(busy.end()) == "answer 0")
        #expect(busy.closesAfterAnswer)
        #expect(self.name(busy.answered(now: self.start)) == "linger")
    }

    @Test("a request that asks for it, or is too old to ask for more, is the last")
    func close() {
        for request in [self.request(["host": "x", "connection": "close"]), self.request([:], version: .http1_0)] {
            var machine = self.machine()
            _ = machine.head(request, now: self.start)
            _ = machine.end()
            #expect(machine.closesAfterAnswer)
            #expect(self.name(machine.answered(now: self.start)) == "linger")
        }
    }

    @Test("an answer that comes after the connection's end does nothing")
    func late() {
        var machine = self.machine()
        _ = machine.head(self.request(), now: self.start)
        _ = machine.end()
        machine.inactive()
        #expect(self.name(machine.answered(now: self.start)) == "none")
        #expect(self.name(machine.malformed(.malformed(""))) == "none")
    }

    @Test("a path's prefixes come off at a segment's end, the longest first", arguments: [
        ("/v1/notifications", "/v1/notifications", "/notifications"), ("/api/v1/notifications", "/v1/notifications", "/notifications"),
        ("/api/notifications", "/v1/notifications", "/notifications"), ("/api/v1", "/v1", ""), ("/api/v12/x", "/v1/v12/x", "/v12/x"),
        ("/v1x/y", "/v1x/y", "/v1x/y"), ("/apis", "/apis", "/apis"), ("/health/live", "/health/live", "/health/live"),
        ("/v1/internal/users/a%2Fb/count", "/v1/internal/users/a%2Fb/count", "/internal/users/a%2Fb/count"),
    ])
    func prefixes(path: String, canonical: String, stripped: String) {
        #expect(CanonicalPath(path).text == canonical)
        #expect(CanonicalPath(path).stripped == stripped)
    }

    @Test("a target is a path, or a URL with one")
    func targets() {
        #expect(RequestTarget("/a?b=c?d")?.path == "/a")
        #expect(RequestTarget("/a?b=c?d")?.query == "b=c?d")
        #expect(RequestTarget("http://x:80/a?b")?.path == "/a")
        #expect(RequestTarget("HTTP://x?b")?.path == "/")
        #expect(RequestTarget("*")?.path == "*")
        #expect(RequestTarget("a/b") == nil)
        #expect(RequestTarget("http:///a") == nil)
    }

    @Test("the date is written as HTTP has it")
    func date() {
        #expect(HTTPDate.format(Timestamp(seconds: 784_111_777)) == "Sun, 06 Nov 1994 08:49:37 GMT")
        #expect(HTTPDate.format(Timestamp(microseconds: 1_500_000)) == "Thu, 01 Jan 1970 00:00:01 GMT")
    }
}
