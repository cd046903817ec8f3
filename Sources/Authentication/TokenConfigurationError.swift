/// A setting that tokens cannot be checked with. Its description is one line that names the setting; it never holds the setting's value.
public struct TokenConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What kind of fault it is.
    public enum Code: String, Sendable {
        case noKey = "no_key"
        case weakSecret = "weak_secret"
        case secretIsPublic = "secret_is_public"
        case invalidPublicKey = "invalid_public_key"
        case invalidJWKS = "invalid_jwks"
        case invalidLeeway = "invalid_leeway"
        case emptyClaim = "empty_claim"
    }

    /// What kind of fault it is.
    public let code: Code
    /// The setting's name, such as `CARILLON_JWT_SECRET`.
    public let setting: String
    /// What is wrong.
    public let message: String
    /// What to do next.
    public let remedy: String

    public var description: String { "\(setting): \(message); \(remedy)" }
}

/// The names of the settings, for errors and log lines.
enum SettingName {
    static let secret = "CARILLON_JWT_SECRET"
    static let publicKey = "CARILLON_JWT_PUBLIC_KEY"
    static let jwks = "CARILLON_JWT_JWKS"
    static let issuer = "CARILLON_JWT_ISSUER"
    static let audience = "CARILLON_JWT_AUDIENCE"
    static let leeway = "CARILLON_JWT_LEEWAY"
}
