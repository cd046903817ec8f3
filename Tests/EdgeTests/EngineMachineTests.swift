import NIOCore
import NotificationCore
import Testing

@testable import Edge

@Suite("a session of Engine.IO")
struct EngineMachineTests {
    /// Everything that can happen to a session.
    enum Input: CaseIterable {
        case say, flush, poll, pollGone, postMessage, postPong, postClose, postNoise, candidate, probe, upgrade, candidateNoise, candidateGone
        case text, textNoise, gone, wait, close, drop
    }

    /// A machine, its surroundings, and what must always be true of them.
    struct World {
        var machine = EngineMachine(isWebSocket: false, now: 0)
        var now: Int64 = 0
        var said = 0
        var carried: [String] = []
        var pollWaits = false
        var candidate = false
        var isOnSocket = false
        var ends = 0
        var trail: [Input] = []

        mutating func run(_ input: Input) {
            self.trail.append(input)
            let wasOver = self.machine.isOver
            switch input {
            case .say:
                self.said += 1
                self.machine.send(packet: "4\(self.said)".utf8)
            case .flush: self.take(self.machine.flush())
            case .poll:
                switch self.machine.poll() {
                case .wait:
                    self.check(!self.pollWaits && !self.isOnSocket, "two polls wait")
                    self.pollWaits = true
                case .answer(let payload): self.carry(payload)
                case .refuse(let actions): self.take(actions)
                }
            case .pollGone:
                self.take(self.machine.pollGone())
                self.pollWaits = false
            case .postMessage: self.post("4x", isPacket: true)
            case .postPong: self.post("3", isPacket: true)
            case .postClose: self.post("1", isPacket: true)
            case .postNoise: self.post("4x\u{1E}", isPacket: false)
            case .candidate:
                if self.machine.candidateOpened(now: self.now) {
                    self.check(!self.candidate, "two candidates")
                    self.candidate = true
                }
            case .probe: if self.candidate { self.take(self.machine.candidateReceived(ByteBuffer(string: "2probe"), now: self.now)) }
            case .upgrade: if self.candidate { self.take(self.machine.candidateReceived(ByteBuffer(string: "5"), now: self.now)) }
            case .candidateNoise: if self.candidate { self.take(self.machine.candidateReceived(ByteBuffer(string: "2"), now: self.now)) }
            case .candidateGone:
                if self.candidate {
                    self.candidate = false
                    self.machine.candidateGone()
                }
            case .text: if self.isOnSocket { self.take(self.machine.received(ByteBuffer(string: "4x"), now: self.now)) }
            case .textNoise: if self.isOnSocket { self.take(self.machine.received(ByteBuffer(string: ""), now: self.now)) }
            case .gone:
                if self.isOnSocket {
                    self.isOnSocket = false
                    self.take(self.machine.webSocketGone())
                }
            case .wait:
                self.now = max(self.now + 1, self.machine.nextMoment(now: self.now))
                self.take(self.machine.tick(now: self.now))
            case .close: self.take(self.machine.close(forGood: true, now: self.now))
            case .drop: self.take(self.machine.close(forGood: false, now: self.now))
            }
            self.check(!wasOver || self.machine.isOver, "it came back to life")
            self.check(self.ends <= 1, "it ended twice")
            self.check(self.ends == 0 || self.machine.isOver, "it ended and is not over")
            self.check(!self.machine.isOver || !self.pollWaits, "a poll waits for what is over")
            self.check(!self.machine.isOpen || self.machine.nextMoment(now: self.now) < .max, "nothing ends it")
            self.check(self.machine.form == (self.isOnSocket && self.machine.isOpen ? .engineWebSocket : self.machine.form), "packets in the form of polls on a WebSocket")
            // Each message once, in order, none skipped.
            let messages = self.carried.filter { $0.first == "4" }
            self.check(messages == (0..<messages.count).map { "4\($0 + 1)" }, "carried \(messages)")
        }

        private mutating func post(_ payload: String, isPacket: Bool) {
            let (isTaken, actions) = self.machine.posted(ByteBuffer(string: payload), now: self.now)
            self.check(isPacket || !isTaken, "noise was taken")
            self.take(actions)
        }

        private mutating func take(_ actions: [EngineMachine.Action]) {
            for action in actions {
                self.check(self.ends == 0, "an action after the end")
                switch action {
                case .answer(let payload):
                    self.check(self.pollWaits, "an answer to no poll")
                    self.pollWaits = false
                    self.carry(payload)
                case .write(let frames):
                    self.check(self.isOnSocket, "written to no WebSocket")
                    self.read(frames)
                case .writeCandidate: self.check(self.candidate, "written to no candidate")
                case .adopt:
                    self.check(self.candidate, "no candidate was adopted")
                    self.candidate = false
                    self.isOnSocket = true
                case .dropCandidate:
                    self.check(self.candidate, "no candidate was dropped")
                    self.candidate = false
                case .message: break
                case .end:
                    self.ends += 1
                    // Whoever still polls is told that there is no such session.
                    self.pollWaits = false
                }
            }
        }

