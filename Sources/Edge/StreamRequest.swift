import Authentication
import Crypto
import Gateway
import NIOHTTP1
import NotificationCore

/// A request for a stream that may be opened: who, from where on, and what of it.
struct StreamRequest: Sendable {
    var user: UserID
    var token: UserToken
    var resume: ResumePoint
    /// Only this customer's.
    var customer: String?
    var userAgent: String
    /// Set when the request is an automatic reconnect (only that has the header `Last-Event-ID`).
    var fingerprint: String?
    /// Becomes the cookie with which EventSource reconnects after it used a ticket.
    var session: String?

    /// Recognizes the automatic reconnect of an evicted stream.
    static func fingerprint(user: UserID, userAgent: String, lastEventID: String) -> String {
        let digest = SHA256.hash(data: Array("\(user.value)\n\(userAgent)\n\(lastEventID)".utf8))
        return digest.prefix(12).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

/// Finds out who asks for a stream: a bearer token, a ticket, or the cookie.
struct StreamAuthenticator: Sendable {
    let credentials: Credentials
    let tickets: TicketSigner
    let ledger: TicketRedemption

    /// - Parameters:
    ///   - cookieNeedsOrigin: a cookie counts only from a page of this site or of a listed one.
    ///   - resume, customer: nil: what the request's header or query says.
    func authenticate(
        _ request: GatewayRequest, cookieNeedsOrigin: Bool = false, resume: ResumePoint? = nil, customer: String? = nil
    ) async throws(Problem) -> StreamRequest {
        var session: String?
        let token: UserToken
        let cookie = request.cookie(self.credentials.cookieName)
        if let authorization = request.header("authorization") {
            token = try await self.credentials.user(authorization, cookie: nil).token
        } else if let text = request.query["ticket"], !text.isEmpty {
            guard let ticket = self.tickets.ticket(text) else { throw .invalidUser }
            if !ticket.isExpired, ticket.token.expiresAt > Timestamp.now().seconds, await self.ledger.redeem(ticket.nonce) {
                token = ticket.token
                session = self.tickets.makeSession(for: token)
            } else {
                // A used ticket: EventSource reconnects to the same URL, and the cookie says who it is.
                guard let cookie, !cookie.isEmpty else { throw .invalidUser }
                if cookieNeedsOrigin { try self.checkOrigin(request) }
                token = try await self.credentials.token(cookie)
                guard token.user == ticket.token.user else { throw .invalidUser }
            }
        } else {
            if cookieNeedsOrigin, let cookie, !cookie.isEmpty { try self.checkOrigin(request) }
            token = try await self.credentials.user(nil, cookie: cookie).token
        }
        return try self.request(request, token, session: session, resume: resume, customer: customer)
    }

    /// What a request with this token asks for.
    func request(
        _ request: GatewayRequest, _ token: UserToken, session: String?, resume: ResumePoint?, customer asked: String?
    ) throws(Problem) -> StreamRequest {
        guard let user = UserID(token.user) else { throw .invalidUser }
        var customer: String?
        if let text = asked ?? request.query["customer_id"], !text.isEmpty {
            guard CustomerID(text) != nil else { throw .invalidField("customer_id", "must have 1 to 128 characters, none of them a control character") }
            if let allowed = token.customers, !allowed.contains(where: { $0.utf8.elementsEqual(text.utf8) }) { throw .forbidden("The token does not allow this customer.") }
            customer = text
        }
        let userAgent = request.header("user-agent") ?? ""
        let header = request.header("last-event-id")
        return StreamRequest(
            user: user, token: token, resume: resume ?? ResumePoint(header: header, query: request.query["last_event_id"]), customer: customer,
            userAgent: userAgent,
            fingerprint: header.flatMap {
                $0.isEmpty ? nil : StreamRequest.fingerprint(user: user, userAgent: userAgent, lastEventID: $0)
            }, session: session)
    }

    private func checkOrigin(_ request: GatewayRequest) throws(Problem) {
        guard self.credentials.origins.allowsCookieWrite(request.head.headers) else {
            throw .forbidden("A cookie counts only with an Origin of this site.")
        }
    }
}
