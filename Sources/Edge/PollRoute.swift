import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore
import NotificationStore

/// `GET /notifications/poll?after=ID&timeout=25`: the stream for clients that can hold none, one answer at a time.
struct PollRoute: PlainRoute {
    /// Seconds that a client may have it wait.
    static let timeouts: ClosedRange<Int64> = 0...60
    private static let defaultTimeout: Int64 = 25

    let edge: Edge
    let authenticator: StreamAuthenticator

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        let after = request.query["after"] ?? ""
        guard let timeout = Self.timeout(request.query["timeout"]) else {
            return eventLoop.makeSucceededFuture(
                Problem.invalidField("timeout", "must be a whole number of seconds from \(Self.timeouts.lowerBound) to \(Self.timeouts.upperBound)")
                    .response(instance: request.requestID))
        }
        return after.isEmpty ? self.position(request, eventLoop) : self.wait(request, after: after, timeout, eventLoop)
    }

    private static func timeout(_ text: String?) -> Int64? {
        guard let text, !text.isEmpty else { return Self.defaultTimeout }
        guard text.utf8.count <= 2, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let seconds = Int64(text),
            Self.timeouts.contains(seconds)
        else { return nil }
        return seconds
    }

    private func authenticate(_ request: GatewayRequest, after: String) async throws(Problem) -> StreamRequest {
        var stream = try await self.authenticator.authenticate(request, resume: ResumePoint(header: nil, query: after))
        // It is no reconnect of an EventSource, whatever its headers say.
        stream.fingerprint = nil
        try self.authenticator.credentials.admit(.user(stream.user), request)
        return stream
    }

    private func wait(_ request: GatewayRequest, after: String, _ timeout: Int64, _ eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        let loop = self.edge.loop(of: eventLoop)
        let answer = eventLoop.makePromise(of: GatewayResponse.self)
        self.edge.admit(.poll, on: eventLoop) { () async throws(Problem) in
            try await self.authenticate(request, after: after)
        }.whenSuccess { opening in
            switch opening {
            case .granted(let stream, let lease):
                let connection = PollConnection(
                    stream, lease: lease, loop: loop, patience: timeout, asked: after, requestID: request.requestID,
                    cookie: self.edge.sessionCookie(request, stream), answer: answer)
                loop.open(connection)
                request.trace.whenAbandoned { eventLoop.execute { connection.abandon() } }
            case .refused(let problem):
                answer.succeed(problem.response(instance: request.requestID))
            case .evictedBefore, .away:
                answer.succeed(Problem.unavailable("This node cannot serve it now; try again.").response(instance: request.requestID))
            }
        }
        return answer.futureResult
    }

    /// Where the user's sequence is. It waits for nothing and takes no place.
    private func position(_ request: GatewayRequest, _ eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        let answer = eventLoop.makePromise(of: GatewayResponse.self)
        answer.completeWithTask {
            do throws(Problem) {
                let stream = try await self.authenticate(request, after: "")
                let head = try await self.head(of: stream.user, eventLoop)
                return Self.response(ByteBuffer(string: "{\"events\":[],\"last_event_id\":\"\(head)\"}"), cookie: self.edge.sessionCookie(request, stream))
            } catch {
                return error.response(instance: request.requestID)
            }
        }
        return answer.futureResult
    }

    private func head(of user: UserID, _ eventLoop: any EventLoop) async throws(Problem) -> StreamPosition {
        let promise = eventLoop.makePromise(of: Result<FeedAnswer, StoreError>?.self)
        // The database may be silent.
        let timeout = eventLoop.scheduleTask(in: .seconds(self.edge.configuration.joinSeconds)) { promise.succeed(nil) }
        self.edge.feedReader.read(
            FeedRequest(user: user, after: nil, whole: false) { result in
                timeout.cancel()
                promise.succeed(result)
            })
        switch try? await promise.futureResult.get() {
        case .success(let answer): return answer.head
        case .failure(let error): throw Problem(error, failure: "unavailable")
        case nil: throw .unavailable()
        }
    }

    static func response(_ body: ByteBuffer, cookie: String?) -> GatewayResponse {
        var response = GatewayResponse(status: .ok, headers: ["content-type": "application/json", "cache-control": "no-store"], body: body)
        if let cookie { response.headers.add(name: "set-cookie", value: cookie) }
        return response
    }
}
