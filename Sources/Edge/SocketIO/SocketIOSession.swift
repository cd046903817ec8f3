import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore
import Synchronization

/// A session of Socket.IO: performs what its ``EngineMachine`` says, and joins its user's hub once the client has said who it is. It outlives the
/// requests that carry it, and lives on one event loop, wherever those come in.
///
/// Unchecked: all mutable state is touched on the loop only, and every entry point asserts it or goes there.
final class SocketIOSession: Timed, @unchecked Sendable {
    /// Times that a client may be refused before the session ends.
    private static let attempts = 5

    let id: String
    let loop: EdgeLoop
    private let sessions: SocketIOSessions
    private var machine: EngineMachine
    /// The handshake's, which may say who the client is; nil once that is known.
    private var request: GatewayRequest?
    private var connection: SocketIOConnection?
    private var isOpening = false
    var wheelPlace: TimerPlace?
    private var refusals = 0
    private var poll: EventLoopPromise<GatewayResponse>?
    private var socket: EngineSocket?
    private var candidate: EngineSocket?
    /// Bytes that the socket has not taken yet.
    private var inFlight = 0
    var timer: TimerPlace?

    init(id: String, loop: EdgeLoop, sessions: SocketIOSessions, request: GatewayRequest, isWebSocket: Bool) {
        self.id = id
        self.loop = loop
        self.sessions = sessions
        self.request = request
        self.machine = EngineMachine(isWebSocket: isWebSocket, now: loop.now)
    }

