import Crypto
import CryptoExtras
import Foundation
import JWTKit
import Testing

/// A key pair of one kind, made when the tests run.
struct TestKey: Sendable, CustomTestStringConvertible {
    let algorithm: String
    let publicPEM: String
    /// The fields of its JWK but `kid`.
    let jwkFields: [String: String]
    let sign: @Sendable (Data) throws -> Data
    /// Signs a payload with the library's own serialiser.
    let signWithLibrary: @Sendable (LibraryPayload, _ keyID: String?) async throws -> String

    var testDescription: String { algorithm }

    func jwk(_ keyID: String?, _ changes: [String: String] = [:]) -> [String: String] {
        var fields = jwkFields.merging(changes) { $1 }
        fields["kid"] = keyID
        return fields
    }

    func token(payload: String = Fixture.payload, keyID: String? = nil, algorithm: String? = nil) throws -> String {
        let kid = keyID.map { #","kid":"\#($0)""# } ?? ""
        return try RawToken.make(header: #"{"alg":"\#(algorithm ?? self.algorithm)"\#(kid)}"#, payload: payload, sign: sign)
    }

    static let all = [rsa, p256, ed25519]

    static let rsa = makeRSA()
    static let p256 = makeP256()
    static let ed25519 = makeEd25519()

    static func makeRSA() -> TestKey {
        do {
            let key = try _RSA.Signing.PrivateKey(keySize: .bits2048)
            let library = try Insecure.RSA.PrivateKey(backing: key)
            let numbers = try key.publicKey.getKeyPrimitives()
            return TestKey(
                algorithm: "RS256", publicPEM: key.publicKey.pemRepresentation,
                jwkFields: ["kty": "RSA", "n": RawToken.base64URL(numbers.modulus), "e": RawToken.base64URL(numbers.publicExponent)],
                sign: { try key.signature(for: SHA256.hash(data: $0), padding: .insecurePKCS1v1_5).rawRepresentation },
                signWithLibrary: { payload, keyID in
                    try await JWTKeyCollection().add(rsa: library, digestAlgorithm: .sha256).sign(payload, header: .named(keyID))
                }
            )
        } catch {
            fatalError("no RSA key: \(error)")
        }
    }

    static func makeP256() -> TestKey {
        let key = P256.Signing.PrivateKey()
        let point = key.publicKey.rawRepresentation
        return TestKey(
            algorithm: "ES256", publicPEM: key.publicKey.pemRepresentation,
            jwkFields: ["kty": "EC", "crv": "P-256", "x": RawToken.base64URL(point.prefix(32)), "y": RawToken.base64URL(point.suffix(32))],
            sign: { try key.signature(for: $0).rawRepresentation },
            signWithLibrary: { payload, keyID in
                try await JWTKeyCollection().add(ecdsa: ES256PrivateKey(backing: key)).sign(payload, header: .named(keyID))
            }
        )
    }

    static func makeEd25519() -> TestKey {
        let key = Curve25519.Signing.PrivateKey()
        let raw = key.publicKey.rawRepresentation
        // The fixed prefix of an Ed25519 SubjectPublicKeyInfo (RFC 8410, 4).
        let info = Data([0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00]) + raw
        return TestKey(
            algorithm: "EdDSA",
            publicPEM: "-----BEGIN PUBLIC KEY-----\n\(info.base64EncodedString())\n-----END PUBLIC KEY-----\n",
            jwkFields: ["kty": "OKP", "crv": "Ed25519", "x": RawToken.base64URL(raw)],
            sign: { try key.signature(for: $0) },
            signWithLibrary: { payload, keyID in
                try await JWTKeyCollection().add(eddsa: EdDSA.PrivateKey(backing: key)).sign(payload, header: .named(keyID))
            }
        )
    }
}

struct LibraryPayload: JWTPayload {
    var sub: SubjectClaim
    var exp: ExpirationClaim
    var aud: AudienceClaim?
    var roles: [String]?

    func verify(using _: some JWTAlgorithm) throws {}
}

extension JWTHeader {
    fileprivate static func named(_ keyID: String?) -> JWTHeader {
        var header = JWTHeader()
        header.kid = keyID
        return header
    }
}

/// A JWKS document of these keys.
func keySet(_ keys: [[String: String]]) throws -> String {
    String(decoding: try JSONEncoder().encode(["keys": keys]), as: UTF8.self)
}
