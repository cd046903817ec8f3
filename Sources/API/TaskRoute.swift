import Gateway
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1

/// A request and where what goes wrong with it is logged, whichever way it came.
struct Call: Sendable {
    let request: GatewayRequest
    let logger: Logger

    init(request: GatewayRequest, logger: Logger) {
        self.request = request
        self.logger = logger
    }

    init(_ context: CarillonRequestContext) {
        self.init(request: context.request, logger: context.logger)
    }
}

/// A route that is asked so often that a router's work would be most of its cost: its task is begun right on the connection's event loop.
struct TaskRoute: PlainRoute {
    let logger: Logger
    let body: @Sendable (Call) async throws(Problem) -> GatewayResponse

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        let promise = eventLoop.makePromise(of: GatewayResponse.self)
        Task {
            var logger = self.logger
            logger[metadataKey: "request_id"] = .string(request.requestID)
            do throws(Problem) {
                promise.succeed(try await self.body(Call(request: request, logger: logger)))
            } catch {
                promise.fail(error)
            }
        }
        return promise.futureResult
    }
}
