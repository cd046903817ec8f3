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
        case .begin(_, _, let sendContinue): sendContinue ? "begin, continue" : "begin"
        case .pass(let part): "pass \(part.readableBytes)"
        case .passEnd: "pass end"
        case .breakOff(let problem): "break off \(problem.status.code)"
        case .refuse(let problem, _): "refuse \(problem.status.code)"
        case .refuseEarly(let problem): "refuse early \(problem.status.code)"
        case .linger: "linger"
        case .close: "close"
        }
    }

    @Test("while bytes are on their way a connection is not idle, and does not linger yet; what comes in has its time all the same")
    func sending() {
        var idle = self.machine()
        #expect(self.name(idle.tick(now: self.start + .seconds(80), isSending: true)) == "none")
        #expect(self.name(idle.tick(now: self.start + .seconds(154))) == "none")
        #expect(self.name(idle.tick(now: self.start + .seconds(155))) == "close")
        var slow = self.machine()
        slow.readComplete(now: self.start)
        #expect(self.name(slow.tick(now: self.start + .seconds(10), isSending: true)) == "refuse early 408")
        #expect(self.name(slow.answered(now: self.start + .seconds(10))) == "linger")
        #expect(self.name(slow.tick(now: self.start + .seconds(60), isSending: true)) == "none")
        #expect(self.name(slow.tick(now: self.start + .seconds(61))) == "none")
        #expect(self.name(slow.tick(now: self.start + .seconds(62))) == "close")
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
        #expect(self.name(slow.tick(now: self.start + .seconds(15))) == "refuse early 408")
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

    @Test("a body that goes on does not keep the buffer that its beginning was read into")
    func smallSlice() {
        var machine = self.machine()
        _ = machine.head(self.request(), now: self.start)
        var read = ByteBufferAllocator().buffer(capacity: 65_536)
        read.writeString("abc")
        _ = machine.body(read, now: self.start)
        machine.readComplete(now: self.start)
        _ = machine.body(ByteBuffer(string: "def"), now: self.start)
        guard case .answer(let request) = machine.end() else {
            Issue.record("not answered")
            return
        }
        #expect(String(buffer: request.body) == "abcdef")
        #expect(request.body.storageCapacity < 64)
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

    private func passing(_ headers: HTTPHeaders = ["host": "x"]) -> IncomingRequest {
        let request = self.request(headers)
        request.target = .body(Swallow())
        return request
    }

    @Test("a body that is taken as it comes goes on part by part; the connection is good for another request")
    func passes() {
        var machine = self.machine()
        #expect(self.name(machine.head(self.passing(), now: self.start)) == "begin")
        #expect(self.name(machine.body(ByteBuffer(string: "1234"), now: self.start)) == "pass 4")
        #expect(self.name(machine.body(ByteBuffer(string: "567890"), now: self.start)) == "pass 6")
        #expect(self.name(machine.end()) == "pass end")
        machine.answering()
        #expect(!machine.closesAfterAnswer)
        #expect(self.name(machine.answered(now: self.start)) == "none")
        #expect(self.name(machine.head(self.passing(["host": "x", "expect": "100-continue"]), now: self.start)) == "begin, continue")
        #expect(self.name(machine.end()) == "pass end")
    }

    @Test("past its bound the route is told, and what still comes is dropped")
    func passesTooMuch() {
        var machine = self.machine()
        _ = machine.head(self.passing(), now: self.start)
        #expect(self.name(machine.body(ByteBuffer(string: "1234567890"), now: self.start)) == "pass 10")
        #expect(self.name(machine.body(ByteBuffer(string: "1"), now: self.start)) == "break off 413")
        #expect(self.name(machine.body(ByteBuffer(string: "1"), now: self.start)) == "none")
        #expect(self.name(machine.end()) == "none")
        machine.answering()
        #expect(self.name(machine.answered(now: self.start)) == "linger")
        var declared = self.machine()
        #expect(self.name(declared.head(self.passing(["host": "x", "content-length": "11"]), now: self.start)) == "refuse 413")
    }

    @Test("a body that is taken as it comes may take long, but not stand still, unless it is the route that is behind")
    func passesSlowly() {
        var machine = self.machine()
        _ = machine.head(self.passing(), now: self.start)
        _ = machine.body(ByteBuffer(string: "1"), now: self.start + .seconds(29))
        #expect(self.name(machine.tick(now: self.start + .seconds(58))) == "none")
        machine.pause()
        #expect(self.name(machine.body(ByteBuffer(string: "2"), now: self.start + .seconds(58))) == "pass 1")
        #expect(self.name(machine.tick(now: self.start + .hours(1))) == "none")
        machine.resume(now: self.start + .hours(1))
        #expect(self.name(machine.tick(now: self.start + .hours(1) + .seconds(29))) == "none")
        #expect(self.name(machine.tick(now: self.start + .hours(1) + .seconds(30))) == "break off 408")
        #expect(self.name(machine.tick(now: self.start + .hours(2))) == "none")
    }

    @Test("an answer before the body's end is the connection's last")
    func answersEarly() {
        var machine = self.machine()
        _ = machine.head(self.passing(), now: self.start)
        machine.answering()
        #expect(machine.closesAfterAnswer)
        #expect(self.name(machine.answered(now: self.start)) == "linger")
        #expect(self.name(machine.body(ByteBuffer(string: "1"), now: self.start)) == "none")
        #expect(self.name(machine.end()) == "none")
    }

    @Test("what is no body any more breaks it off; a drain lets it end, and is the last")
    func passesGarbage() {
        var machine = self.machine()
        _ = machine.head(self.passing(), now: self.start)
        #expect(self.name(machine.malformed(.malformed(""))) == "break off 400")
        #expect(self.name(machine.malformed(.malformed(""))) == "close")
        var draining = self.machine()
        _ = draining.head(self.passing(), now: self.start)
        #expect(self.name(draining.drain()) == "none")
        #expect(self.name(draining.end()) == "pass end")
        draining.answering()
        #expect(draining.closesAfterAnswer)
        var gone = self.machine()
        _ = gone.head(self.passing(), now: self.start)
        gone.inactive()
        gone.answering()
        #expect(gone.isClosed)
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
