import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore
import Synchronization

/// The sessions of Socket.IO on this node, by id. Each lives on one event loop; requests for it come in on any.
final class SocketIOSessions: Sendable {
    /// Sessions that have not said who they are. Past it the oldest goes: a client says so within a moment, and whoever begins many and says nothing
    /// shuts out no one.
    static let waitingBound = 2000

    private struct State {
        var sessions: [String: SocketIOSession] = [:]
        /// Ids of those that have not said who they are.
        var waiting: Set<String> = []
        /// The same, oldest first, and some that have gone or said so since.
        var queue = CircularBuffer<String>()

        mutating func wait(_ session: SocketIOSession) {
            self.sessions[session.id] = session
            self.waiting.insert(session.id)
            if self.queue.count > 2 * SocketIOSessions.waitingBound { self.queue = self.queue.filter { self.waiting.contains($0) } }
            self.queue.append(session.id)
        }

        /// Nil when all have said who they are.
        mutating func removeOldest() -> SocketIOSession? {
            while let id = self.queue.popFirst() {
                if self.waiting.remove(id) != nil { return self.sessions.removeValue(forKey: id) }
            }
            return nil
        }
    }

    unowned let edge: Edge
    let authenticator: StreamAuthenticator
    private let prefix: String
    private let state = Mutex(State())

    init(edge: Edge, authenticator: StreamAuthenticator) {
        self.edge = edge
        self.authenticator = authenticator
        self.prefix = Self.prefix(node: edge.configuration.node)
    }

    /// An id begins with its node's name, so that a load balancer finds the way back without a memory of its own. A name that would have to be
    /// escaped in a query is left out. What stands after the id's last dot is not of the name.
    static func prefix(node: String) -> String {
        let isPlain = node.utf8.allSatisfy {
            switch $0 {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
            default: false
            }
        }
        return isPlain ? node + "." : ""
    }

    /// Whoever knows an id is its client: 128 random bits.
    private func makeID() -> String {
        var generator = SystemRandomNumberGenerator()
        return self.prefix + (0..<2).map { _ in
            let digits = String(generator.next() as UInt64, radix: 36)
            return String(repeating: "0", count: 13 - digits.utf8.count) + digits
        }.joined()
    }

    /// Nil: there are as many as there may be.
    func make(_ request: GatewayRequest, on eventLoop: any EventLoop, isWebSocket: Bool) -> SocketIOSession? {
        let loop = self.edge.loop(of: eventLoop)
        let session = SocketIOSession(id: self.makeID(), loop: loop, sessions: self, request: request.identifying, isWebSocket: isWebSocket)
        let bound = self.edge.configuration.maximumConnections
        let (fits, dropped) = self.state.withLock { state in
            var dropped: SocketIOSession?
            if state.waiting.count >= Self.waitingBound || state.sessions.count >= bound { dropped = state.removeOldest() }
            if state.sessions.count >= bound { return (false, dropped) }
            state.wait(session)
            return (true, dropped)
        }
        if let dropped {
            self.edge.metrics.refused.add(1, ordering: .relaxed)
            self.edge.metrics.sessions.subtract(1, ordering: .relaxed)
            dropped.drop()
        }
        guard fits else {
            self.edge.metrics.refused.add(1, ordering: .relaxed)
            return nil
        }
        self.edge.metrics.sessions.add(1, ordering: .relaxed)
        loop.watch(session)
        return session
    }

    subscript(id: String) -> SocketIOSession? { self.state.withLock { $0.sessions[id] } }

    /// It has said who it is.
    func connected(_ session: SocketIOSession) { self.state.withLock { _ = $0.waiting.remove(session.id) } }

    /// Called on the session's loop.
    func remove(_ session: SocketIOSession) {
        let removed = self.state.withLock { state in
            state.waiting.remove(session.id)
            return state.sessions.removeValue(forKey: session.id) != nil
        }
        if removed { self.edge.metrics.sessions.subtract(1, ordering: .relaxed) }
    }

    func drain() {
        for session in self.state.withLock({ Array($0.sessions.values) }) { session.loop.eventLoop.execute { session.drain() } }
    }
}

extension GatewayRequest {
    /// No more of it than says who the client is: a session keeps it until that is known.
    fileprivate var identifying: GatewayRequest {
        var request = self
        request.head.headers = HTTPHeaders(
            ["authorization", "cookie", "origin", "host", "user-agent"].flatMap { name in self.head.headers[name].map { (name, $0) } })
        request.body = ByteBuffer()
        return request
    }
}

extension StreamAuthenticator {
    /// Who connects to Socket.IO: by the token in `auth`, else by what the handshake said.
    func authenticate(_ request: GatewayRequest, _ auth: JSONValue?) async throws(Problem) -> StreamRequest {
        let resume = ResumePoint(header: auth?["last_event_id"]?.string, query: request.query["last_event_id"])
        let customer = auth?["customer_id"]?.string
        var stream: StreamRequest
        if let token = auth?["token"]?.string, !token.isEmpty {
            // As in the header, where the scheme stands before it.
            let bearer = Credentials.bearer(token) ?? token
            let user = try await self.credentials.user("Bearer \(bearer)", cookie: nil).token
            stream = try self.request(request, user, session: nil, resume: resume, customer: customer)
        } else {
            stream = try await self.authenticate(request, cookieNeedsOrigin: true, resume: resume, customer: customer)
        }
        stream.fingerprint = nil
        return stream
    }
}
