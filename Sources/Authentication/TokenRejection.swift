/// Why a token was not accepted. Every case but ``keysUnavailable`` means that the token is known to be bad.
public enum TokenRejection: Error, Sendable, Hashable, CaseIterable {
    /// Not a JWS of three parts, over 8 KiB, with a `crit` header, or with a claim of the wrong kind.
    case malformed
    /// The signature is not that of the key.
    case badSignature
    /// `exp` has passed.
    case expired
    /// `nbf` is still to come.
    case notYetValid
    /// `iss` is not the configured issuer.
    case wrongIssuer
    /// The configured audience is not among `aud`.
    case wrongAudience
    /// `alg` is none of HS256, RS256, ES256 and EdDSA, or none that a configured key serves.
    case algorithmNotAllowed
    /// No key answers to the token's `kid`.
    case unknownKey
    /// `sub` is absent or cannot be a user's id.
    case invalidSubject
    /// `exp` is absent.
    case missingExpiry
    /// The keys cannot be had right now (JWKS out of reach): the token is NOT known to be bad. Try again later.
    case keysUnavailable

    /// A constant name for logs, metrics and problem details.
    public var code: String {
        switch self {
        case .malformed: "malformed"
        case .badSignature: "bad_signature"
        case .expired: "expired"
        case .notYetValid: "not_yet_valid"
        case .wrongIssuer: "wrong_issuer"
        case .wrongAudience: "wrong_audience"
        case .algorithmNotAllowed: "algorithm_not_allowed"
        case .unknownKey: "unknown_key"
        case .invalidSubject: "invalid_subject"
        case .missingExpiry: "missing_expiry"
        case .keysUnavailable: "keys_unavailable"
        }
    }

    /// What is wrong and what to do next, in one sentence that may be shown to the client.
    public var message: String {
        switch self {
        case .malformed: "The token is not a well-formed signed JWT of at most 8 KiB; send one in compact form."
        case .badSignature: "The token's signature is not valid; sign it with the configured key."
        case .expired: "The token has expired; obtain a fresh one."
        case .notYetValid: "The token is not valid yet; wait, or check the issuer's clock."
        case .wrongIssuer: "The token's iss is not the expected issuer; obtain it from the configured issuer."
        case .wrongAudience: "The token's aud does not name this service; obtain one that is meant for it."
        case .algorithmNotAllowed: "The token's alg is not allowed here; sign with the configured kind of key."
        case .unknownKey: "The token's kid names no known key; sign with a published key."
        case .invalidSubject: "The token's sub is not a user id of 1 to 128 characters without control characters; set it."
        case .missingExpiry: "The token has no exp; issue tokens that expire."
        case .keysUnavailable: "The signing keys cannot be reached right now; try again in a few seconds."
        }
    }
}
