/// The keys and claims that users' tokens are checked against: the settings `CARILLON_JWT_…`.
///
/// Any number of the three kinds of key may be set; at least one must be. Each serves only its own algorithms.
public struct TokenConfiguration: Sendable {
    /// The shared secret for HS256 (`CARILLON_JWT_SECRET`), used as its UTF-8 bytes: at least 32 of them (RFC 7518, 3.2).
    public var secret: String?

    /// A public key as SubjectPublicKeyInfo in PEM (`CARILLON_JWT_PUBLIC_KEY`). The key's type decides the algorithm: RSA of at least
    /// 2048 bits is RS256, P-256 is ES256, Ed25519 is EdDSA. A literal `\n` counts as a line break, as environment variables often have it.
    public var publicKeyPEM: String?

    /// A JSON Web Key Set (RFC 7517), as the path of a file or as an `http` or `https` URL (`CARILLON_JWT_JWKS`).
    /// At most 1 MiB and 100 keys; read within 5 seconds; refreshed every 5 minutes.
    public var jwks: String?

    /// The value that `iss` must have (`CARILLON_JWT_ISSUER`); nil: not checked.
    public var issuer: String?

    /// The value that must be among `aud` (`CARILLON_JWT_AUDIENCE`); nil: not checked.
    public var audience: String?

    /// Seconds by which the issuer's clock may differ from this node's when `exp` and `nbf` are checked: 0 to 300.
    public var leeway: Int

    /// Gathers the settings; ``TokenVerifier`` checks them.
    public init(
        secret: String? = nil,
        publicKeyPEM: String? = nil,
        jwks: String? = nil,
        issuer: String? = nil,
        audience: String? = nil,
        leeway: Int = 0
    ) {
        self.secret = secret
        self.publicKeyPEM = publicKeyPEM
        self.jwks = jwks
        self.issuer = issuer
        self.audience = audience
        self.leeway = leeway
    }
}
