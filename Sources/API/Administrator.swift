import Authentication
import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// Whoever may administer: an application whose key has the scope, or a user whose token has the role `admin`.
struct Administrator: Sendable {
    enum Identity: Sendable {
        case application(NotificationID)
        case user(UserID)
    }

    let identity: Identity
    /// The customers whose rows exist for this caller, of which rows of no customer are none; nil: all rows.
    let customers: [String]?

    /// - Parameter scope: what an API key needs for the route.
    /// - Throws: ``Problem``: 401 without a credential that is good, 403 with one that is not enough, and for a write by cookie from a page that may
    ///   not.
    init(_ request: GatewayRequest, _ credentials: Credentials, scope: Scope = .admin) async throws(Problem) {
        let bearer = Credentials.bearer(request.header("authorization"))
        if request.header("x-api-key") != nil || bearer?.hasPrefix("ck_") ?? false {
            let key = try await credentials.application(request, scope: scope)
            self.identity = .application(key.id)
            self.customers = nil
            return
        }
        let cookie = bearer == nil ? request.cookie(credentials.cookieName) : nil
        guard let text = bearer ?? cookie, !text.isEmpty else { throw .unauthorized }
        let token = try await Self.token(text, credentials)
        guard let user = UserID(token.user) else { throw .unauthorized }
        try credentials.admit(.user(user), request)
        guard token.isAdmin else { throw .forbidden("This needs the role admin, or an API key with the scope \(scope.rawValue).") }
        let isRead = request.head.method == .GET || request.head.method == .HEAD
        if cookie != nil, !isRead, !credentials.origins.allowsCookieWrite(request.head.headers) {
            throw .forbidden("A write by cookie needs an Origin that is allowed.")
        }
        self.identity = .user(user)
        self.customers = token.customers
    }

    private static func token(_ text: String, _ credentials: Credentials) async throws(Problem) -> UserToken {
        do throws(Problem) {
            return try await credentials.token(text)
        } catch {
            // What is wanted here is not only a user.
            throw error.status == .unauthorized ? .unauthorized : error
        }
    }

    /// For what cannot be narrowed to customers.
    ///
    /// - Throws: ``Problem``: 403 for a token that is.
    func checkUnlimited() throws(Problem) {
        if self.customers != nil { throw .forbidden("This is about all customers; the token is for some of them.") }
    }

    /// - Throws: ``Problem``: 403 when the token does not know that customer.
    func check(customer: String?) throws(Problem) {
        guard let customer, let customers else { return }
        guard customers.contains(where: { $0.utf8.elementsEqual(customer.utf8) }) else {
            throw .forbidden("The token is not for this customer.")
        }
    }
}
