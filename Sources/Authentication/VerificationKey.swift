import JWTKit

/// A public key and the one algorithm that it serves. The key's type decides the algorithm, never the token's header: a header that asks
/// for another finds no key.
struct VerificationKey: Sendable, Equatable {
    enum Material: Sendable, Equatable {
        case rsa(Insecure.RSA.PublicKey)
        case p256(ES256PublicKey)
        case ed25519(EdDSA.PublicKey)
    }

    /// The name within a JWKS.
    let keyID: String?
    let material: Material

    var algorithm: SigningAlgorithm {
        switch material {
        case .rsa: .rs256
        case .p256: .es256
        case .ed25519: .eddsa
        }
    }

    /// Whether the token's signature is this key's.
    func isSigner(of token: CompactToken) async -> Bool {
        guard token.algorithm == algorithm else { return false }
        // A collection for the one key: a shared one falls back to a default key when it lacks the kid.
        let keys = JWTKeyCollection()
        switch material {
        case .rsa(let key): await keys.add(rsa: key, digestAlgorithm: .sha256)
        case .p256(let key): await keys.add(ecdsa: key)
        case .ed25519(let key): await keys.add(eddsa: key)
        }
        // It throws for signatures of an impossible length: not this key's.
        return (try? await keys.getKey().verify(token.signature, signs: token.signingInput)) ?? false
    }
}

extension VerificationKey {
    /// The key in `pem`, a SubjectPublicKeyInfo.
    init(publicKeyPEM pem: String) throws(TokenConfigurationError) {
        let text = pem.replacing("\\n", with: "\n")
        guard text.contains("-----BEGIN PUBLIC KEY-----") else {
            throw TokenConfigurationError(
                code: .invalidPublicKey, setting: SettingName.publicKey,
                message: text.contains("PRIVATE KEY-----") ? "holds a private key" : "is not a public key in PEM",
                remedy: "give the SubjectPublicKeyInfo that begins with -----BEGIN PUBLIC KEY----- (openssl pkey -pubout)"
            )
        }
        keyID = nil
        if let key = try? EdDSA.PublicKey(pem: text) {
            material = .ed25519(key)
        } else if let key = try? ES256PublicKey(pem: text) {
            material = .p256(key)
        } else if let key = try? Insecure.RSA.PublicKey(pem: text) {
            material = .rsa(key)
        } else {
            throw TokenConfigurationError(
                code: .invalidPublicKey, setting: SettingName.publicKey,
                message: "is no key of a kind that can be used",
                remedy: "use RSA of at least 2048 bits, P-256 or Ed25519"
            )
        }
    }
}
