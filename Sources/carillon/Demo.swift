import Authentication
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// The routes that the demo page needs: a token for whoever asks, sending to anybody, and the e-mails that were written to files. They answer
/// loopback only.
struct Demo: Sendable {
    let configuration: NodeConfiguration
    let credentials: Credentials
    let notifier: Notifier
    let contacts: ContactStore
    let catalogue: @Sendable () -> Catalogue

    func add(to routes: inout GatewayRoutes) {
        routes.add(.POST, "/demo/token", Route { request, loop in loop.makeSucceededFuture(self.token(request)) })
        routes.add(.POST, "/demo/notify", Route { request, loop in self.notify(request, loop) })
        let mails = DemoMails(email: self.configuration.channels.settings.email)
        routes.add(.GET, "/demo/mails", Route { request, loop in mails.list(request, loop) })
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
        promise.completeWithTask {
            do throws(StoreError) {
                if notify.channels.contains(.email) { try await self.addAddresses(notify.users) }
            } catch {
                return Problem(error, failure: "failed").response(instance: request.requestID)
            }
            return await withCheckedContinuation { done in
                self.notifier.notify(notify, now: .now()) { result in
                    switch result {
                    case .success: done.resume(returning: GatewayResponse(status: .noContent))
                    case .failure(let error): done.resume(returning: Problem(error, failure: "failed").response(instance: request.requestID))
                    }
                }
            }
        }
        return promise.futureResult
    }

    /// Whoever is to get an e-mail and has no address gets one, of a domain that nobody has (RFC 2606).
    private func addAddresses(_ users: [UserID]) async throws(StoreError) {
        for user in users.prefix(10) {
            var contact = try await self.contacts.contact(of: user)?.contact ?? Contact()
            if contact.email != nil { continue }
            let name = user.value.utf8.map { byte -> Character in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): Character(UnicodeScalar(byte))
                default: "-"
                }
            }
            contact.email = String(name.prefix(60)) + "@demo.example"
            _ = try await self.contacts.put(contact, of: user)
        }
    }
}
