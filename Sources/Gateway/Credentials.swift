public import Authentication
import Crypto
import Logging
import NIOCore
public import NIOHTTP1
public import NotificationBus
public import NotificationCore
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

    private typealias Lookup = Task<Result<APIKeyStore.Key?, StoreError>, Never>

    public let verifier: TokenVerifier
    public let cookieName: String
    public let origins: Origins
    private let tickets: TicketSigner
    private let keys: APIKeyStore
    private let limiter: RateLimiter?
    private let lookups = Mutex<[[UInt8]: (task: Lookup, since: ContinuousClock.Instant)]>([:])
    private let cache = Mutex<[[UInt8]: (key: APIKeyStore.Key?, at: ContinuousClock.Instant)]>([:])

    /// How long an API key that was looked up counts without another look: a revocation takes no longer.
    private static let freshness: Duration = .seconds(2)
    /// How long a key that was seen before waits for another look.
    private static let patience: Duration = .milliseconds(250)
    private static let cacheBound = 10_000

    /// - Parameter limiter: nil: requests are not counted.
    public init(
        verifier: TokenVerifier, keys: APIKeyStore, tickets: TicketSigner, cookieName: String, origins: Origins, limiter: RateLimiter? = nil
    ) {
        self.verifier = verifier
        self.keys = keys
        self.tickets = tickets
        self.cookieName = cookieName
        self.origins = origins
        self.limiter = limiter
    }

    /// The user of a request, which is counted by the user's rate limit.
    ///
    /// - Throws: ``Problem``: 401, 429, or 503 when the keys cannot be had now.
    public func user(of request: GatewayRequest) async throws(Problem) -> (token: UserToken, source: Source) {
        let (token, source) = try await self.user(request.header("authorization"), cookie: request.cookie(self.cookieName))
        guard let user = UserID(token.user) else { throw .invalidUser }
        try self.admit(.user(user), request)
        return (token, source)
    }

    /// Says who a request is from, and counts it by their rate limit.
    ///
    /// - Throws: ``Problem``: 429.
    public func admit(_ subject: RequestSubject, _ request: GatewayRequest) throws(Problem) {
        let standing = self.limiter?.check(subject.rate)
        request.trace.authenticated(subject, standing)
        if let decision = standing?.decision, !decision.isAllowed { throw .rateLimited(seconds: decision.resetSeconds) }
    }

    /// The user of a request whose rate is not limited, such as a stream's, from the header `Authorization`, else the cookie.
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

    /// The application that a request is from, by `Authorization: Bearer ck_…` or `X-API-Key`. It is counted by the key's rate limit.
    ///
    /// - Throws: ``Problem``: 401, 403, 429, or 503 when the key cannot be looked up now.
    public func application(_ request: GatewayRequest, scope: Scope) async throws(Problem) -> APIKeyStore.Key {
        let header = request.header("x-api-key")
        guard let text = Self.applicationKey(request) else { throw .unauthorized }
        guard text.hasPrefix("ck_") else {
            // A user's token, which is good for something else, is told so.
            if header == nil, let token = try? await self.token(text), let user = UserID(token.user) {
                try self.admit(.user(user), request)
                throw .forbidden("This route takes an API key, not a user's token.")
            }
            throw .unauthorized
        }
        guard let key = try await self.key(text) else { throw .unauthorized }
        try self.admit(key, request)
        guard key.scopes.contains(scope) else { throw .forbidden("The API key does not have the scope \(scope.rawValue).") }
        return key
    }

    /// What the request sends as an API key, whatever it is. It is a secret.
    public static func applicationKey(_ request: GatewayRequest) -> String? {
        request.header("x-api-key") ?? Self.bearer(request.header("authorization"))
    }

    /// The same for an API key.
    public func admit(_ key: APIKeyStore.Key, _ request: GatewayRequest) throws(Problem) {
        try self.admit(.key(key.id, name: key.name), request)
    }

    /// Whether a request's credential is good as far as this node knows, without waiting for anything: a key that was seen before, a token or session that
    /// verifies at once.
    public func recognizes(_ headers: HTTPHeaders) -> Bool {
        guard let text = headers.first(name: "x-api-key") ?? Self.bearer(headers.first(name: "authorization")) ?? headers.cookie(self.cookieName) else {
            return false
        }
        if text.hasPrefix("ck_") {
            if text.utf8.count > 128 { return false }
            let hash = APIKeyStore.hash(text)
            return self.cache.withLock { $0[hash]?.key != nil }
        }
        if TicketSigner.isSession(text) { return self.tickets.session(text) != nil }
        // Why it is refused is said when it is used.
        return (try? self.verifier.verifySynchronously(text)) != nil
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
        let known = self.cache.withLock { $0[hash]?.key }
        let (lookup, since) = self.lookup(hash)
        // A key that was seen before does not wait for a database that is away or does not answer.
        if let known, !(await Self.isDone(lookup, within: Self.patience - (.now - since))) { return known }
        switch await lookup.value {
        case .success(let key): return key
        case .failure(let error):
            if let known { return known }
            throw Problem(error, failure: "unavailable")
        }
    }

    /// One look at the database for all who wait for this key.
    private func lookup(_ hash: [UInt8]) -> (task: Lookup, since: ContinuousClock.Instant) {
        self.lookups.withLock { lookups in
            if let running = lookups[hash] { return running }
            let task = Task { () -> Result<APIKeyStore.Key?, StoreError> in
                let result: Result<APIKeyStore.Key?, StoreError>
                do throws(StoreError) {
                    let key = try await self.keys.find(hash: hash)
                    result = .success(key?.revokedAt == nil ? key : nil)
                } catch {
                    result = .failure(error)
                }
                if case .success(let key) = result { self.remember(key, hash) }
                self.lookups.withLock { $0[hash] = nil }
                return result
            }
            lookups[hash] = (task, .now)
            return (task, .now)
        }
    }

    private func remember(_ key: APIKeyStore.Key?, _ hash: [UInt8]) {
        self.cache.withLock { cache in
            if cache.count >= Self.cacheBound {
                // Keys that exist are few; what fills this are guesses.
                cache = cache.filter { $0.value.key != nil }
                if cache.count >= Self.cacheBound { cache.removeAll() }
            }
            cache[hash] = (key, .now)
        }
    }

    private static func isDone(_ lookup: Lookup, within patience: Duration) async -> Bool {
        if patience <= .zero { return false }
        let first = AsyncStream<Bool>.makeStream(bufferingPolicy: .bufferingOldest(1))
        let timer = Task {
            try await Task.sleep(for: patience)
            first.continuation.yield(false)
        }
        let wait = Task {
            _ = await lookup.value
            first.continuation.yield(true)
        }
        defer {
            timer.cancel()
            wait.cancel()
        }
        for await done in first.stream { return done }
        return false
    }

    public static func bearer(_ authorization: String?) -> String? {
        guard let bytes = authorization?.utf8, bytes.count > 7, zip(bytes, "bearer ".utf8).allSatisfy({ $0 == $1 || $0 | 0x20 == $1 && $1 != UInt8(ascii: " ") })
        else { return nil }
        return String(Substring(bytes.dropFirst(7).drop { $0 == UInt8(ascii: " ") }))
    }
}
