import Foundation
import JWTKit

/// The keys of a JSON Web Key Set (RFC 7517) that can verify tokens.
struct JSONWebKeySet: Sendable, Equatable {
    /// Larger documents are refused.
    static let byteLimit = 1024 * 1024
    /// Documents with more keys, usable or not, are refused.
    static let keyLimit = 100

    let keys: [VerificationKey]

    /// Reads a document. Keys that cannot verify here (another type or use, damaged, symmetric) are left out, as RFC 7517, 5 asks; a document
    /// without a single usable key is a fault of whoever publishes it and must not take the good keys' place.
    init(document: [UInt8]) throws(JWKSLoadError) {
        guard document.count <= Self.byteLimit else { throw .tooLarge }
        guard let decoded = try? JSONDecoder().decode(Document.self, from: Data(document)) else {
            throw JWKSLoadError(code: .notJWKS, message: "not a JSON Web Key Set", remedy: "publish a JSON object with an array \"keys\"")
        }
        guard decoded.keys.count <= Self.keyLimit else {
            throw JWKSLoadError(
                code: .tooManyKeys, message: "more than \(Self.keyLimit) keys", remedy: "publish only the keys that sign tokens now"
            )
        }
        keys = decoded.keys.compactMap(\.verificationKey)
        guard !keys.isEmpty else {
            throw JWKSLoadError(
                code: .noUsableKey, message: "no key for RS256, ES256 or EdDSA",
                remedy: "publish an RSA key of at least 2048 bits, a P-256 or an Ed25519 key"
            )
        }
    }
}

private struct Document: Decodable {
    let keys: [Entry]
}

/// One element of `keys`; fields of the wrong kind count as absent, so that one odd key does not cost the others.
private struct Entry: Decodable {
    let verificationKey: VerificationKey?

    enum CodingKeys: String, CodingKey {
        case type = "kty"
        case use
        case operations = "key_ops"
        case algorithm = "alg"
        case keyID = "kid"
        case curve = "crv"
        case modulus = "n"
        case exponent = "e"
        case x
        case y
    }

    init(from decoder: any Decoder) throws {
        guard let container = try? decoder.container(keyedBy: CodingKeys.self) else {
            verificationKey = nil
            return
        }
        func text(_ key: CodingKeys) -> String? { try? container.decode(String.self, forKey: key) }
        /// Coordinates and moduli go through the strict decoder first: what follows reads sloppy base64 as well.
        func number(_ key: CodingKeys) -> String? { text(key).flatMap { Base64URL.decode($0.utf8)?.isEmpty == false ? $0 : nil } }

        let operations = try? container.decode([String].self, forKey: .operations)
        guard text(.use) ?? "sig" == "sig", operations?.contains("verify") ?? true else {
            verificationKey = nil
            return
        }

        let material: VerificationKey.Material?
        switch (text(.type), text(.curve)) {
        case ("RSA", _):
            if let n = number(.modulus), let e = number(.exponent), let key = try? Insecure.RSA.PublicKey(modulus: n, exponent: e) {
                material = .rsa(key)
            } else {
                material = nil
            }
        case ("EC", "P-256"):
            if let x = number(.x), let y = number(.y), let key = try? ES256PublicKey(parameters: (x, y)) {
                material = .p256(key)
            } else {
                material = nil
            }
        case ("OKP", "Ed25519"):
            material = number(.x).flatMap { try? EdDSA.PublicKey(x: $0, curve: .ed25519) }.map { .ed25519($0) }
        default:
            // Symmetric keys ("oct") too: whoever can read the set could mint with them.
            material = nil
        }

        let key = material.map { VerificationKey(keyID: text(.keyID), material: $0) }
        // A key that names an algorithm serves that one only (an RSA key for PS256 is not one for RS256).
        verificationKey = key.flatMap { key in
            text(.algorithm).map { $0 == key.algorithm.rawValue } ?? true ? key : nil
        }
    }
}
