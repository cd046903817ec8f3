import NIOCore
import NIOHTTP1

/// A request on its way in. Of one connection, and bound to its event loop; a class, since it is handed on many times.
final class IncomingRequest {
    let head: HTTPRequestHead
    var target: GatewayRoutes.Target
    let path: CanonicalPath
    let query: String
    let bodyLimit: Int
    /// As metrics know it; nil where the router's routes say their own.
    var label: String?
    fileprivate(set) var body = ByteBuffer()

    init(head: HTTPRequestHead, target: GatewayRoutes.Target, path: CanonicalPath, query: String, bodyLimit: Int, label: String? = nil) {
        self.head = head
        self.target = target
        self.path = path
        self.query = query
        self.bodyLimit = bodyLimit
        self.label = label
    }
}

/// What one HTTP/1 connection is doing (RFC 9112): one request at a time, from its head to the end of its answer. No I/O: inputs are
/// methods, what has to be done comes back.
struct ConnectionMachine {
    struct Timeouts {
        var head: TimeAmount
        var body: TimeAmount
        var idle: TimeAmount
        var linger: TimeAmount
    }

    private enum State {
        /// Between requests. `partial`: some of a head is here.
        case idle(since: NIODeadline, partial: Bool)
        case receiving(IncomingRequest, since: NIODeadline)
        /// Its body goes to the route as it comes. `since`: when something came last; nil while the route has more than it can take, and
        /// nothing is read.
        case passing(keepAlive: Bool, bodyLimit: Int, received: Int, since: NIODeadline?)
        case answering(keepAlive: Bool)
        /// The last answer is written; what still comes is dropped until the client closes.
        case lingering(since: NIODeadline)
        /// The connection belongs to a stream.
        case taken
        case closed
    }

    enum Action {
        case none
        case sendContinue
        /// The request is whole: answer it, then call `answered`.
        case answer(IncomingRequest)
        case takeOver(IncomingRequest, any StreamRoute)
        /// Have the route answer while the body comes, perhaps after a `100 Continue`; then call `answered`.
        case begin(IncomingRequest, any BodyRoute, sendContinue: Bool)
        case pass(ByteBuffer)
        case passEnd
        /// The rest of the body will not come: tell the route, which answers.
        case breakOff(Problem)
        /// Answer with this, as the last on this connection, then call `answered`.
        case refuse(Problem, HTTPRequestHead?)
        /// The same while a head is coming in, which the pipeline handler has not seen.
        case refuseEarly(Problem)
        /// Close the output and wait for the client.
        case linger
        case close
    }

    private var state: State
    private let timeouts: Timeouts
    private(set) var isDraining = false
    /// Whether what was read since the last `readComplete` made at least one part.
    private var progressed = false

    init(timeouts: Timeouts, now: NIODeadline) {
        self.timeouts = timeouts
        self.state = .idle(since: now, partial: false)
    }

    /// Whether the answer being written is the last one.
    var closesAfterAnswer: Bool {
        if case .answering(let keepAlive) = self.state { return !keepAlive || self.isDraining }
        return true
    }

    mutating func head(_ request: IncomingRequest, now: NIODeadline) -> Action {
        self.progressed = true
        switch self.state {
        case .idle:
            let head = request.head
            if let problem = Self.check(head, bodyLimit: request.bodyLimit) {
                self.state = .answering(keepAlive: false)
                return .refuse(problem, head)
            }
            guard let expectation = head.headers.first(name: "expect") else { return self.receive(request, sendContinue: false, now: now) }
            guard expectation.lowercased() == "100-continue" else {
                self.state = .answering(keepAlive: false)
                return .refuse(Problem(.expectationFailed, "invalid_body", "Only 100-continue can be expected."), head)
            }
            if case .problem(let problem) = request.target {
                // The body is not wanted, and whether it comes all the same is not known.
                self.state = .answering(keepAlive: false)
                return .refuse(problem, head)
            }
            return self.receive(request, sendContinue: head.version.minor >= 1, now: now)
        case .receiving, .passing, .answering:
            preconditionFailure("a head while a request is being received or answered: the pipeline handler holds it back")
        case .lingering, .taken, .closed:
            return .none
        }
    }