    /// The first packet.
    func greeting(upgrades: Bool) -> ByteBuffer {
        ByteBuffer(
            string: "0{\"sid\":\"\(self.id)\",\"upgrades\":[\(upgrades ? "\"websocket\"" : "")],\"pingInterval\":\(EngineMachine.pingInterval * 1000),"
                + "\"pingTimeout\":\(EngineMachine.pingTimeout * 1000),\"maxPayload\":\(EngineMachine.maxPayload)}")
    }

    private func run(_ actions: [EngineMachine.Action]) {
        self.loop.eventLoop.assertInEventLoop()
        for action in actions {
            switch action {
            case .answer(let payload):
                self.poll?.succeed(SocketIORoute.response(payload))
                self.poll = nil
            case .write(let frames): self.write(frames)
            case .writeCandidate(let frames): _ = self.candidate?.write(frames)
            case .adopt:
                self.socket = self.candidate
                self.candidate = nil
            case .dropCandidate:
                self.candidate?.close(.protocolError)
                self.candidate = nil
            case .message(let text): self.received(text)
            case .end(let end): self.ended(end)
            }
        }
        self.noticeRoom()
    }

    // MARK: What the stream says

    var form: MessageForm { self.machine.form }
    var unsentBytes: Int { self.machine.pendingBytes + self.inFlight }

    func say(_ packets: ByteBuffer) { self.machine.send(packets) }
    func say(packet: [UInt8]) { self.machine.send(packet: packet) }
    func flush() { self.run(self.machine.flush()) }

    private func write(_ frames: ByteBuffer) {
        guard let socket = self.socket else { return }
        let count = frames.readableBytes
        self.inFlight += count
        // However it ended: a socket that is gone says so itself.
        socket.write(frames).hop(to: self.loop.eventLoop).whenComplete { _ in
            self.inFlight -= count
            self.noticeRoom()
        }
    }

    /// A stream that was set aside goes on.
    private func noticeRoom() {
        guard let connection, connection.isBlocked, self.unsentBytes <= self.loop.edge.configuration.unsentBytes / 2 else { return }
        self.loop.eventLoop.execute { self.loop.writabilityChanged(connection, isWritable: connection.isWritable) }
    }

    /// The stream is out of its hub and was told why.
    func streamEnded(_ reason: StreamFrame.CloseReason, retry: Int) {
        self.connection = nil
        // Upon this a client stays away; when only its connection ends it comes back by itself.
        if reason == .evicted { self.say(packet: SocketPacket.disconnect) }
        self.close(.init(reason), "{\"reason\":\"\(reason.rawValue)\",\"retry\":\(retry)}", forGood: reason == .evicted)
    }

    private func close(_ code: WebSocketCode, _ reason: String = "", forGood: Bool) {
        let socket = self.socket
        self.run(self.machine.close(forGood: forGood, now: self.loop.now))
        socket?.close(code, reason)
    }

    /// There is no room for it, and its client had not said who it is; one that does so at this very moment comes back by itself. From any thread.
    func drop() {
        self.loop.eventLoop.execute { self.close(.tryAgainLater, forGood: false) }
    }

    /// The node is shutting down.
    func drain() {
        // Those with a stream end with it.
        if self.connection == nil, !self.isOpening, self.machine.isOpen { self.close(.restart, forGood: false) }
    }

    private func ended(_ end: EngineMachine.End) {
        self.sessions.remove(self)
        self.loop.unwatch(self)
        self.poll?.succeed(SocketIORoute.unknown.response(instance: self.id))
        self.poll = nil
        if let connection = self.connection {
            self.connection = nil
            self.loop.closed(connection)
        }
        if end == .silent { self.loop.edge.metrics.silent.add(1, ordering: .relaxed) }
        if end != .told { self.socket?.close(end == .invalid ? .protocolError : .normal) }
        self.candidate?.close(.normal)
        self.socket = nil
        self.candidate = nil
        self.request = nil
    }

    // MARK: What clients say

    /// A poll, from any thread.
    func poll(_ request: GatewayRequest) -> EventLoopFuture<GatewayResponse> {
        let promise = self.loop.eventLoop.makePromise(of: GatewayResponse.self)
        self.loop.eventLoop.execute {
            switch self.machine.poll() {
            case .wait:
                self.poll = promise
                request.trace.whenAbandoned {
                    self.loop.eventLoop.execute {
                        guard let waiting = self.poll, waiting.futureResult === promise.futureResult else { return }
                        self.run(self.machine.pollGone())
                    }
                }
            case .answer(let payload):
                promise.succeed(SocketIORoute.response(payload))
                if self.machine.isOver { self.ended(.told) }
                self.noticeRoom()
            case .refuse(let actions):
                self.run(actions)
                promise.succeed(SocketIORoute.unknown.response(instance: request.requestID))
            }
        }
        return promise.futureResult
    }

    /// A posted payload, from any thread.
    func posted(_ request: GatewayRequest) -> EventLoopFuture<GatewayResponse> {
        self.loop.eventLoop.submit {
            let (isTaken, actions) = self.machine.posted(request.body, now: self.loop.now)
            self.run(actions)
            self.flush()
            return isTaken ? SocketIORoute.response(ByteBuffer(string: "ok")) : SocketIORoute.notTaken.response(instance: request.requestID)
        }
    }

    /// A WebSocket carries the session from its beginning.
    func opened(_ socket: EngineSocket) {
        self.loop.eventLoop.assertInEventLoop()
        self.socket = socket
        self.machine.send(packet: self.greeting(upgrades: false).readableBytesView)
        self.flush()
    }

    /// One may come to carry it. False: no. On the loop.
    func offer(_ candidate: EngineSocket) -> Bool {
        self.loop.eventLoop.assertInEventLoop()
        guard self.machine.candidateOpened(now: self.loop.now) else { return false }
        self.candidate = candidate
        return true
    }

    /// From any thread, in order.
    func received(_ text: ByteBuffer, from socket: EngineSocket) {
        self.onLoop {
            if socket === self.candidate {
                self.run(self.machine.candidateReceived(text, now: self.loop.now))
            } else if socket === self.socket {
                self.run(self.machine.received(text, now: self.loop.now))
            }
            self.flush()
        }
    }

    /// From any thread.
    func gone(_ socket: EngineSocket) {
        self.onLoop {
            if socket === self.candidate {
                self.candidate = nil
                self.machine.candidateGone()
            } else if socket === self.socket {
                self.socket = nil
                self.run(self.machine.webSocketGone())
            }
        }
    }

    private func onLoop(_ body: @escaping @Sendable () -> Void) {
        if self.loop.eventLoop.inEventLoop { body() } else { self.loop.eventLoop.execute(body) }
    }

    private func received(_ text: ByteBuffer) {
        guard self.machine.isOpen else { return }
        switch SocketPacket(text) {
        case .connect(namespace: "/", let auth):
            if self.connection == nil, !self.isOpening { self.connect(auth) } else { self.leave() }
        case .connect(let namespace, _):
            self.refuse(SocketPacket.refused(namespace: namespace, message: "Invalid namespace"))
        case .disconnect(namespace: "/"):
            self.leave()
        // What it says is ignored; other namespaces were never joined.
        case .disconnect, .event, .acknowledgement: break
        case nil: self.leave()
        }
    }

    /// The client ends it, or is not understood.
    private func leave() {
        if let connection = self.connection {
            self.connection = nil
            self.loop.closed(connection)
        }
        self.close(.normal, forGood: true)
    }

    private func connect(_ auth: JSONValue?) {
        guard let request = self.request else { return }
        self.isOpening = true
        self.loop.edge.admit(.socketIO, on: self.loop.eventLoop) { () async throws(Problem) in
            try await self.sessions.authenticator.authenticate(request, auth)
        }.whenSuccess { opening in
            self.isOpening = false
            guard self.machine.isOpen else {
                if case .granted(_, let lease) = opening { self.loop.edge.giveBack(lease) }
                return
            }
            switch opening {
            case .granted(let stream, let lease):
                self.request = nil
                self.refusals = 0
                self.machine.connected()
                self.sessions.connected(self)
                let connection = SocketIOConnection(stream, lease: lease, session: self)
                self.connection = connection
                self.loop.open(connection)
            case .refused(let problem):
                self.refuse(problem)
            case .evictedBefore, .away:
                // No answer but the end has a client come back by itself.
                self.close(.tryAgainLater, forGood: false)
            }
        }
    }

    private func refuse(_ problem: Problem) {
        self.machine.refused(now: self.loop.now)
        self.refuse(
            SocketPacket.refused(
                namespace: "/", message: problem.detail,
                data: .object([("code", .string(problem.code)), ("status", .number(String(problem.status.code)))])))
    }

    /// Each refusal is an answer that waits for its poll: they are counted, whatever was refused; once there is a stream, those that wait.
    private func refuse(_ packet: [UInt8]) {
        if self.connection != nil, self.unsentBytes == 0 { self.refusals = 0 }
        self.refusals += 1
        self.say(packet: packet)
        self.flush()
        if self.refusals >= Self.attempts { self.leave() }
    }

    // MARK: Time

    /// Answers when it is to be called next; nil: never again.
    func tick() -> Int64? {
        self.run(self.machine.tick(now: self.loop.now))
        return self.machine.isOver ? nil : self.machine.nextMoment(now: self.loop.now)
    }
}
