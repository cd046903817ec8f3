import Authentication
import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore

/// That a ticket is used once.
struct TicketRedemption: Sendable {
    let ledger: TicketLedger

    func redeem(_ nonce: String) async -> Bool {
        // The ledger itself lets a ticket pass while Redis is away.
        (try? await self.ledger.redeem(nonce).get()) ?? true
    }
}

/// `POST /notifications/stream-ticket`: a one-time ticket for `?ticket=`, since EventSource sends no headers.
struct StreamTicketRoute: PlainRoute {
    let credentials: Credentials
    let tickets: TicketSigner

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        eventLoop.answer(to: request) { () async throws(Problem) in
            let token = try await self.credentials.writer(request)
            let ticket = self.tickets.makeTicket(for: token)
            let until = min(token.expiresAt, Timestamp.now().seconds + TicketSigner.ticketSeconds)
            return GatewayResponse.json(.ok,
                JSONValue.object([("ticket", .string(ticket)), ("expires_at", .string(Timestamp(seconds: until).description))]).encoded)
        }
    }
}

/// `POST /notifications/stream-renew`: a fresh token of the same user extends an open stream, on whichever node it is.
struct StreamRenewRoute: PlainRoute {
    let credentials: Credentials
    let leases: Leases

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        eventLoop.answer(to: request) { () async throws(Problem) in
            let token = try await self.credentials.writer(request)
            guard let user = UserID(token.user) else { throw .invalidUser }
            let json: JSONValue
            do throws(JSONError) {
                json = try JSONParser.parse(Array(request.body.readableBytesView))
            } catch {
                throw .invalidBody("The body is not JSON: \(error.message) at byte \(error.offset).")
            }
            guard let connection = json["connection_id"]?.string, NotificationID(connection) != nil else {
                throw .invalidField("/connection_id", "must be the connection_id of an open stream")
            }
            let told: Bool
            do {
                told = try await self.leases.tell(
                    .renew(user, connection: connection.lowercased(), expiresAt: token.expiresAt, customers: token.customers),
                    connection: connection.lowercased()
                ).get()
            } catch {
                throw .unavailable("Redis is out of reach; try again.")
            }
            guard told else { throw .notFound }
            return GatewayResponse.json(.ok,
                JSONValue.object([
                    ("connection_id", .string(connection)), ("expires_at", .string(Timestamp(seconds: token.expiresAt).description)),
                ]).encoded)
        }
    }
}

extension Credentials {
    /// The user of a request that changes something: a cookie counts only from a page of this site or of a listed one.
    func writer(_ request: GatewayRequest) async throws(Problem) -> UserToken {
        let (token, source) = try await self.user(of: request)
        if source == .cookie, !self.origins.allowsCookieWrite(request.head.headers) {
            throw .forbidden("A cookie counts only with an Origin of this site.")
        }
        return token
    }
}

extension EventLoop {
    /// Runs the body in a task and answers with what it returns, or with its problem.
    func answer(
        to request: GatewayRequest, _ body: @escaping @Sendable () async throws(Problem) -> GatewayResponse
    ) -> EventLoopFuture<GatewayResponse> {
        let promise = self.makePromise(of: GatewayResponse.self)
        promise.completeWithTask {
            do throws(Problem) {
                return try await body()
            } catch {
                return error.response(instance: request.requestID)
            }
        }
        return promise.futureResult
    }
}
