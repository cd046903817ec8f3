import Authentication
import Gateway
import Hummingbird
import Logging
import NIOHTTP1
import NotificationCore
import NotificationStore

/// The signed-in user of a request.
struct Visitor: Sendable {
    let user: UserID
    /// The customers whose rows exist for this token; nil: all of them.
    let customers: [String]?

    /// - Throws: ``Problem``: 401, 429, or 403 for a write by cookie from a page that may not.
    init(_ request: GatewayRequest, _ credentials: Credentials) async throws(Problem) {
        let (token, source) = try await credentials.user(of: request)
        switch (source, request.head.method) {
        case (.header, _), (.cookie, .GET), (.cookie, .HEAD): break
        case (.cookie, _):
            guard credentials.origins.allowsCookieWrite(request.head.headers) else {
                throw .forbidden("A write by cookie needs an Origin that is allowed.")
            }
        }
        guard let user = UserID(token.user) else { throw .invalidUser }
        self.user = user
        self.customers = token.customers
    }

    /// - Throws: ``Problem``: 403 when the token does not know that customer.
    func check(customer: String?) throws(Problem) {
        guard let customer, let customers else { return }
        guard customers.contains(where: { $0.utf8.elementsEqual(customer.utf8) }) else {
            throw .forbidden("The token is not for this customer.")
        }
    }
}

/// Runs what needs the database; an error of the service itself is logged here and answered by its code.
func stored<Value: Sendable>(
    _ failure: String, _ context: CarillonRequestContext, _ body: () async throws(StoreError) -> Value
) async throws(Problem) -> Value {
    try await stored(failure, Call(context), body)
}

func stored<Value: Sendable>(_ failure: String, _ call: Call, _ body: () async throws(StoreError) -> Value) async throws(Problem) -> Value {
    do throws(StoreError) {
        return try await body()
    } catch {
        if error.code == .failed || error.code == .refused {
            call.logger.error("database failed", metadata: ["error": "\(error)", "sqlstate": "\(error.sqlState ?? "")", "path": "\(call.request.path)"])
        }
        throw Problem(error, failure: failure)
    }
}