        private mutating func carry(_ payload: ByteBuffer) {
            self.check(payload.readableBytes > 0, "an empty payload")
            self.carried += EnginePacket.split(payload).map { String(buffer: $0) }
            self.check(EnginePacket.split(payload).count <= EngineMachine.packetBound, "too many packets")
        }

        private mutating func read(_ frames: ByteBuffer) {
            var frames = frames
            while let first = frames.readInteger(as: UInt8.self), let length = frames.readInteger(as: UInt8.self) {
                self.check(first == 0x81 && length < 126, "no short text frame")
                self.carried.append(frames.readString(length: Int(length)) ?? "")
            }
        }

        private func check(_ condition: Bool, _ complaint: @autoclosure () -> String) {
            if !condition { Issue.record("\(complaint()) after \(self.trail)") }
        }
    }

    @Test("whatever happens in whatever order, each message is carried once and in order, and there is one end")
    func search() {
        func go(_ world: World, _ depth: Int) {
            if depth == 0 { return }
            for input in Input.allCases {
                var next = world
                next.run(input)
                // Nothing happens to what is over: one more step is enough to see that.
                go(next, next.machine.isOver ? min(depth - 1, 1) : depth - 1)
            }
        }
        go(World(), 4)
        // From the middle of an upgrade, and after it.
        var upgrading = World()
        for input in [Input.candidate, .say, .probe] { upgrading.run(input) }
        go(upgrading, 4)
        upgrading.run(.upgrade)
        go(upgrading, 4)
    }

    @Test("long conversations at random")
    func walk() {
        for _ in 0..<500 {
            var world = World()
            for _ in 0..<200 { world.run(Input.allCases.randomElement()!) }
        }
    }

    @Test("the server pings each 25 s; a client that does not answer within 20 s is gone, one that does lives on")
    func pings() {
        var machine = EngineMachine(isWebSocket: true, now: 100)
        machine.connected()
        #expect(machine.nextMoment(now: 100) == 125)
        #expect(machine.tick(now: 124) == [])
        #expect(machine.tick(now: 125) == [.write(WebSocketFrame.make(.text, "2".utf8))])
        #expect(machine.nextMoment(now: 125) == 145)
        #expect(machine.received(ByteBuffer(string: "3"), now: 130) == [])
        #expect(machine.nextMoment(now: 130) == 155)
        #expect(machine.tick(now: 155) == [.write(WebSocketFrame.make(.text, "2".utf8))])
        #expect(machine.tick(now: 174) == [])
        #expect(machine.tick(now: 175) == [.end(.silent)])
        #expect(machine.tick(now: 500) == [])
    }

    @Test("a client that polls on without answering pings is gone, too")
    func pollsOn() {
        var machine = EngineMachine(isWebSocket: false, now: 0)
        machine.connected()
        #expect(machine.poll() == .wait)
        #expect(machine.tick(now: 25) == [.answer(ByteBuffer(string: "2"))])
        #expect(machine.poll() == .wait)
        #expect(machine.tick(now: 45) == [.answer(ByteBuffer(string: "1")), .end(.silent)])
        #expect(machine.poll() == .refuse([]))
    }

    @Test("a session that nobody connects ends after 10 s, counted anew after each refusal")
    func notConnected() {
        var machine = EngineMachine(isWebSocket: true, now: 0)
        machine.refused(now: 6)
        #expect(machine.tick(now: 10) == [])
        #expect(machine.tick(now: 16) == [.end(.notConnected)])
    }

    @Test("an upgrade that stays half done is given up, and the session goes on by polls")
    func halfUpgrade() {
        var machine = EngineMachine(isWebSocket: false, now: 0)
        machine.connected()
        _ = machine.candidateOpened(now: 3)
        #expect(machine.poll() == .answer(ByteBuffer(string: "6")))
        #expect(machine.tick(now: 13) == [.dropCandidate])
        #expect(machine.poll() == .wait)
        let again = machine.candidateOpened(now: 14)
        #expect(again)
    }

