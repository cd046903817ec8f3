import Hummingbird
import HTTPTypes
import NIOCore
import NIOHTTP1
import NIOHTTPTypesHTTP1
import Synchronization

/// Writes the answer of one of Hummingbird's routes to its connection, from the route's task.
final class ResponseSink: Sendable {
    /// Answers up to this size are written in one piece.
    private static let wholeBodyBound = 1024 * 1024
    /// What Hummingbird calls the endpoint of requests that it has no route for.
    private static let noRoute = "NotFound"

    private let handler: NIOLoopBound<GatewayHandler>
    private let eventLoop: any EventLoop
    private let headWritten = Atomic(false)

    init(handler: NIOLoopBound<GatewayHandler>, eventLoop: any EventLoop) {
        self.handler = handler
        self.eventLoop = eventLoop
    }

    /// - Parameter methods: of all routes of the path, for when the router has none for the method.
    func run(
        _ responder: any HTTPResponder<CarillonRequestContext>, _ request: Request, _ context: CarillonRequestContext,
        methods: @Sendable () -> [HTTPMethod]
    ) async {
        do {
            let response = try await responder.respond(to: request, context: context)
            if context.endpointPath == Self.noRoute {
                let methods = methods()
                if !methods.isEmpty { throw Problem.methodNotAllowed(methods) }
            }
            try await self.send(response)
        } catch {
            self.fail(error)
        }
    }

    private func send(_ response: Response) async throws {
        let status = HTTPResponseStatus(statusCode: response.status.code, reasonPhrase: response.status.reasonPhrase)
        let headers = HTTPHeaders(response.headers)
        if let length = response.body.contentLength, length <= Self.wholeBodyBound {
            let collected = CollectedBody()
            try await response.body.write(CollectingWriter(body: collected))
            let whole = GatewayResponse(status: status, headers: headers, body: collected.buffer.withLock { $0 })
            self.eventLoop.execute { self.handler.value.taskAnswered(whole) }
        } else {
            let length = response.body.contentLength
            try await self.eventLoop.submit { try self.handler.value.taskWriteHead(status: status, headers: headers, length: length) }.get()
            self.headWritten.store(true, ordering: .relaxed)
            try await response.body.write(StreamingWriter(sink: self))
            self.eventLoop.execute { self.handler.value.taskFinish() }
        }
    }

    private func fail(_ error: any Error) {
        let headWritten = self.headWritten.load(ordering: .relaxed)
        self.eventLoop.execute { self.handler.value.taskFailed(error, headWritten: headWritten) }
    }

    /// Returns when the kernel has taken it, so that a slow client slows its route.
    fileprivate func write(_ part: ByteBuffer) async throws {
        try await self.eventLoop.flatSubmit { self.handler.value.taskWrite(part) }.get()
    }
}

private final class CollectedBody: Sendable {
    let buffer = Mutex(ByteBuffer())
}

private struct CollectingWriter: ResponseBodyWriter {
    let body: CollectedBody

    mutating func write(_ buffer: ByteBuffer) async throws {
        self.body.buffer.withLock {
            if $0.readableBytes == 0 { $0 = buffer } else { $0.writeImmutableBuffer(buffer) }
        }
    }

    consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
}

private struct StreamingWriter: ResponseBodyWriter {
    let sink: ResponseSink

    mutating func write(_ buffer: ByteBuffer) async throws { try await self.sink.write(buffer) }
    consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
}
