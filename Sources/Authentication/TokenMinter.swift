import Crypto

/// Mints users' tokens with HS256, for development, tests and load generators. About as fast as SHA-256: 100,000 of them in a second or two.
public struct TokenMinter: Sendable {
    /// The longest life of a token, in seconds: ten years.
    public static let longestLife = 10 * 365 * 24 * 3600

    private let secret: SymmetricKey
    private let issuer: String?
    private let audience: String?
    /// The header `{"alg":"HS256","typ":"JWT"}` and its dot.
    private let header: [UInt8]

    /// - Parameters:
    ///   - secret: `CARILLON_JWT_SECRET`, at least 32 bytes; a shorter one fails in ``mint(user:role:customers:ttlSeconds:now:)``.
    ///   - issuer: the claim `iss`.
    ///   - audience: the claim `aud`.
    public init(secret: String, issuer: String?, audience: String?) {
        self.secret = SymmetricKey(data: Array(secret.utf8))
        self.issuer = issuer
        self.audience = audience
        var header: [UInt8] = []
        Base64URL.encode(#"{"alg":"HS256","typ":"JWT"}"#.utf8, into: &header)
        header.append(UInt8(ascii: "."))
        self.header = header
    }

    /// A token for `user`.
    ///
    /// - Parameters:
    ///   - role: the claim `role`.
    ///   - customers: the claim `customers`; nil: unrestricted.
    ///   - ttlSeconds: its life, 1 to ``longestLife`` seconds.
    ///   - now: seconds since 1970.
    /// - Throws: ``TokenMintingError``, so that no token is minted that would not be accepted.
    public func mint(user: String, role: String?, customers: [String]?, ttlSeconds: Int, now: Int64) throws -> String {
        guard secret.bitCount >= 8 * CheckedConfiguration.minimumSecretBytes else { throw TokenMintingError.weakSecret }
        guard UserToken.isValidIdentifier(user) else { throw TokenMintingError.invalidUser }
        guard customers?.allSatisfy(UserToken.isValidIdentifier) ?? true else { throw TokenMintingError.invalidCustomer }
        guard (1...Self.longestLife).contains(ttlSeconds), (0...Int64(1) << 52).contains(now) else { throw TokenMintingError.invalidLife }

        // The claims' order and spelling are ours to choose, and writing them beats an encoder by an order of magnitude.
        var claims: [UInt8] = []
        claims.reserveCapacity(256)
        claims += #"{"sub":"#.utf8
        JSONText.append(user, to: &claims)
        claims += ",\"iat\":\(now),\"exp\":\(now + Int64(ttlSeconds))".utf8
        append(issuer, as: "iss", to: &claims)
        append(audience, as: "aud", to: &claims)
        append(role, as: "role", to: &claims)
        if let customers {
            claims += #","customers":["#.utf8
            for (index, customer) in customers.enumerated() {
                if index > 0 { claims.append(UInt8(ascii: ",")) }
                JSONText.append(customer, to: &claims)
            }
            claims.append(UInt8(ascii: "]"))
        }
        claims.append(UInt8(ascii: "}"))

        var token = header
        token.reserveCapacity(header.count + claims.count * 4 / 3 + 48)
        Base64URL.encode(claims, into: &token)
        let signature = HMAC<SHA256>.authenticationCode(for: token, using: secret)
        token.append(UInt8(ascii: "."))
        Base64URL.encode(signature, into: &token)
        guard token.count <= CompactToken.byteLimit else { throw TokenMintingError.tooLong }
        return String(decoding: token, as: UTF8.self)
    }

    private func append(_ value: String?, as name: String, to claims: inout [UInt8]) {
        guard let value else { return }
        claims += ",\"\(name)\":".utf8
        JSONText.append(value, to: &claims)
    }
}