    @Test("the upgrade of the protocol's description")
    func upgrade() {
        var machine = EngineMachine(isWebSocket: false, now: 0)
        #expect(machine.poll() == .wait)
        _ = machine.candidateOpened(now: 0)
        #expect(
            machine.candidateReceived(ByteBuffer(string: "2probe"), now: 0)
                == [.writeCandidate(WebSocketFrame.make(.text, "3probe".utf8)), .answer(ByteBuffer(string: "6"))])
        machine.send(packet: "4a".utf8)
        machine.send(packet: "4b".utf8)
        var frames = WebSocketFrame.make(.text, "4a".utf8)
        WebSocketFrame.write(.text, "4b".utf8, to: &frames)
        #expect(machine.candidateReceived(ByteBuffer(string: "5"), now: 0) == [.adopt, .write(frames)])
        #expect(machine.form == .engineWebSocket)
        let late = machine.posted(ByteBuffer(string: "4x"), now: 0)
        #expect(!late.isTaken && late.actions.isEmpty)
    }

    @Test("the last words of a session wait for its next poll, but not for long")
    func lastWords() {
        var machine = EngineMachine(isWebSocket: false, now: 0)
        machine.send(packet: "4bye".utf8)
        #expect(machine.close(forGood: true, now: 0) == [])
        var other = machine
        #expect(machine.poll() == .answer(ByteBuffer(string: "4bye\u{1E}1")))
        #expect(machine.isOver)
        #expect(other.tick(now: 9) == [])
        #expect(other.tick(now: 10) == [.end(.told)])
    }

    @Test("a payload has 16 packets at most, and the rest comes with the next polls, the last words included", arguments: [15, 16, 17, 40])
    func portions(_ count: Int) {
        var machine = EngineMachine(isWebSocket: false, now: 0)
        for number in 0..<count { machine.send(packet: "4\(number)".utf8) }
        #expect(machine.close(forGood: true, now: 0) == [])
        var packets: [String] = []
        while !machine.isOver {
            guard case .answer(let payload) = machine.poll() else { break }
            let part = EnginePacket.split(payload).map { String(buffer: $0) }
            #expect(part.count <= 16)
            packets += part
        }
        #expect(packets == (0..<count).map { "4\($0)" } + ["1"])
    }

    @Test("a session that is given up without a word ends at once where nothing waits")
    func givenUp() {
        var machine = EngineMachine(isWebSocket: false, now: 0)
        #expect(machine.poll() == .wait)
        #expect(machine.close(forGood: false, now: 0) == [.end(.told)])
        var other = EngineMachine(isWebSocket: false, now: 0)
        other.send(packet: "4a".utf8)
        #expect(other.close(forGood: false, now: 0) == [])
        #expect(other.poll() == .answer(ByteBuffer(string: "4a")))
        #expect(other.isOver)
    }

    @Test(
        "what a client must not say ends the session",
        arguments: ["", "0", "2", "2probe", "5", "7", "b4AQ==", "x", "4a\u{1E}", "\u{1E}4a", "4a\u{1E}\u{1E}4b"])
    func invalid(_ payload: String) {
        var machine = EngineMachine(isWebSocket: false, now: 0)
        let (_, actions) = machine.posted(ByteBuffer(string: payload), now: 0)
        #expect(actions.last == .end(.invalid))
    }
}

@Suite("packets of Socket.IO")
struct SocketPacketTests {
    @Test(
        "what a client may say",
        arguments: [
            ("0", .connect(namespace: "/", auth: nil)), (#"0{"token":"x"}"#, .connect(namespace: "/", auth: .object([("token", .string("x"))]))),
            ("0/admin,", .connect(namespace: "/admin", auth: nil)), ("0/admin", .connect(namespace: "/admin", auth: nil)),
            ("0/a,{}", .connect(namespace: "/a", auth: .object([]))), ("1", .disconnect(namespace: "/")), ("1/a,", .disconnect(namespace: "/a")),
            (#"2["a",1]"#, .event), (#"217["a"]"#, .event), (#"2/a,17["a"]"#, .event), ("317[]", .acknowledgement),
        ] as [(String, SocketPacket)])
    func good(_ text: String, _ packet: SocketPacket) { #expect(SocketPacket(ByteBuffer(string: text)) == packet) }

    @Test(
        "and what not",
        arguments: ["", "x", "0{", "0[]", "0\"x\"", "0{}x", "1x", "2", "2{}", "2[", "4{}", #"51-["a",{"_placeholder":true,"num":0}]"#, "6", "9", "\u{0}"])
    func bad(_ text: String) { #expect(SocketPacket(ByteBuffer(string: text)) == nil) }

    @Test("a name that a query would have to escape is in no id", arguments: [("edge-1", "edge-1."), ("a_B9", "a_B9."), ("a b", ""), ("a.b", "a.b."), ("ä", "")])
    func prefix(_ node: String, _ prefix: String) { #expect(SocketIOSessions.prefix(node: node) == prefix) }
}
