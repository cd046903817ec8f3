import Authentication
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// The two routes that the demo page needs: a token for whoever asks, and sending to anybody. They answer loopback only.
struct Demo: Sendable {
    let configuration: NodeConfiguration
    let credentials: Credentials
    let notifier: Notifier
    let catalogue: @Sendable () -> Catalogue

    func add(to routes: inout GatewayRoutes) {
        routes.add(.POST, "/demo/token", Route { request, loop in loop.makeSucceededFuture(self.token(request)) })
        routes.add(.POST, "/demo/notify", Route { request, loop in self.notify(request, loop) })
    }

    private struct Route: PlainRoute {
        let body: @Sendable (GatewayRequest, any EventLoop) -> EventLoopFuture<GatewayResponse>

        init(_ body: @escaping @Sendable (GatewayRequest, any EventLoop) -> EventLoopFuture<GatewayResponse>) {
            self.body = body
        }

        func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
            guard request.remoteAddress.hasPrefix("127.") || request.remoteAddress == "::1" else {
                return eventLoop.makeSucceededFuture(
                    Problem.forbidden("The demo answers this machine only.").response(instance: request.requestID))
            }
            return self.body(request, eventLoop)
        }
    }

    private func token(_ request: GatewayRequest) -> GatewayResponse {
        guard let secret = self.configuration.tokens.secret, let user = UserID(request.query["user"] ?? "") else {
            return Problem.invalidField("user", "must name a user").response(instance: request.requestID)
        }
        let minter = TokenMinter(secret: secret, issuer: self.configuration.tokens.issuer, audience: self.configuration.tokens.audience)
        do {
            let token = try minter.mint(user: user.value, role: nil, customers: nil, ttlSeconds: 3600, now: Timestamp.now().seconds)
            return .json(.ok, JSONValue.object([("token", .string(token))]).encoded)
        } catch {
            return Problem.invalidField("user", "cannot have a token").response(instance: request.requestID)
        }
    }

    private func notify(_ request: GatewayRequest, _ loop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        // A page of another site must not send through the visitor's own machine.
        guard self.credentials.origins.allowsCookieWrite(request.head.headers) else {
            return loop.makeSucceededFuture(Problem.forbidden("The demo answers its own page only.").response(instance: request.requestID))
        }
        let notify: NotifyRequest
        do {
            let json = try JSONParser.parse(Array(request.body.readableBytesView))
            notify = try NotifyRequest(json: json, catalogue: self.catalogue(), now: .now())
        } catch let error as ValidationError {
            return loop.makeSucceededFuture(Problem(error).response(instance: request.requestID))
        } catch {
            return loop.makeSucceededFuture(Problem.invalidBody("The body is not JSON.").response(instance: request.requestID))
        }
        let promise = loop.makePromise(of: GatewayResponse.self)
        self.notifier.notify(notify, now: .now()) { result in
            switch result {
            case .success: promise.succeed(GatewayResponse(status: .noContent))
            case .failure(let error): promise.succeed(Problem(error, failure: "failed").response(instance: request.requestID))
            }
        }
        return promise.futureResult
    }
}
