import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore

/// `/socket.io/`: Socket.IO 5 on Engine.IO 4, as Socket.IO's own clients from version 3 on speak it.
struct SocketIORoute: PlainRoute {
    static let unknown = Problem(.badRequest, "invalid_request", "There is no such session here, or another request of it waits.")
    static let notTaken = Problem(.badRequest, "invalid_request", "This is no payload of Engine.IO 4, or the session is not carried by polls any more.")

    let sessions: SocketIOSessions

    // Each answer to a ping is one.
    var isOneOfMany: Bool { true }

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        let answer: GatewayResponse
        do throws(Problem) {
            guard request.query["transport"] == "polling" else { throw .engine("transport must be polling, or websocket with an upgrade") }
            switch (try Self.session(request, self.sessions), request.head.method) {
            case (let session?, .GET): return session.poll(request)
            case (let session?, .POST):
                guard request.body.readableBytes <= EngineMachine.maxPayload else { throw .tooLarge(limit: EngineMachine.maxPayload) }
                return session.posted(request)
            case (nil, .GET):
                try self.checkHandshake(request)
                guard let session = self.sessions.make(request, on: eventLoop, isWebSocket: false) else { throw .busy }
                answer = Self.response(session.greeting(upgrades: true))
            default: throw .engine("a session begins with GET")
            }
        } catch {
            answer = error.response(instance: request.requestID)
        }
        return eventLoop.makeSucceededFuture(answer)
    }

    /// The session that it names; nil where it begins one.
    static func session(_ request: GatewayRequest, _ sessions: SocketIOSessions) throws(Problem) -> SocketIOSession? {
        guard request.query["EIO"] == "4" else { throw .engine("EIO must be 4") }
        guard let id = request.query["sid"] else { return nil }
        guard let session = sessions[id] else { throw Self.unknown }
        return session
    }

    private func checkHandshake(_ request: GatewayRequest) throws(Problem) {
        try self.sessions.checkHandshake(request)
    }

    static func response(_ payload: ByteBuffer) -> GatewayResponse {
        GatewayResponse(status: .ok, headers: ["content-type": "text/plain; charset=UTF-8", "cache-control": "no-store"], body: payload)
    }
}

/// The same over a WebSocket: a session of its own, or the upgrade of one that polls carry.
struct SocketIOWebSocketRoute: StreamRoute {
    let sessions: SocketIOSessions

    var isEventStream: Bool { false }

    func open(_ request: GatewayRequest, on channel: any Channel) {
        let edge = self.sessions.edge
        do throws(Problem) {
            let opening = try WebSocketOpening(request.head)
            guard request.query["transport"] == "websocket" else { throw .engine("transport must be websocket") }
            if let session = try SocketIORoute.session(request, self.sessions) {
                self.upgrade(session, request, opening, channel)
                return
            }
            try self.sessions.checkHandshake(request)
            guard let session = self.sessions.make(request, on: channel.eventLoop, isWebSocket: true) else { throw .busy }
            let socket = EngineSocket(channel: channel, session: session)
            self.begin(socket, opening, request)
            session.opened(socket)
        } catch {
            edge.answer(request, channel, error.response(instance: request.requestID))
        }
    }

    /// The session may live on another loop: it is asked first.
    private func upgrade(_ session: SocketIOSession, _ request: GatewayRequest, _ opening: WebSocketOpening, _ channel: any Channel) {
        let socket = EngineSocket(channel: channel, session: session)
        session.loop.eventLoop.submit { session.offer(socket) }.hop(to: channel.eventLoop).whenSuccess { isTaken in
            if isTaken {
                self.begin(socket, opening, request)
            } else {
                self.sessions.edge.answer(request, socket.channel, SocketIORoute.unknown.response(instance: request.requestID))
            }
        }
    }

    private func begin(_ socket: EngineSocket, _ opening: WebSocketOpening, _ request: GatewayRequest) {
        let channel = socket.channel
        do {
            try EdgeLoop.prepare(channel, self.sessions.edge.configuration)
            try channel.pipeline.syncOperations.addHandler(socket)
        } catch {
            socket.lost()
            channel.close(promise: nil)
            return
        }
        guard channel.isActive else {
            socket.lost()
            return
        }
        channel.writeAndFlush(opening.head(request.requestID, cookie: nil), promise: nil)
    }
}

extension SocketIOSessions {
    func checkHandshake(_ request: GatewayRequest) throws(Problem) {
        if self.edge.isDraining { throw .unavailable("This node is shutting down; try again.") }
        // Where nothing but the cookie can say who it is. A page may still send a token later, but not from where it may not read the answers.
        if request.header("authorization") == nil, request.query["ticket"] == nil, request.cookie(self.edge.cookieName) != nil,
            !self.edge.origins.allowsCookieWrite(request.head.headers)
        {
            throw .forbidden("A cookie counts only with an Origin of this site.")
        }
    }
}

extension Problem {
    static func engine(_ detail: String) -> Problem { Problem(.badRequest, "invalid_request", "Engine.IO: \(detail).") }
    static let busy = Problem.unavailable("This node has as many sessions as it can hold; try again.")
}
