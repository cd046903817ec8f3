import NIOCore

/// One session of Engine.IO 4: what carries it (polls, or a WebSocket that it was upgraded to), what waits to be carried, and whether the client
/// still lives. No I/O: inputs are methods, what has to be done comes back as actions. Times are in seconds of any one clock.
struct EngineMachine {
    static let pingInterval: Int64 = 25
    static let pingTimeout: Int64 = 20
    /// How long a session may be without a CONNECT, or with an upgrade half done, and how long its last payload waits for its poll.
    static let patience: Int64 = 10
    /// Of a payload that is posted, or a message of a WebSocket, in bytes.
    static let maxPayload = 65536

    /// Packets in the payload of one poll: python-engineio takes no more.
    static let packetBound = 16

    enum Action: Equatable {
        /// The waiting poll's answer.
        case answer(ByteBuffer)
        /// Frames for the WebSocket that carries the session.
        case write(ByteBuffer)
        /// Frames for the one that it may be upgraded to.
        case writeCandidate(ByteBuffer)
        /// The candidate carries it from now on.
        case adopt
        case dropCandidate
        /// For Socket.IO.
        case message(ByteBuffer)
        case end(End)
    }

    enum End: Equatable {
        /// The client said so, or its connection is gone.
        case left
        case silent
        case notConnected
        case invalid
        /// This side said so, and that is told.
        case told
    }

    enum Poll: Equatable {
        case wait
        case answer(ByteBuffer)
        /// Another one waits, or polls do not carry this session any more.
        case refuse([Action])
    }

    private enum State: Equatable {
        case polling(isWaiting: Bool)
        case webSocket
        /// It is over; the last payload waits for its poll.
        case ending(until: Int64)
        case over
    }

    private enum Upgrade: Equatable {
        case none
        case opened(until: Int64)
        case probed(until: Int64)
    }

    private var state: State
    private var upgrade = Upgrade.none
    /// In the form of ``form``.
    private var pending = ByteBuffer()
    private var nextPing: Int64
    private var pongDue: Int64?
    private var connectDue: Int64?

    init(isWebSocket: Bool, now: Int64) {
        self.state = isWebSocket ? .webSocket : .polling(isWaiting: false)
        self.nextPing = now + Self.pingInterval
        self.connectDue = now + Self.patience
    }

    // MARK: Going out

    /// How packets are to be handed in.
    var form: MessageForm { self.state == .webSocket ? .engineWebSocket : .enginePolling }
    /// Bytes that wait to be carried.
    var pendingBytes: Int { self.pending.readableBytes }
    var isOpen: Bool {
        switch self.state {
        case .polling, .webSocket: true
        case .ending, .over: false
        }
    }
    var isOver: Bool { self.state == .over }

    /// Adds packets in the form of ``form``.
    mutating func send(_ packets: ByteBuffer) {
        switch self.state {
        case .polling:
            if self.pending.readableBytes > 0 { self.pending.writeInteger(EnginePacket.separator) }
            self.pending.writeImmutableBuffer(packets)
        case .webSocket: self.pending.writeImmutableBuffer(packets)
        case .ending, .over: break
        }
    }

    mutating func send(packet: some Collection<UInt8>) {
        self.send(self.form == .engineWebSocket ? WebSocketFrame.make(.text, packet) : ByteBuffer(bytes: packet))
    }

    /// What waits is carried as far as something carries it.
    mutating func flush() -> [Action] {
        guard self.pending.readableBytes > 0 else { return [] }
        switch self.state {
        case .polling(isWaiting: true):
            self.state = .polling(isWaiting: false)
            return [.answer(self.takePayload())]
        case .webSocket: return [.write(self.take())]
        case .polling, .ending, .over: return []
        }
    }

    private mutating func take() -> ByteBuffer {
        let bytes = self.pending
        self.pending = ByteBuffer()
        return bytes
    }

    /// What one poll takes.
    private mutating func takePayload() -> ByteBuffer {
        var packets = 0
        for (index, byte) in self.pending.readableBytesView.enumerated() where byte == EnginePacket.separator {
            packets += 1
            if packets == Self.packetBound {
                let payload = self.pending.readSlice(length: index) ?? ByteBuffer()
                self.pending.moveReaderIndex(forwardBy: 1)
                return payload
            }
        }
        return self.take()
    }

    /// The session is to end, once its polls have taken what waits.
    ///
    /// - Parameter forGood: the client is told that the server ends it, upon which some stay away; else its connection is gone for it.
    mutating func close(forGood: Bool, now: Int64) -> [Action] {
        switch self.state {
        case .polling(let isWaiting):
            if forGood { self.send(packet: "1".utf8) }
            var actions: [Action] = self.upgrade == .none ? [] : [.dropCandidate]
            self.upgrade = .none
            if isWaiting, self.pending.readableBytes > 0 { actions.append(.answer(self.takePayload())) }
            if self.pending.readableBytes == 0 {
                self.state = .over
                return actions + [.end(.told)]
            }
            self.state = .ending(until: now + Self.patience)
            return actions
        case .webSocket:
            let last: [Action] = self.pending.readableBytes > 0 ? [.write(self.take())] : []
            self.state = .over
            return last + [.end(.told)]
        case .ending, .over: return []
        }
    }

    // MARK: Polls

