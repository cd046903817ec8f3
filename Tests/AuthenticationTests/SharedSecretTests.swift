import Authentication
import Crypto
import Foundation
import JWTKit
import Testing

@Suite("Tokens with a shared secret")
struct SharedSecretTests {
    let configuration = TokenConfiguration(secret: Fixture.secret)

    @Test("a token is verified without waiting")
    func synchronous() throws {
        let token = RawToken.hs256(#"{"sub":"ada","exp":1800000600,"role":"admin","customers":["c1"],"jti":"t-1"}"#)
        let user = try #require(try makeVerifier(configuration).verifySynchronously(token))
        #expect(user == UserToken(user: "ada", roles: ["admin"], customers: ["c1"], expiresAt: 1_800_000_600, id: "t-1"))
        #expect(user.isAdmin)
    }

    @Test("a token of another implementation is verified")
    func libraryToken() async throws {
        let payload = LibraryPayload(sub: "ada", exp: .init(value: Date(timeIntervalSince1970: 1_800_000_600)), roles: ["editor"])
        let token = try await JWTKeyCollection().add(hmac: HMACKey(from: Fixture.secret), digestAlgorithm: .sha256).sign(payload)
        let user = try await makeVerifier(configuration).verify(token)
        #expect(user == UserToken(user: "ada", roles: ["editor"], expiresAt: 1_800_000_600))
    }

    @Test("the header and payload of RFC 7515, appendix A.1, with their line breaks, are read: long expired")
    func exampleOfTheSpecification() throws {
        // Signed anew, since the example's key is no text.
        let header = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        let mac = HMAC<SHA256>.authenticationCode(
            for: Data("\(header).\(payload)".utf8), using: SymmetricKey(data: Data(Fixture.secret.utf8))
        )
        let verifier = try makeVerifier(configuration)
        #expect(throws: TokenRejection.expired) { try verifier.verifySynchronously("\(header).\(payload).\(RawToken.base64URL(Data(mac)))") }
    }

    @Test("another secret's signature is bad")
    func otherSecret() throws {
        let token = RawToken.hs256(Fixture.payload, secret: Fixture.secret + "!")
        let verifier = try makeVerifier(configuration)
        #expect(throws: TokenRejection.badSignature) { try verifier.verifySynchronously(token) }
    }

    @Test("a changed payload or header has a bad signature")
    func tampered() throws {
        let parts = RawToken.hs256(Fixture.payload).split(separator: ".").map(String.init)
        let verifier = try makeVerifier(configuration)
        let otherPayload = RawToken.base64URL(#"{"sub":"eve","exp":1800000600}"#)
        let otherHeader = RawToken.base64URL(#"{"alg":"HS256"}"#)
        #expect(throws: TokenRejection.badSignature) { try verifier.verifySynchronously("\(parts[0]).\(otherPayload).\(parts[2])") }
        #expect(throws: TokenRejection.badSignature) { try verifier.verifySynchronously("\(otherHeader).\(parts[1]).\(parts[2])") }
    }

    @Test("a signature is refused with any one of its bits turned, cut short, prolonged or absent")
    func everyBitOfTheSignature() throws {
        let parts = RawToken.hs256(Fixture.payload).split(separator: ".").map(String.init)
        let input = "\(parts[0]).\(parts[1])"
        let mac = Array(HMAC<SHA256>.authenticationCode(for: Data(input.utf8), using: SymmetricKey(data: Data(Fixture.secret.utf8))))
        var signatures = (0..<256).map { bit in
            var changed = mac
            changed[bit / 8] ^= 1 << (bit % 8)
            return changed
        }
        signatures += [[], Array(mac.dropLast()), mac + [0]]
        let verifier = try makeVerifier(configuration)
        for signature in signatures {
            #expect(throws: TokenRejection.badSignature) { try verifier.verifySynchronously("\(input).\(RawToken.base64URL(signature))") }
        }
    }
}
