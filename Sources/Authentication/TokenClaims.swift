import Foundation

/// The claims of RFC 7519 that are looked at, and our own `role`, `roles` and `customers`.
///
/// A claim that grants or limits something and is not of its kind makes the whole token malformed: read as absent, a broken `customers`
/// would lift the limit that it was to set.
struct TokenClaims: Decodable {
    private let subject: String?
    private let issuer: String?
    private let audience: [String]
    /// Seconds since 1970; decimals are rounded so that the token is never valid for longer than it says.
    private let expiry: Int64?
    private let notBefore: Int64?
    private let roles: Set<String>
    private let customers: [String]?
    private let id: String?

    enum CodingKeys: String, CodingKey {
        case subject = "sub"
        case issuer = "iss"
        case audience = "aud"
        case expiry = "exp"
        case notBefore = "nbf"
        case role
        case roles
        case customers
        case id = "jti"
    }

    init(json: [UInt8]) throws(TokenRejection) {
        guard let claims = try? JSONDecoder().decode(TokenClaims.self, from: Data(json)) else { throw .malformed }
        self = claims
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        // These three have rejections of their own: of the wrong kind they count as absent, and are refused by name.
        subject = try? container.decode(String.self, forKey: .subject)
        issuer = try? container.decode(String.self, forKey: .issuer)
        audience = (try? container.decode(OneOrMany.self, forKey: .audience).values) ?? []

        expiry = try container.seconds(forKey: .expiry, rounded: .down)
        notBefore = try container.seconds(forKey: .notBefore, rounded: .up)
        let role = try container.decodeIfPresent(OneOrMany.self, forKey: .role)?.values ?? []
        roles = Set(role + (try container.decodeIfPresent(OneOrMany.self, forKey: .roles)?.values ?? []))
        // `decodeIfPresent` would read null as unrestricted.
        customers = container.contains(.customers) ? try container.decode(OneOrMany.self, forKey: .customers).values : nil
        guard customers?.allSatisfy(UserToken.isValidIdentifier) ?? true else {
            throw DecodingError.dataCorruptedError(forKey: .customers, in: container, debugDescription: "Not a customer's id.")
        }
        id = try container.decodeIfPresent(String.self, forKey: .id)
    }

    /// Checks the claims at the time `now`, in seconds since 1970.
    func checked(against policy: ClaimsPolicy, now: Int64) throws(TokenRejection) -> UserToken {
        guard let expiry else { throw .missingExpiry }
        guard policy.isCurrent(expiry: expiry, now: now) else { throw .expired }
        if let notBefore, now + policy.leeway < notBefore { throw .notYetValid }
        if let expected = policy.issuer, issuer != expected { throw .wrongIssuer }
        if let expected = policy.audience, !audience.contains(expected) { throw .wrongAudience }
        guard
            let subject,
            let token = UserToken(user: subject, roles: roles, customers: customers, expiresAt: expiry, id: id)
        else { throw .invalidSubject }
        return token
    }
}

/// What the claims are checked against.
struct ClaimsPolicy: Sendable {
    let issuer: String?
    let audience: String?
    /// Seconds.
    let leeway: Int64

    /// RFC 7519, 4.1.4: at the second `exp` itself the token is no longer valid.
    func isCurrent(expiry: Int64, now: Int64) -> Bool {
        now < expiry + leeway
    }
}

/// A claim that is one string or an array of them (RFC 7519, 4.1.3).
private struct OneOrMany: Decodable {
    let values: [String]

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let one = try? container.decode(String.self) {
            values = [one]
        } else {
            values = try container.decode([String].self)
        }
    }
}

extension KeyedDecodingContainer {
    /// A NumericDate (RFC 7519, 2), which may have decimals, in whole seconds.
    fileprivate func seconds(forKey key: Key, rounded rule: FloatingPointRoundingRule) throws -> Int64? {
        guard contains(key) else { return nil }
        let seconds = try decode(Double.self, forKey: key).rounded(rule)
        // Beyond 2^53 a double is no exact second, and sums with it could overflow.
        guard seconds.magnitude <= 0x1p53 else {
            throw DecodingError.dataCorruptedError(forKey: key, in: self, debugDescription: "Not a time.")
        }
        return Int64(seconds)
    }
}