    mutating func poll() -> Poll {
        switch self.state {
        case .polling(isWaiting: true): return .refuse(self.end(.invalid))
        case .polling(isWaiting: false):
            if self.pending.readableBytes > 0 { return .answer(self.takePayload()) }
            // The client waits for its last poll before it goes on with the upgrade.
            if self.upgrade != .none { return .answer(ByteBuffer(string: "6")) }
            self.state = .polling(isWaiting: true)
            return .wait
        case .webSocket, .over: return .refuse([])
        case .ending:
            let payload = self.takePayload()
            if self.pending.readableBytes == 0 { self.state = .over }
            return .answer(payload)
        }
    }

    /// The waiting poll's client is gone.
    mutating func pollGone() -> [Action] {
        if case .polling(isWaiting: true) = self.state { return self.end(.left) }
        return []
    }

    /// Nil when a payload cannot be posted now, or is none.
    mutating func posted(_ payload: ByteBuffer, now: Int64) -> (isTaken: Bool, actions: [Action]) {
        guard case .polling = self.state else { return (false, []) }
        guard let packets = EnginePacket.payload(payload) else { return (false, self.end(.invalid)) }
        return (true, self.received(packets, now: now))
    }

    // MARK: WebSockets

    /// A WebSocket was opened for this session. False: it has one.
    mutating func candidateOpened(now: Int64) -> Bool {
        guard case .polling = self.state, self.upgrade == .none else { return false }
        self.upgrade = .opened(until: now + Self.patience)
        return true
    }

    mutating func candidateReceived(_ text: ByteBuffer, now: Int64) -> [Action] {
        guard case .polling(let isWaiting) = self.state else { return [] }
        switch (self.upgrade, EnginePacket(text)) {
        case (.opened(let until), .ping(let probe)) where probe == ByteBuffer(string: "probe"):
            self.upgrade = .probed(until: until)
            let answer = Action.writeCandidate(WebSocketFrame.make(.text, "3probe".utf8))
            if !isWaiting { return [answer] }
            self.state = .polling(isWaiting: false)
            return [answer, .answer(ByteBuffer(string: "6"))]
        case (.probed, .upgrade):
            self.upgrade = .none
            self.state = .webSocket
            var actions: [Action] = isWaiting ? [.answer(ByteBuffer(string: "6")), .adopt] : [.adopt]
            if self.pending.readableBytes > 0 {
                // From now on in frames.
                var frames = ByteBuffer()
                for packet in EnginePacket.split(self.take()) { WebSocketFrame.write(.text, packet.readableBytesView, to: &frames) }
                actions.append(.write(frames))
            }
            return actions
        case (.opened, _), (.probed, _):
            self.upgrade = .none
            return [.dropCandidate]
        case (.none, _): return []
        }
    }

    /// It is gone before it carried anything.
    mutating func candidateGone() {
        self.upgrade = .none
    }

    mutating func received(_ text: ByteBuffer, now: Int64) -> [Action] {
        guard self.state == .webSocket else { return [] }
        guard let packet = EnginePacket(text) else { return self.end(.invalid) }
        return self.received([packet], now: now)
    }

    mutating func webSocketGone() -> [Action] {
        self.state == .webSocket ? self.end(.left) : []
    }

    /// The client broke the WebSocket's protocol.
    mutating func webSocketBroken() -> [Action] {
        self.state == .webSocket ? self.end(.invalid) : []
    }

    private mutating func received(_ packets: [EnginePacket], now: Int64) -> [Action] {
        var actions: [Action] = []
        for packet in packets {
            switch packet {
            case .message(let text): actions.append(.message(text))
            case .pong:
                if self.pongDue != nil {
                    self.pongDue = nil
                    self.nextPing = now + Self.pingInterval
                }
            case .close: return actions + self.end(.left)
            case .noop: break
            // It is the server that pings, and these are said elsewhere.
            case .open, .ping, .upgrade: return actions + self.end(.invalid)
            }
        }
        return actions
    }

    // MARK: Time

    /// Socket.IO's CONNECT was accepted.
    mutating func connected() { self.connectDue = nil }
    /// It was refused: the client may try another one.
    mutating func refused(now: Int64) { self.connectDue = now + Self.patience }

    /// When `tick` is to be called next, at the latest.
    func nextMoment(now: Int64) -> Int64 {
        if case .ending(let until) = self.state { return until }
        var next = min(self.pongDue ?? self.nextPing, self.connectDue ?? .max)
        switch self.upgrade {
        case .opened(let until), .probed(let until): next = min(next, until)
        case .none: break
        }
        return next
    }

    mutating func tick(now: Int64) -> [Action] {
        switch self.state {
        case .over: return []
        case .ending(let until):
            guard now >= until else { return [] }
            self.state = .over
            return [.end(.told)]
        case .polling, .webSocket: break
        }
        if let pongDue, now >= pongDue { return self.end(.silent) }
        if let connectDue, now >= connectDue { return self.end(.notConnected) }
        var actions: [Action] = []
        switch self.upgrade {
        case .opened(let until), .probed(let until):
            if now >= until {
                self.upgrade = .none
                actions.append(.dropCandidate)
            }
        case .none: break
        }
        if self.pongDue == nil, now >= self.nextPing {
            self.pongDue = now + Self.pingTimeout
            self.send(packet: "2".utf8)
            actions += self.flush()
        }
        return actions
    }

    private mutating func end(_ end: End) -> [Action] {
        var actions: [Action] = self.upgrade == .none ? [] : [.dropCandidate]
        if case .polling(isWaiting: true) = self.state, end != .left { actions.append(.answer(ByteBuffer(string: "1"))) }
        self.state = .over
        self.upgrade = .none
        self.pending = ByteBuffer()
        return actions + [.end(end)]
    }
}