    private mutating func receive(_ request: IncomingRequest, sendContinue: Bool, now: NIODeadline) -> Action {
        if case .body(let route) = request.target {
            self.state = .passing(keepAlive: request.head.isKeepAlive, bodyLimit: request.bodyLimit, received: 0, since: now)
            return .begin(request, route, sendContinue: sendContinue)
        }
        self.state = .receiving(request, since: now)
        return sendContinue ? .sendContinue : .none
    }

    /// - Parameter reserve: whether there is room for so many bytes more of what is held.
    mutating func body(_ part: ByteBuffer, now: NIODeadline, reserve: (Int) -> Bool = { _ in true }) -> Action {
        self.progressed = true
        switch self.state {
        case .passing(let keepAlive, let limit, let received, let since):
            if received + part.readableBytes > limit {
                self.state = .answering(keepAlive: false)
                return .breakOff(.tooLarge(limit: limit))
            }
            // What had been read when reading stopped comes all the same.
            self.state = .passing(
                keepAlive: keepAlive, bodyLimit: limit, received: received + part.readableBytes, since: since == nil ? nil : now)
            return .pass(part)
        case .receiving(let request, _):
            if request.body.readableBytes + part.readableBytes > request.bodyLimit {
                self.state = .answering(keepAlive: false)
                return .refuse(.tooLarge(limit: request.bodyLimit), request.head)
            }
            guard reserve(part.readableBytes) else {
                self.state = .answering(keepAlive: false)
                return .refuse(.unavailable("Too many requests are being received. Nothing was written; try again."), request.head)
            }
            if request.body.readableBytes == 0 { request.body = part } else { request.body.writeImmutableBuffer(part) }
            return .none
        case .idle:
            preconditionFailure("a body without a head")
        case .answering, .lingering, .taken, .closed:
            // The rest of a request that was refused before its end.
            return .none
        }
    }

    mutating func end() -> Action {
        self.progressed = true
        switch self.state {
        case .receiving(let request, _):
            if case .stream(let route) = request.target {
                self.state = .taken
                return .takeOver(request, route)
            }
            self.state = .answering(keepAlive: request.head.isKeepAlive)
            return .answer(request)
        case .passing(let keepAlive, _, _, _):
            self.state = .answering(keepAlive: keepAlive)
            return .passEnd
        case .idle:
            preconditionFailure("the end of a request without a head")
        case .answering, .lingering, .taken, .closed:
            return .none
        }
    }

    /// What came is not HTTP.
    mutating func malformed(_ problem: Problem) -> Action {
        switch self.state {
        case .idle:
            self.state = .answering(keepAlive: false)
            return .refuse(problem, nil)
        case .receiving(let request, _):
            self.state = .answering(keepAlive: false)
            return .refuse(problem, request.head)
        case .passing:
            self.state = .answering(keepAlive: false)
            return .breakOff(problem)
        case .answering, .lingering:
            self.state = .closed
            return .close
        case .taken, .closed:
            return .none
        }
    }

    /// All bytes that were there are read.
    mutating func readComplete(now: NIODeadline) {
        defer { self.progressed = false }
        switch self.state {
        case .idle(_, partial: false):
            if !self.progressed { self.state = .idle(since: now, partial: true) }
        case .receiving(let request, _):
            // The rest of the body may take its time, and a slice keeps all of the buffer that it was read into.
            guard request.body.storageCapacity > 2 * request.body.readableBytes + 1024 else { return }
            request.body = ByteBuffer(bytes: request.body.readableBytesView)
        case .idle, .passing, .answering, .lingering, .taken, .closed: break
        }
    }

    /// The route has as much of the body as it can take: nothing more is read.
    mutating func pause() {
        if case .passing(let keepAlive, let limit, let received, _) = self.state {
            self.state = .passing(keepAlive: keepAlive, bodyLimit: limit, received: received, since: nil)
        }
    }

    /// It can take more.
    mutating func resume(now: NIODeadline) {
        if case .passing(let keepAlive, let limit, let received, _) = self.state {
            self.state = .passing(keepAlive: keepAlive, bodyLimit: limit, received: received, since: now)
        }
    }

