public import Logging
import Crypto
import Foundation
import NIOConcurrencyHelpers

/// Verifies users' tokens: JWTs (RFC 7519) signed with HS256, RS256, ES256 or EdDSA.
///
/// Each algorithm is served by its own kind of key only. Verified tokens are remembered until they end, at most 10,000 of them (the oldest
/// makes room), and forgotten when the keys change. Keys of a JWKS that were seen once stay in use while the set cannot be read.
public final class TokenVerifier: Sendable {
    /// The time between two reads of the JWKS.
    static let refreshInterval = Duration.seconds(300)
    /// The same after a read that failed.
    static let retryInterval = Duration.seconds(5)

    private struct State {
        var ring: KeyRing
        var cache: TokenCache
        /// Counts the changes of the keys: what was verified with earlier ones must not enter the cache.
        var generation = 0
        var statistics = TokenVerifierStatistics()
    }

    private let secret: SymmetricKey?
    private let policy: ClaimsPolicy
    private let refresher: JWKSRefresher?
    private let state: NIOLockedValueBox<State>
    private let now: @Sendable () -> Int64
    private let clock: any Clock<Duration>

    /// Checks the settings. Reads a JWKS file at once, and a JWKS URL not before ``run()`` or the first token that needs it.
    ///
    /// - Throws: ``TokenConfigurationError``, which names the setting.
    public convenience init(configuration: TokenConfiguration, logger: Logger) throws {
        try self.init(configuration: configuration, logger: logger, now: { Int64(Date().timeIntervalSince1970) })
    }

    /// - Parameters:
    ///   - now: the time in seconds since 1970.
    ///   - clock: what ``run()`` waits by.
    ///   - fetchTimeout: the bound on one read of the JWKS.
    ///   - cacheCapacity: the bound on remembered tokens.
    package init(
        configuration: TokenConfiguration,
        logger: Logger,
        now: @escaping @Sendable () -> Int64,
        clock: any Clock<Duration> = ContinuousClock(),
        fetchTimeout: Duration = .seconds(5),
        cacheCapacity: Int = 10_000
    ) throws {
        let settings = try CheckedConfiguration(configuration)
        secret = settings.secret
        policy = settings.policy
        self.now = now
        self.clock = clock

        let state = NIOLockedValueBox(
            State(ring: KeyRing(pem: settings.publicKey, jwks: settings.jwks), cache: TokenCache(capacity: cacheCapacity))
        )
        self.state = state
        refresher = settings.jwksSource.map { source in
            JWKSRefresher(source: source, timeout: fetchTimeout, loaded: settings.jwks != nil, logger: logger) { result in
                Self.apply(result, to: state, logger: logger)
            }
        }
    }

    /// Whether tokens can be verified: false only while nothing but a JWKS is configured that could never be read.
    public var keysAvailable: Bool {
        secret != nil || state.withLockedValue { !$0.ring.isEmpty }
    }

    /// What it has done so far, for the metrics.
    public var statistics: TokenVerifierStatistics {
        state.withLockedValue { state in
            var statistics = state.statistics
            statistics.cachedTokens = state.cache.count
            statistics.cacheEvictions = state.cache.evictions
            return statistics
        }
    }

    /// The user of a token that was verified before and has not ended; nil for all others. Never waits.
    public func verifyCached(_ token: String) -> UserToken? {
        guard token.utf8.count <= CompactToken.byteLimit else { return nil }
        return cached(TokenCache.key(for: token))
    }

    /// Verifies what needs no waiting: tokens that are remembered, and HS256. Nil: ask ``verify(_:)``.
    public func verifySynchronously(_ token: String) throws(TokenRejection) -> UserToken? {
        switch try examine(token) {
        case .verified(let user): user
        case .needsPublicKey: nil
        }
    }

    /// Verifies a token.
    ///
    /// A `kid` that the JWKS does not hold makes it be read again, at most once in 10 seconds; then this waits up to 5 seconds.
    /// - Throws: ``TokenRejection``; of its cases only `keysUnavailable` leaves open whether the token is good.
    public func verify(_ token: String) async throws(TokenRejection) -> UserToken {
        switch try examine(token) {
        case .verified(let user): return user
        case .needsPublicKey(let parsed, let cacheKey): return try await verify(parsed, cacheKey: cacheKey)
        }
    }

