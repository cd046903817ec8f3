import Foundation

/// A JWS in compact form (RFC 7515, 3.1), taken apart and not yet believed.
struct CompactToken: Sendable {
    /// Longer tokens are refused before anything of them is read.
    static let byteLimit = 8 * 1024

    let algorithm: SigningAlgorithm
    /// The `kid` of the header, which selects a key within a JWKS. Nothing else in the header does: `jku`, `jwk`, `x5u` and `x5c` would let
    /// the sender bring a key of its own.
    let keyID: String?
    /// Header and payload as they were sent: what the signature is over.
    let signingInput: ArraySlice<UInt8>
    let payload: [UInt8]
    let signature: [UInt8]

    init(_ token: String) throws(TokenRejection) {
        guard token.utf8.count <= Self.byteLimit else { throw .malformed }
        let bytes = Array(token.utf8)
        let dot = UInt8(ascii: ".")
        guard let first = bytes.firstIndex(of: dot), let second = bytes[(first + 1)...].firstIndex(of: dot) else { throw .malformed }

        let header = try Header(encoded: bytes[..<first])
        guard let algorithm = SigningAlgorithm(rawValue: header.algorithm) else { throw .algorithmNotAllowed }
        // A third dot is no base64url, so five parts (an encrypted token) fail here.
        guard
            let payload = Base64URL.decode(bytes[(first + 1)..<second]),
            let signature = Base64URL.decode(bytes[(second + 1)...])
        else { throw .malformed }

        self.algorithm = algorithm
        self.keyID = header.keyID
        self.signingInput = bytes[..<second]
        self.payload = payload
        self.signature = signature
    }
}

/// The fields of a JOSE header that are looked at.
private struct Header: Decodable {
    let algorithm: String
    let keyID: String?

    enum CodingKeys: String, CodingKey {
        case algorithm = "alg"
        case keyID = "kid"
        case critical = "crit"
    }

    init(encoded: some Collection<UInt8>) throws(TokenRejection) {
        guard
            let json = Base64URL.decode(encoded),
            let header = try? JSONDecoder().decode(Header.self, from: Data(json))
        else { throw .malformed }
        self = header
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        algorithm = try container.decode(String.self, forKey: .algorithm)
        keyID = try container.decodeIfPresent(String.self, forKey: .keyID)
        // An extension that must be understood (RFC 7515, 4.1.11), and none is.
        guard !container.contains(.critical) else {
            throw DecodingError.dataCorruptedError(forKey: .critical, in: container, debugDescription: "No critical extension is supported.")
        }
    }
}