    /// The route answers. Before the body's end it is the connection's last answer: the rest is not wanted, and would be taken for a request.
    mutating func answering() {
        if case .passing = self.state { self.state = .answering(keepAlive: false) }
    }

    /// The answer is written.
    mutating func answered(now: NIODeadline) -> Action {
        switch self.state {
        case .answering(let keepAlive):
            if keepAlive, !self.isDraining {
                self.state = .idle(since: now, partial: false)
                return .none
            }
            self.state = .lingering(since: now)
            return .linger
        case .closed:
            return .none
        case .idle, .receiving, .passing, .lingering, .taken:
            preconditionFailure("an answer to no request")
        }
    }

    /// - Parameter isSending: bytes are on their way to the client, which may be slow: it is not idle, and the end of an answer is not there yet.
    mutating func tick(now: NIODeadline, isSending: Bool = false) -> Action {
        switch self.state {
        case .idle(_, partial: false) where isSending:
            self.state = .idle(since: now, partial: false)
            return .none
        case .lingering where isSending:
            self.state = .lingering(since: now)
            return .none
        case .idle(let since, let partial):
            if partial {
                if now - since < self.timeouts.head { return .none }
                self.state = .answering(keepAlive: false)
                return .refuseEarly(.slow)
            }
            if now - since < self.timeouts.idle { return .none }
            self.state = .closed
            return .close
        case .receiving(let request, let since):
            if now - since < self.timeouts.body { return .none }
            self.state = .answering(keepAlive: false)
            return .refuse(.slow, request.head)
        case .passing(_, _, _, let since):
            guard let since, now - since >= self.timeouts.body else { return .none }
            self.state = .answering(keepAlive: false)
            return .breakOff(.slow)
        case .lingering(let since):
            if now - since < self.timeouts.linger { return .none }
            self.state = .closed
            return .close
        case .answering, .taken, .closed:
            return .none
        }
    }

    /// No further requests.
    mutating func drain() -> Action {
        self.isDraining = true
        switch self.state {
        case .idle(_, partial: false):
            self.state = .closed
            return .close
        case .idle, .receiving, .passing, .answering, .lingering, .taken, .closed:
            return .none
        }
    }

    /// The answer's end is the connection's end.
    mutating func closeAfterAnswer() {
        if case .answering = self.state { self.state = .answering(keepAlive: false) }
    }

    mutating func inactive() {
        self.state = .closed
    }

    /// A request has begun to come in, and nobody has been told of it yet.
    var isReceiving: Bool {
        switch self.state {
        case .idle(_, let partial): partial
        case .receiving: true
        case .passing, .answering, .lingering, .taken, .closed: false
        }
    }

    var isClosed: Bool {
        if case .closed = self.state { return true }
        return false
    }

    private static func check(_ head: HTTPRequestHead, bodyLimit: Int) -> Problem? {
        let hosts = head.headers["host"].count
        if hosts > 1 || (hosts == 0 && head.version.minor >= 1) { return .malformed("A request has one header Host.") }
        // Nothing is inflated: a few bytes could stand for gigabytes.
        if head.headers["content-encoding"].contains(where: { $0.lowercased() != "identity" }) { return .encoded }
        if head.headers[canonicalForm: "transfer-encoding"].contains(where: { $0.lowercased() != "chunked" }) { return .unknownCoding }
        if let length = head.headers.first(name: "content-length"), Int(length).map({ $0 > bodyLimit }) ?? true { return .tooLarge(limit: bodyLimit) }
        return nil
    }
}

extension Problem {
    static let slow = Problem(.requestTimeout, "request_timeout", "The request took too long to arrive.")
    /// RFC 9110, 15.5.16.
    static let encoded = Problem(
        .unsupportedMediaType, "unsupported_encoding", "Bodies are taken as they are, without a Content-Encoding.", headers: ["accept-encoding": "identity"])
    /// RFC 9112, 6.1.
    static let unknownCoding = Problem(.notImplemented, "invalid_request", "The only Transfer-Encoding is chunked.")
    static func malformed(_ detail: String) -> Problem { Problem(.badRequest, "invalid_request", detail) }
}