    /// Keeps the JWKS fresh: reads it at once, then every 5 minutes, after a failure every 5 seconds. Returns when cancelled.
    public func run() async {
        while !Task.isCancelled {
            let fresh = await refresher?.refreshUntilCancelled() ?? true
            // It throws only when cancelled, and then the loop ends.
            try? await clock.sleep(for: fresh ? Self.refreshInterval : Self.retryInterval)
        }
    }

    // MARK: - The way of one token

    private enum Examination {
        case verified(UserToken)
        case needsPublicKey(CompactToken, TokenCache.Key)
    }

    private func examine(_ token: String) throws(TokenRejection) -> Examination {
        guard token.utf8.count <= CompactToken.byteLimit else { throw .malformed }
        let cacheKey = TokenCache.key(for: token)
        if let user = cached(cacheKey) { return .verified(user) }

        let parsed = try CompactToken(token)
        switch parsed.algorithm {
        case .hs256:
            guard let secret else { throw .algorithmNotAllowed }
            // Compares in constant time.
            guard HMAC<SHA256>.isValidAuthenticationCode(parsed.signature, authenticating: parsed.signingInput, using: secret) else {
                throw .badSignature
            }
            // The secret never changes, so whatever the generation is, it fits.
            return .verified(try accept(parsed, cacheKey: cacheKey, generation: nil))
        case .rs256, .es256, .eddsa:
            let served = state.withLockedValue { $0.ring.pem?.algorithm == parsed.algorithm }
            guard served || refresher != nil else { throw .algorithmNotAllowed }
            return .needsPublicKey(parsed, cacheKey)
        }
    }

    private func verify(_ token: CompactToken, cacheKey: TokenCache.Key) async throws(TokenRejection) -> UserToken {
        let first = await matchingKey(of: token)
        if first.isMatch { return try accept(token, cacheKey: cacheKey, generation: first.generation) }
        guard !first.named, let refresher else { throw .badSignature }

        let reach = await refresher.refreshOnDemand(now: now())
        let second = await matchingKey(of: token)
        if second.isMatch { return try accept(token, cacheKey: cacheKey, generation: second.generation) }
        switch reach {
        case .outOfReach where !second.named: throw .keysUnavailable
        case .outOfReach, .fresh: throw second.anyTried ? .badSignature : .unknownKey
        }
    }

    private struct Match {
        var isMatch = false
        let named: Bool
        let anyTried: Bool
        let generation: Int
    }

    private func matchingKey(of token: CompactToken) async -> Match {
        let (ring, generation) = state.withLockedValue { ($0.ring, $0.generation) }
        let candidates = ring.candidates(for: token)
        var match = Match(named: candidates.named, anyTried: !candidates.keys.isEmpty, generation: generation)
        for key in candidates.keys where await key.isSigner(of: token) {
            match.isMatch = true
            break
        }
        return match
    }

    /// The claims of a token whose signature is good.
    private func accept(_ token: CompactToken, cacheKey: TokenCache.Key, generation: Int?) throws(TokenRejection) -> UserToken {
        let user = try TokenClaims(json: token.payload).checked(against: policy, now: now())
        state.withLockedValue { state in
            guard generation ?? state.generation == state.generation else { return }
            state.cache.insert(user, for: cacheKey)
        }
        return user
    }

    private func cached(_ key: TokenCache.Key) -> UserToken? {
        let now = now()
        return state.withLockedValue { state in
            guard let user = state.cache[key] else {
                state.statistics.cacheMisses += 1
                return nil
            }
            guard policy.isCurrent(expiry: user.expiresAt, now: now) else {
                state.cache.remove(key)
                state.statistics.cacheMisses += 1
                return nil
            }
            state.statistics.cacheHits += 1
            return user
        }
    }

    // MARK: - Keys

    private static func apply(_ result: Result<JSONWebKeySet, JWKSLoadError>, to state: NIOLockedValueBox<State>, logger: Logger) {
        let changed = state.withLockedValue { state in
            switch result {
            case .failure:
                state.statistics.keyRefreshFailures += 1
                return 0
            case .success(let keys):
                state.statistics.keyRefreshes += 1
                guard state.ring.jwks != keys else { return 0 }
                state.ring.jwks = keys
                state.generation += 1
                state.cache.removeAll()
                return keys.keys.count
            }
        }
        if changed > 0 {
            logger.log(level: .info, "The signing keys have changed.", [.setting: SettingName.jwks, .keys: "\(changed)"])
        }
    }
}
