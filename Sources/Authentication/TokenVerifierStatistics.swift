/// What a ``TokenVerifier`` has done since its start, for the metrics.
public struct TokenVerifierStatistics: Sendable, Hashable {
    /// Tokens in the cache now.
    public internal(set) var cachedTokens = 0
    /// Lookups that found their token in the cache.
    public internal(set) var cacheHits = 0
    /// Lookups that did not.
    public internal(set) var cacheMisses = 0
    /// Tokens that made room for newer ones.
    public internal(set) var cacheEvictions = 0
    /// Times that the JWKS was read.
    public internal(set) var keyRefreshes = 0
    /// Times that it could not be.
    public internal(set) var keyRefreshFailures = 0
}
