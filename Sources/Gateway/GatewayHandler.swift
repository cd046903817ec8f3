import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypesHTTP1
import NotificationBus
import NotificationCore
import NotificationStore

/// What all connections of a listener share.
struct GatewayShared: Sendable {
    var configuration: GatewayConfiguration
    var routes: GatewayRoutes
    var audit: AuditLog?
    var logger: Logger
    let bodies: BodyBudget

    init(configuration: GatewayConfiguration, routes: GatewayRoutes, audit: AuditLog?, logger: Logger) {
        self.configuration = configuration
        self.routes = routes
        self.audit = audit
        self.logger = logger
        self.bodies = BodyBudget(bound: configuration.heldBodies, smallBound: configuration.heldSmallBodies)
    }
}

/// One HTTP connection: performs what its ``ConnectionMachine`` says. Bound to its event loop.
final class GatewayHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    /// The library's HTTP handlers, which go when a stream takes the connection.
    struct Codec {
        var decoder: ByteToMessageHandler<HTTPRequestDecoder>
        var encoder: HTTPResponseEncoder
        var pipeline: HTTPServerPipelineHandler
    }

    /// The answer that is being written.
    final class Exchange {
        let version: HTTPVersion
        let isHead: Bool
        let requestID: String
        let headers: HTTPHeaders
        let trace: RequestTrace
        let method: HTTPMethod
        /// As metrics and logs know it; the router's routes say their own.
        var route: String?
        /// Nil once the answer is counted.
        var began: NIODeadline?
        /// What the audit log is to learn of it; nil for what writes nothing, and once it has.
        var audit: AuditOrigin?

        init(version: HTTPVersion, isHead: Bool, requestID: String, headers: HTTPHeaders, trace: RequestTrace, method: HTTPMethod, began: NIODeadline) {
            self.version = version
            self.isHead = isHead
            self.requestID = requestID
            self.headers = headers
            self.trace = trace
            self.method = method
            self.began = began
        }
    }

    struct AuditOrigin: Sendable {
        var method: String
        /// Of a plain route; the router's routes say their own.
        var route: String?
        var address: String
        var isOneOfMany: Bool
    }

    /// Past this depth of requests that were pipelined and answered at once, the next answer waits for the loop: else a client could
    /// have the stack grow with each of them.
    private static let depthBound = 8

    /// Bytes of a target that a connection remembers.
    private static let rememberedBound = 256

    private let shared: GatewayShared
    private let connections: LoopConnections
    private let isExcess: Bool
    private var codec: Codec?
    /// Hands over plain requests without the library's handlers; their answers do not go through them either.
    private var reader: RequestReader?
    /// Whether the exchange is one of these.
    private var isPlain = false
    private var machine: ConnectionMachine
    private var context: ChannelHandlerContext?
    private var exchange: Exchange?
    private var task: Task<Void, Never>?
    /// Where the body goes that is taken as it comes.
    private var bodySource: BodyParts.Producer.Source?
    /// Of the request that is being received, what each account of all bodies counts.
    private var smallBytes = 0
    private var heldBytes = 0
    private var headers = HTTPHeaders()
    /// A request whose path tells all that there is to find; headers and body are left out.
    private var last: IncomingRequest?
    /// Nil: not known yet.
    private var isStranger: Bool?
    private var depth = 0
    /// The answer is written but for its end, which waits for the client to read: the next request waits for that.
    private var isEndHeld = false
    private var stall = OutputStall()
    /// Of the connection's peer; nil until it is first needed.
    private var peer: String?
    /// Whether the peer is a proxy whose word counts; nil until it is first needed.
    private var isTrusted: Bool?

    init(shared: GatewayShared, connections: LoopConnections, codec: Codec, isExcess: Bool) {
        self.shared = shared
        self.connections = connections
        self.codec = codec
        self.isExcess = isExcess
        let configuration = shared.configuration
        self.machine = ConnectionMachine(
            timeouts: ConnectionMachine.Timeouts(
                head: configuration.headTimeout, body: configuration.bodyTimeout, idle: configuration.idleTimeout,
                linger: configuration.lingerTimeout),
            now: connections.now)
    }

    // MARK: Inputs

    func use(_ reader: RequestReader) { self.reader = reader }

    /// Nil where the library's handlers have to carry the answer, or the request is none of the gateway's own.
    func takes(_ head: HTTPRequestHead) -> IncomingRequest? {
        let incoming = self.resolve(head)
        switch incoming.target {
        case .plain, .stream, .problem: return incoming
        case .fallback, .body, .preflight: return nil
        }
    }

    func head(_ incoming: IncomingRequest) {
        self.headers = incoming.head.headers
        self.run(self.machine.head(incoming, now: self.connections.now))
    }

    func body(_ part: ByteBuffer) { self.run(self.machine.body(part, now: self.connections.now, reserve: self.reserve)) }

    func ended() { self.run(self.machine.end()) }

    /// All that was there has been taken.
    func readCompleted() {
        // Within a read it is of what was pipelined, each of which says it once more at the end: the last one tells what is left.
        if self.depth == 0 { self.machine.readComplete(now: self.connections.now) }
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        self.connections.add(self)
        if self.connections.isDraining { _ = self.machine.drain() }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.connections.remove(self)
        self.releaseBody()
        self.codec = nil
        self.reader = nil
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.machine.inactive()
        self.connections.remove(self)
        self.endBody(ChannelError.eof)
        self.releaseBody()
        self.task?.cancel()
        self.task = nil
        self.exchange?.trace.abandoned()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.depth += 1
        defer { self.depth -= 1 }
        switch Self.unwrapInboundIn(data) {
        case .head(let head): self.head(self.resolve(head))
        case .body(let part): self.body(part)
        case .end: self.ended()
        }
    }

    private func reserve(_ bytes: Int) -> Bool {
        let bodies = self.shared.bodies
        let first = min(bytes, max(0, self.shared.configuration.freeBody - self.smallBytes - self.heldBytes))
        var rest = bytes
        if first > 0, bodies.reserveSmall(first, isStranger: self.knowsStranger) {
            self.smallBytes += first
            rest -= first
        }
        if rest == 0 { return true }
        guard bodies.reserve(rest, ofStranger: self.knowsStranger()) else { return false }
        self.heldBytes += rest
        return true
    }

    private func knowsStranger() -> Bool {
        let isStranger = self.isStranger ?? !self.shared.configuration.recognizes(self.headers)
        self.isStranger = isStranger
        return isStranger
    }

    private func releaseBody() {
        if self.smallBytes > 0 { self.shared.bodies.releaseSmall(self.smallBytes) }
        if self.heldBytes > 0 { self.shared.bodies.release(self.heldBytes, ofStranger: self.isStranger ?? false) }
        self.smallBytes = 0
        self.heldBytes = 0
        self.isStranger = nil
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.readCompleted()
        context.fireChannelReadComplete()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let parser = error as? HTTPParserError else {
            // Resets and the like: the peer is gone.
            self.shared.logger.debug("connection failed", metadata: ["error": "\(error)"])
            context.close(promise: nil)
            return
        }
        switch parser {
        case .headerOverflow:
            let limit = self.shared.configuration.headerLimit
            self.run(
                self.machine.malformed(
                    Problem(.requestHeaderFieldsTooLarge, "too_large", "The request line and headers may have at most \(limit) bytes.")))
        case .invalidEOFState, .closedConnection:
            context.close(promise: nil)
        default:
            self.run(self.machine.malformed(.malformed("This is not HTTP/1.1 (RFC 9112).")))
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if self.isEndHeld, context.channel.isWritable {
            self.isEndHeld = false
            self.end(context)
        }
        context.fireChannelWritabilityChanged()
    }

    /// Bytes that the client has not taken yet.
    private var pending: Int {
        // It cannot fail in a channel of sockets, and no other has a client that does not read.
        (try? self.context?.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    /// Some of an answer that is made has not gone to the client.
    var isSending: Bool { self.isEndHeld || self.pending > 0 }

    func tick() {
        guard let context = self.context else { return }
        let pending = self.pending
        if pending == 0 {
            self.stall.cleared()
        } else if self.stall.isOver(pending: pending, now: self.connections.now, bound: self.shared.configuration.idleTimeout) {
            context.close(promise: nil)
            return
        }
        self.run(self.machine.tick(now: self.connections.now, isSending: pending > 0))
    }

    /// A request is on its way in; its time-outs see to it that it does not stay so.
    var isReceiving: Bool { self.machine.isReceiving }

    func drain() { self.run(self.machine.drain()) }
    func close() { self.context?.close(promise: nil) }

    private func resolve(_ head: HTTPRequestHead) -> IncomingRequest {
        let configuration = self.shared.configuration
        // Who publishes asks for the same again and again.
        if let last = self.last, last.head.method == head.method, last.head.uri == head.uri {
            return IncomingRequest(head: head, target: last.target, path: last.path, query: last.query, bodyLimit: last.bodyLimit, label: last.label)
        }
        guard head.method != .CONNECT, let target = RequestTarget(head.uri) else {
            let problem = Problem.malformed("The request's target is not a path.")
            return IncomingRequest(head: head, target: .problem(problem), path: CanonicalPath("/"), query: "", bodyLimit: configuration.bodyLimit)
        }
        let path = CanonicalPath(target.path)
        let (found, size) = self.shared.routes.resolve(head.method, path.text, headers: head.headers)
        let limit =
            switch size {
            case .usual: configuration.bodyLimit
            case .published: configuration.publishBodyLimit
            case .passed: configuration.passedBodyLimit
            }
        let incoming = IncomingRequest(
            head: head, target: self.isExcess ? Self.excess(found) : found, path: path, query: target.query,
            bodyLimit: limit)
        incoming.label = self.shared.routes.label(of: incoming)
        if case .plain = incoming.target, head.uri.utf8.count <= Self.rememberedBound, self.shared.routes.isResolvedByPath(head.method, path.text) {
            let line = HTTPRequestHead(version: head.version, method: head.method, uri: head.uri)
            self.last = IncomingRequest(head: line, target: incoming.target, path: path, query: target.query, bodyLimit: limit, label: incoming.label)
        }
        return incoming
    }

    /// Streams are refused by an answer that has the browser come back: anything but 200 would have EventSource give up.
    private static func excess(_ target: GatewayRoutes.Target) -> GatewayRoutes.Target {
        if case .stream(let route) = target, route.isEventStream { return .plain(ComeBackLater()) }
        return .problem(.unavailable("This node has as many connections as it can hold; try again."))
    }

    // MARK: Actions

    private func run(_ action: ConnectionMachine.Action) {
        guard let context = self.context else { return }
        switch action {
        case .none:
            break
        case .sendContinue:
            context.writeAndFlush(Self.wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: .continue))), promise: nil)
        case .answer(let incoming):
            self.answer(incoming, context)
        case .takeOver(let incoming, let route):
            self.takeOver(incoming, route, context)
        case .begin(let incoming, let route, let sendContinue):
            if sendContinue {
                self.run(.sendContinue)
                // The write may have found that nobody is there any more.
                if self.machine.isClosed { return }
            }
            self.begin(incoming, route, context)
        case .pass(let part):
            if case .stopProducing? = self.bodySource?.yield(part) {
                self.machine.pause()
                self.setReading(false, context)
            }
        case .passEnd:
            self.bodySource?.finish()
            self.bodySource = nil
        case .breakOff(let problem):
            self.endBody(problem)
        case .refuse(let problem, let head):
            let exchange = self.begin(head, context)
            if let head {
                let incoming = self.resolve(head)
                self.exchange?.route = incoming.label
                if Self.writes(head) { self.exchange?.audit = self.auditOrigin(incoming, context) }
            }
            self.write(problem.response(instance: exchange.requestID))
        case .refuseEarly(let problem):
            // It takes an answer to no request for a mistake.
            if let codec = self.codec, !(self.reader?.isAlone ?? false) { context.pipeline.syncOperations.removeHandler(codec.pipeline, promise: nil) }
            self.write(problem.response(instance: self.begin(nil, context).requestID))
        case .linger:
            self.reader?.drop()
            context.close(mode: .output, promise: nil)
        case .close:
            context.close(promise: nil)
        }
    }

    private func begin(_ head: HTTPRequestHead?, _ context: ChannelHandlerContext) -> Exchange {
        let exchange = Exchange(
            version: head?.version ?? .http1_1, isHead: head?.method == .HEAD, requestID: Self.requestID(head),
            headers: head.map { self.shared.routes.origins.responseHeaders(for: $0.headers) } ?? HTTPHeaders(),
            trace: RequestTrace(context: TraceContext(parent: head?.headers.first(name: "traceparent"))), method: head?.method ?? .GET, began: .now())
        self.exchange = exchange
        self.isPlain = self.reader?.isAlone ?? false
        return exchange
    }

    private func request(_ incoming: IncomingRequest, id: String, trace: RequestTrace, _ context: ChannelHandlerContext) -> GatewayRequest {
        GatewayRequest(
            head: incoming.head, path: incoming.path.stripped, query: Query(incoming.query), body: incoming.body, requestID: id,
            remoteAddress: self.remoteAddress(incoming.head, context), trace: trace)
    }

    private func answer(_ incoming: IncomingRequest, _ context: ChannelHandlerContext) {
        let exchange = self.begin(incoming.head, context)
        self.exchange?.route = incoming.label
        if Self.writes(incoming.head) { self.exchange?.audit = self.auditOrigin(incoming, context) }
        switch incoming.target {
        case .plain(let route):
            let request = self.request(incoming, id: exchange.requestID, trace: exchange.trace, context)
            self.connections.requestStarted()
            route.respond(to: request, on: context.eventLoop).hop(to: context.eventLoop).assumeIsolated().whenComplete { result in
                self.connections.requestEnded()
                switch result {
                case .success(let response): self.write(response)
                case .failure(let error): self.write(self.response(error, exchange))
                }
            }
        case .fallback(let responder):
            self.respond(incoming, responder, self.request(incoming, id: exchange.requestID, trace: exchange.trace, context), context)
        case .preflight:
            self.write(Preflight.response(to: incoming.head.headers))
        case .problem(let problem):
            self.write(problem.response(instance: exchange.requestID))
        case .stream, .body:
            preconditionFailure("streams take the connection over, and bodies that are taken as they come are answered before their end")
        }
    }

    private func response(_ error: any Error, _ exchange: Exchange) -> GatewayResponse {
        let problem = Problem(caught: error, failure: "internal_error")
        if problem.status.code >= 500, !(error is Problem) {
            self.shared.logger.error(
                "request failed", metadata: exchange.trace.logged(exchange.requestID).merging(["error": "\(error)"]) { $1 })
        }
        return problem.response(instance: exchange.requestID)
    }

    // MARK: The audit log

    private static func writes(_ head: HTTPRequestHead) -> Bool {
        switch head.method {
        case .POST, .PUT, .PATCH, .DELETE: true
        default: false
        }
    }

    private func auditOrigin(_ incoming: IncomingRequest, _ context: ChannelHandlerContext) -> AuditOrigin? {
        if self.shared.audit == nil { return nil }
        var origin = AuditOrigin(
            method: incoming.head.method.rawValue, route: nil, address: self.remoteAddress(incoming.head, context), isOneOfMany: false)
        switch incoming.target {
        case .plain(let route):
            origin.route = incoming.path.text
            origin.isOneOfMany = route.isOneOfMany
        case .body: origin.route = incoming.path.text
        case .stream, .fallback, .preflight, .problem: break
        }
        return origin
    }

    /// Called with the status of the answer, whether or not the client is still there to read it. The first call counts.
    private func answered(_ status: HTTPResponseStatus) {
        self.measure(status)
        self.audit(status)
    }

    private func measure(_ status: HTTPResponseStatus) {
        guard let exchange = self.exchange, let began = exchange.began else { return }
        self.exchange?.began = nil
        let took = NIODeadline.now() - began
        // The router has a name for requests that it has no route for, which is no path.
        let route = exchange.route ?? exchange.trace.known.route.flatMap { $0.hasPrefix("/") ? $0 : nil }
        self.connections.meter.record(exchange.method, route: route, status: status, took: took)
        guard self.shared.logger.logLevel <= .debug else { return }
        // The first ones: a line has an end.
        let made = exchange.trace.known.made.prefix(20).map { "\($0.user.value) \($0.seq.map(String.init) ?? "-")" }.joined(separator: ", ")
        self.shared.logger.debug(
            "request answered",
            metadata: exchange.trace.logged(exchange.requestID).merging(made.isEmpty ? [:] : ["made": "\(made)"]) { $1 }.merging([
                "method": "\(exchange.method.rawValue)", "route": "\(route ?? RequestMeter.other)", "status": "\(status.code)",
                "milliseconds": "\(Double(took.nanoseconds / 1000) / 1000)",
            ]) { $1 })
    }

    private func audit(_ status: HTTPResponseStatus) {
        guard let exchange = self.exchange, let origin = exchange.audit, let log = self.shared.audit else { return }
        self.exchange?.audit = nil
        let known = exchange.trace.known
        // Whoever has no name could fill the log, as could who asks on past a limit.
        let isOneOfMany = origin.isOneOfMany || known.subject == nil || status == .tooManyRequests
        log.record(
            AuditEntry(
                at: .now(), subject: known.subject, method: origin.method, route: origin.route ?? known.route, ids: known.ids, status: Int(status.code),
                address: origin.address, requestID: exchange.requestID), isOneOfMany: isOneOfMany)
    }

    // MARK: Whole answers

    private func write(_ response: GatewayResponse) {
        self.answered(response.status)
        guard let context = self.context, !self.machine.isClosed else { return }
        if self.depth > Self.depthBound {
            context.eventLoop.assumeIsolated().execute {
                // On a fresh stack.
                let depth = self.depth
                self.depth = 0
                self.write(response)
                self.depth = depth
            }
            return
        }
        guard let exchange = self.exchange else { return }
        if self.isPlain, let reader = self.reader {
            let head = self.head(status: response.status, headers: response.headers, length: response.body.readableBytes, exchange)
            reader.write(head.encoded(with: response.body, allocator: context.channel.allocator))
            self.finish(context)
            return
        }
        self.writeHead(status: response.status, headers: response.headers, length: response.body.readableBytes, exchange, context)
        if !exchange.isHead, response.status.mayHaveResponseBody, response.body.readableBytes > 0 {
            context.write(Self.wrapOutboundOut(.body(.byteBuffer(response.body))), promise: nil)
        }
        self.finish(context)
    }

    private func writeHead(
        status: HTTPResponseStatus, headers: HTTPHeaders, length: Int?, _ exchange: Exchange, _ context: ChannelHandlerContext
    ) {
        context.write(Self.wrapOutboundOut(.head(self.head(status: status, headers: headers, length: length, exchange))), promise: nil)
    }

    /// - Parameter length: nil: not known; the body is chunked, or ends with the connection.
    private func head(status: HTTPResponseStatus, headers: HTTPHeaders, length: Int?, _ exchange: Exchange) -> HTTPResponseHead {
        var headers = headers
        if status.mayHaveResponseBody {
            if let length { headers.replaceOrAdd(name: "content-length", value: String(length)) }
        } else {
            headers.remove(name: "content-length")
        }
        headers.add(contentsOf: exchange.headers)
        if let standing = exchange.trace.known.standing {
            headers.add(name: "ratelimit-policy", value: standing.policy)
            headers.add(name: "ratelimit", value: standing.limit)
        }
        headers.add(name: "x-request-id", value: exchange.requestID)
        if let trace = exchange.trace.context { headers.add(name: "traceresponse", value: trace.header) }
        headers.add(name: "date", value: self.connections.date)
        if self.machine.closesAfterAnswer {
            headers.replaceOrAdd(name: "connection", value: "close")
        } else if exchange.version.minor == 0 {
            headers.replaceOrAdd(name: "connection", value: "keep-alive")
        }
        // To a HEAD whose answer has no known length HTTP/1.1 would have the encoder promise, and end, chunks that must not be there.
        let isOpenHead = exchange.isHead && length == nil
        let version = HTTPVersion(major: 1, minor: isOpenHead ? 0 : min(1, exchange.version.minor))
        return HTTPResponseHead(version: version, status: status, headers: headers)
    }

    private func finish(_ context: ChannelHandlerContext) {
        self.exchange = nil
        self.releaseBody()
        self.task = nil
        if !context.channel.isWritable {
            context.flush()
            // Else a client that asks on and reads nothing would have its answers pile up here.
            self.isEndHeld = !context.channel.isWritable
            if self.isEndHeld { return }
        }
        self.end(context)
    }

    private func end(_ context: ChannelHandlerContext) {
        if self.machine.isClosed { return }
        // First the machine: the pipeline handler delivers the next request from within the write of the end.
        let action = self.machine.answered(now: self.connections.now)
        if !self.isPlain { context.writeAndFlush(Self.wrapOutboundOut(.end(nil)), promise: nil) }
        self.run(action)
        self.reader?.answered()
    }

    // MARK: Hummingbird's routes

    private func respond(
        _ incoming: IncomingRequest, _ responder: any HTTPResponder<CarillonRequestContext>, _ request: GatewayRequest, _ context: ChannelHandlerContext
    ) {
        var head = incoming.head
        head.uri = incoming.query.isEmpty ? incoming.path.text : incoming.path.text + "?" + incoming.query
        // The router knows GET; the answer's body is left away here.
        if head.method == .HEAD { head.method = .GET }
        guard let converted = try? HTTPRequest(head, secure: false, splitCookie: false) else {
            self.write(Problem.malformed("The method or a header cannot be.").response(instance: request.requestID))
            return
        }
        let requestContext = CarillonRequestContext(source: CarillonRequestContext.Source(logger: self.shared.logger, request: request))
        let hummingbirdRequest = Request(head: converted, body: RequestBody(buffer: incoming.body))
        let sink = ResponseSink(handler: NIOLoopBound(self, eventLoop: context.eventLoop), eventLoop: context.eventLoop)
        let (routes, path) = (self.shared.routes, incoming.path.text)
        self.connections.requestStarted()
        self.task = Task { await sink.run(responder, hummingbirdRequest, requestContext) { routes.methods(of: path) } }
    }

    /// The whole answer of a route.
    func taskAnswered(_ response: GatewayResponse) {
        self.connections.requestEnded()
        self.write(response)
    }

    func taskFailed(_ error: any Error, headWritten: Bool) {
        self.connections.requestEnded()
        guard let exchange = self.exchange, !self.machine.isClosed else {
            self.answered(Problem(caught: error, failure: "internal_error").status)
            return
        }
        if headWritten {
            // Half an answer must not look like a whole one.
            self.shared.logger.error(
                "answer broke off", metadata: exchange.trace.logged(exchange.requestID).merging(["error": "\(error)"]) { $1 })
            self.context?.close(promise: nil)
        } else {
            self.write(self.response(error, exchange))
        }
    }

    func taskWriteHead(status: HTTPResponseStatus, headers: HTTPHeaders, length: Int?) throws {
        self.answered(status)
        guard let context = self.context, let exchange = self.exchange, !self.machine.isClosed else { throw ChannelError.ioOnClosedChannel }
        if length == nil, exchange.isHead || exchange.version.minor == 0 { self.machine.closeAfterAnswer() }
        self.writeHead(status: status, headers: headers, length: length, exchange, context)
    }

    func taskWrite(_ part: ByteBuffer) -> EventLoopFuture<Void> {
        guard let context = self.context, let exchange = self.exchange, !self.machine.isClosed else {
            return self.connections.eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel)
        }
        if exchange.isHead { return context.eventLoop.makeSucceededVoidFuture() }
        return context.writeAndFlush(Self.wrapOutboundOut(.body(.byteBuffer(part))))
    }

    func taskFinish() {
        self.connections.requestEnded()
        guard let context = self.context, self.exchange != nil, !self.machine.isClosed else { return }
        self.finish(context)
    }

    // MARK: Bodies that are taken as they come

    private func begin(_ incoming: IncomingRequest, _ route: any BodyRoute, _ context: ChannelHandlerContext) {
        let exchange = self.begin(incoming.head, context)
        self.exchange?.route = incoming.label
        if Self.writes(incoming.head) { self.exchange?.audit = self.auditOrigin(incoming, context) }
        let request = self.request(incoming, id: exchange.requestID, trace: exchange.trace, context)
        let (eventLoop, bound) = (context.eventLoop, NIOLoopBound(self, eventLoop: context.eventLoop))
        let (source, parts) = BodyParts.make(BodyFlow(handler: bound, eventLoop: eventLoop))
        self.bodySource = source
        self.connections.requestStarted()
        self.task = Task {
            do {
                let response = try await route.respond(to: request, body: parts)
                eventLoop.execute { bound.value.bodyAnswered(.success(response)) }
            } catch {
                eventLoop.execute { bound.value.bodyAnswered(.failure(error)) }
            }
        }
    }

    /// The reader of the body wants more of it.
    func bodyWanted() {
        guard let context = self.context, self.bodySource != nil else { return }
        self.machine.resume(now: self.connections.now)
        self.setReading(true, context)
    }

    private func bodyAnswered(_ result: Result<GatewayResponse, any Error>) {
        self.connections.requestEnded()
        self.endBody(ChannelError.eof)
        guard let context = self.context, let exchange = self.exchange, !self.machine.isClosed else {
            switch result {
            case .success(let response): self.answered(response.status)
            case .failure(let error): self.answered(Problem(caught: error, failure: "internal_error").status)
            }
            return
        }
        self.machine.answering()
        switch result {
        case .success(let response): self.write(response)
        case .failure(let error): self.write(self.response(error, exchange))
        }
        // What comes after an early answer is dropped, but read: the client's end is heard.
        self.setReading(true, context)
    }

    private func endBody(_ error: any Error) {
        guard let source = self.bodySource else { return }
        self.bodySource = nil
        source.finish(error)
    }

    private func setReading(_ reads: Bool, _ context: ChannelHandlerContext) {
        // Without it the connection would stand still for good.
        do { try context.channel.syncOptions?.setOption(.autoRead, value: reads) } catch { context.close(promise: nil) }
    }

    // MARK: Streams

    private func takeOver(_ incoming: IncomingRequest, _ route: any StreamRoute, _ context: ChannelHandlerContext) {
        guard let codec = self.codec, let reader = self.reader else { return }
        let request = self.request(incoming, id: Self.requestID(incoming.head),
            trace: RequestTrace(context: TraceContext(parent: incoming.head.headers.first(name: "traceparent"))), context)
        let channel = context.channel
        let pipeline = context.pipeline.syncOperations
        self.connections.remove(self)
        self.codec = nil
        self.reader = nil
        // From the front: what the pipeline handler and the decoder still hold comes here, where it is dropped. The decoder goes a tick
        // later than asked, this handler after it.
        pipeline.removeHandler(reader, promise: nil)
        pipeline.removeHandler(codec.pipeline, promise: nil)
        pipeline.removeHandler(codec.encoder, promise: nil)
        let removed = context.eventLoop.makePromise(of: Void.self)
        removed.futureResult.assumeIsolated().whenComplete { _ in
            guard channel.isActive else { return }
            pipeline.removeHandler(self, promise: nil)
            route.open(request, on: channel)
        }
        pipeline.removeHandler(codec.decoder, promise: removed)
    }

    // MARK: Who asks

    private static func requestID(_ head: HTTPRequestHead?) -> String {
        guard let id = head?.headers.first(name: "x-request-id"), (1...64).contains(id.utf8.count), id.utf8.allSatisfy(Self.isPlain) else {
            return NotificationID.make().description
        }
        return id
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    private func remoteAddress(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) -> String {
        let peer = self.peer ?? context.remoteAddress?.ipAddress ?? "unknown"
        self.peer = peer
        let isTrusted = self.isTrusted ?? self.shared.configuration.trusts(peer)
        self.isTrusted = isTrusted
        guard isTrusted, let last = head.headers["x-forwarded-for"].last else { return peer }
        let address = last.split(separator: ",").last.map { $0.filter { $0 != " " } } ?? ""
        // Only an address may get into logs and limits by this way.
        return (try? SocketAddress(ipAddress: address, port: 0)) == nil ? peer : address
    }
}

/// For a stream that finds no room.
private struct ComeBackLater: PlainRoute {
    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        let retry = ByteBuffer(string: "retry: \(Int.random(in: 500...2500))\n\n")
        return eventLoop.makeSucceededFuture(
            GatewayResponse(
                status: .ok,
                headers: ["content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache, no-transform", "connection": "close"],
                body: retry))
    }
}

/// CORS preflight (Fetch standard, 3.2.2).
private enum Preflight {
    /// The headers that say whose page may call are added to all answers.
    static func response(to headers: HTTPHeaders) -> GatewayResponse {
        let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        guard headers.contains(name: "access-control-request-method") else { return GatewayResponse(status: .noContent, headers: ["allow": methods]) }
        return GatewayResponse(
            status: .noContent,
            headers: [
                "access-control-allow-methods": methods,
                "access-control-allow-headers": "authorization, content-type, last-event-id, idempotency-key, x-api-key, x-request-id, cache-control, traceparent, tracestate",
                "access-control-max-age": "600",
            ])
    }
}
