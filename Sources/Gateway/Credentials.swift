public import Authentication
import Crypto
import Logging
import NIOCore
import NotificationCore
public import NotificationStore
import Synchronization

/// Who a request is from.
public enum Caller: Sendable {
    case user(UserToken)
    case application(APIKeyStore.Key)
}

/// Checks tokens, sessions, tickets and API keys. Signing keys and API keys seen before stay valid from memory while their source is away.
public final class Credentials: Sendable {
    public enum Source: Sendable {
        case header
        case cookie
    }

    public let verifier: TokenVerifier
    public let cookieName: String
    public let origins: Origins
    private let tickets: TicketSigner
    private let keys: APIKeyStore
    private let cache = Mutex<[[UInt8]: (key: APIKeyStore.Key?, at: ContinuousClock.Instant)]>([:])

    /// How long an API key that was looked up counts without another look: a revocation takes no longer.
    private static let freshness: Duration = .seconds(2)
    private static let cacheBound = 10_000

    public init(verifier: TokenVerifier, keys: APIKeyStore, tickets: TicketSigner, cookieName: String, origins: Origins) {
        self.verifier = verifier
        self.keys = keys
        self.tickets = tickets
        self.cookieName = cookieName
        self.origins = origins
    }

    /// The user of a request, from the header `Authorization`, else the cookie.
    ///
    /// - Throws: ``Problem``: 401, or 503 when the keys cannot be had now.
    public func user(_ authorization: String?, cookie: String?) async throws(Problem) -> (token: UserToken, source: Source) {
        if let bearer = Self.bearer(authorization) {
            if bearer.hasPrefix("ck_") { throw .forbidden("This route takes a user's token, not an API key.") }
            return (try await self.token(bearer), .header)
        }
        if let cookie, !cookie.isEmpty { return (try await self.token(cookie), .cookie) }
        throw .invalidUser
    }

    /// A JWT, or a session that a ticket was turned into.
    public func token(_ text: String) async throws(Problem) -> UserToken {
        if TicketSigner.isSession(text) {
            guard let token = self.tickets.session(text) else { throw .invalidUser }
            return token
        }
        do throws(TokenRejection) {
            if let token = try self.verifier.verifySynchronously(text) { return token }
            return try await self.verifier.verify(text)
        } catch {
            switch error {
            case .keysUnavailable: throw .unavailable("The signing keys cannot be had now; try again.")
            default: throw .invalidUser
            }
        }
    }

    /// The application, from `Authorization: Bearer ck_…` or `X-API-Key`.
    public func application(_ authorization: String?, apiKey: String?, scope: Scope) async throws(Problem) -> APIKeyStore.Key {
        guard let text = apiKey ?? Self.bearer(authorization) else { throw .unauthorized }
        guard text.hasPrefix("ck_") else {
            // A user's token, which is good for something else, is told so.
            if apiKey == nil, (try? await self.token(text)) != nil { throw .forbidden("This route takes an API key, not a user's token.") }
            throw .unauthorized
        }
        guard let key = try await self.key(text) else { throw .unauthorized }
        guard key.scopes.contains(scope) else { throw .forbidden("The API key does not have the scope \(scope.rawValue).") }
        return key
    }

    /// A key that was looked up a moment ago. `.some(nil)`: it is known to be bad.
    public func cachedKey(_ text: String) -> APIKeyStore.Key?? {
        let hash = APIKeyStore.hash(text)
        return self.cache.withLock { cache in
            guard let entry = cache[hash], ContinuousClock.now - entry.at < Self.freshness else { return nil }
            return .some(entry.key)
        }
    }

    private func key(_ text: String) async throws(Problem) -> APIKeyStore.Key? {
        if text.utf8.count > 128 { return nil }
        if let known = self.cachedKey(text) { return known }
        let hash = APIKeyStore.hash(text)
        do throws(StoreError) {
            var key = try await self.keys.find(hash: hash)
            if key?.revokedAt != nil { key = nil }
            let found = key
            self.cache.withLock { cache in
                if cache.count >= Self.cacheBound {
                    // Keys that exist are few; what fills this are guesses.
                    cache = cache.filter { $0.value.key != nil }
                    if cache.count >= Self.cacheBound { cache.removeAll() }
                }
                cache[hash] = (found, .now)
            }
            return found
        } catch {
            // The database is away: a key seen before counts from memory.
            if let entry = self.cache.withLock({ $0[hash] }) { return entry.key }
            throw Problem(error, failure: "unavailable")
        }
    }

    public static func bearer(_ authorization: String?) -> String? {
        guard let authorization, authorization.utf8.count > 7, authorization.prefix(7).lowercased() == "bearer " else { return nil }
        return String(authorization.dropFirst(7).drop { $0 == " " })
    }
}
