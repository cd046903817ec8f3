import Crypto

/// A ``TokenConfiguration`` that can be worked with.
struct CheckedConfiguration {
    /// RFC 7518, 3.2: no shorter than the hash. Shorter ones are guessed offline from a single token.
    static let minimumSecretBytes = 32

    let secret: SymmetricKey?
    let publicKey: VerificationKey?
    let jwksSource: JWKSSource?
    /// The keys of a JWKS file. Those of a URL come later, since its server may be away at the start.
    let jwks: JSONWebKeySet?
    let policy: ClaimsPolicy

    init(_ configuration: TokenConfiguration) throws(TokenConfigurationError) {
        guard configuration.secret != nil || configuration.publicKeyPEM != nil || configuration.jwks != nil else {
            throw TokenConfigurationError(
                code: .noKey, setting: SettingName.secret, message: "no key to check users' tokens with",
                remedy: "set it, \(SettingName.publicKey) or \(SettingName.jwks)"
            )
        }
        guard (0...300).contains(configuration.leeway) else {
            throw TokenConfigurationError(
                code: .invalidLeeway, setting: SettingName.leeway, message: "\(configuration.leeway) seconds", remedy: "use 0 to 300"
            )
        }
        for (setting, value) in [(SettingName.issuer, configuration.issuer), (SettingName.audience, configuration.audience)] where value == "" {
            throw TokenConfigurationError(code: .emptyClaim, setting: setting, message: "is empty", remedy: "give a value or leave it out")
        }
        secret = try configuration.secret.map { secret throws(TokenConfigurationError) in try Self.symmetricKey(secret) }
        publicKey = try configuration.publicKeyPEM.map { pem throws(TokenConfigurationError) in try VerificationKey(publicKeyPEM: pem) }
        jwksSource = try configuration.jwks.map { setting throws(TokenConfigurationError) in try JWKSSource(setting: setting) }
        jwks = try jwksSource.flatMap { source throws(TokenConfigurationError) in try Self.keysOfFile(source) }
        policy = ClaimsPolicy(issuer: configuration.issuer, audience: configuration.audience, leeway: Int64(configuration.leeway))
    }

    private static func symmetricKey(_ secret: String) throws(TokenConfigurationError) -> SymmetricKey {
        let bytes = Array(secret.utf8)
        guard bytes.count >= minimumSecretBytes else {
            throw TokenConfigurationError(
                code: .weakSecret, setting: SettingName.secret, message: "is shorter than \(minimumSecretBytes) bytes",
                remedy: "use at least \(minimumSecretBytes) random ones (openssl rand -hex 32)"
            )
        }
        // A public key as the secret: everybody who has it could mint tokens, the confusion of algorithms by one's own hand.
        guard !secret.contains("-----BEGIN ") else {
            throw TokenConfigurationError(
                code: .secretIsPublic, setting: SettingName.secret, message: "is a key in PEM, not a secret",
                remedy: "put a public key into \(SettingName.publicKey)"
            )
        }
        return SymmetricKey(data: bytes)
    }

    private static func keysOfFile(_ source: JWKSSource) throws(TokenConfigurationError) -> JSONWebKeySet? {
        guard case .file(let path) = source else { return nil }
        do {
            return try JSONWebKeySet(document: SmallFile.read(path, limit: JSONWebKeySet.byteLimit))
        } catch {
            throw TokenConfigurationError(code: .invalidJWKS, setting: SettingName.jwks, message: "\(path): \(error.message)", remedy: error.remedy)
        }
    }
}
