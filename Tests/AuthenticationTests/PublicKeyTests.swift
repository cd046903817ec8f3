import Authentication
import Crypto
import Foundation
import JWTKit
import Testing

@Suite("Tokens with a public key")
struct PublicKeyTests {
    @Test("a token of each algorithm is verified with its PEM", arguments: TestKey.all)
    func pem(_ key: TestKey) async throws {
        let verifier = try makeVerifier(TokenConfiguration(publicKeyPEM: key.publicPEM))
        #expect(verifier.keysAvailable)
        let token = try key.token()
        #expect(try verifier.verifySynchronously(token) == nil)
        #expect(try await verifier.verify(token).user == "ada")
        #expect(try verifier.verifySynchronously(token)?.user == "ada")
    }

    @Test("a token of another implementation is verified", arguments: TestKey.all)
    func libraryToken(_ key: TestKey) async throws {
        let payload = LibraryPayload(
            sub: "ada", exp: .init(value: Date(timeIntervalSince1970: 1_800_000_600)), aud: AudienceClaim(value: ["web", "carillon"]), roles: ["editor"]
        )
        let verifier = try makeVerifier(TokenConfiguration(publicKeyPEM: key.publicPEM, audience: "carillon"))
        let token = try await key.signWithLibrary(payload, "any")
        #expect(try await verifier.verify(token) == UserToken(user: "ada", roles: ["editor"], expiresAt: 1_800_000_600))
    }

    @Test("line breaks in a PEM may be written as backslash and n", arguments: TestKey.all)
    func escapedLineBreaks(_ key: TestKey) async throws {
        let pem = key.publicPEM.replacingOccurrences(of: "\n", with: "\\n")
        let verifier = try makeVerifier(TokenConfiguration(publicKeyPEM: pem))
        #expect(try await verifier.verify(key.token()).user == "ada")
    }

    @Test("a changed payload, a changed signature and another key's signature are bad", arguments: TestKey.all)
    func tampered(_ key: TestKey) async throws {
        let verifier = try makeVerifier(TokenConfiguration(publicKeyPEM: key.publicPEM))
        let parts = try key.token().split(separator: ".").map(String.init)
        let signature = try key.sign(Data("\(parts[0]).\(parts[1])".utf8))
        var flipped = signature
        flipped[flipped.startIndex + 5] ^= 1
        let other = RawToken.base64URL(#"{"sub":"eve","exp":1800000600}"#)
        let tokens = [
            "\(parts[0]).\(other).\(parts[2])",
            "\(parts[0]).\(parts[1]).\(RawToken.base64URL(flipped))",
            "\(parts[0]).\(parts[1]).\(RawToken.base64URL(signature.dropLast()))",
            "\(parts[0]).\(parts[1]).\(RawToken.base64URL(signature + [0]))",
            "\(parts[0]).\(parts[1]).\(RawToken.base64URL(Data(count: signature.count)))",
            "\(parts[0]).\(parts[1]).",
        ]
        for token in tokens {
            #expect(await outcome(verifier, token) == .failure(.badSignature))
        }
    }

    @Test("a public key used as a secret is refused", arguments: TestKey.all)
    func publicKeyAsSecret(_ key: TestKey) async throws {
        let forms = [key.publicPEM, key.publicPEM.trimmingCharacters(in: .newlines), key.publicPEM.replacingOccurrences(of: "\n", with: "")]
        let forged = forms.map { RawToken.hs256(Fixture.payload, secret: $0) }
        let alone = try makeVerifier(TokenConfiguration(publicKeyPEM: key.publicPEM))
        let besideSecret = try makeVerifier(TokenConfiguration(secret: Fixture.secret, publicKeyPEM: key.publicPEM))
        for token in forged {
            #expect(await outcome(alone, token) == .failure(.algorithmNotAllowed))
            #expect(await outcome(besideSecret, token) == .failure(.badSignature))
        }
    }

    @Test("a header that names another algorithm finds no key", arguments: TestKey.all)
    func otherAlgorithm(_ key: TestKey) async throws {
        let verifier = try makeVerifier(TokenConfiguration(publicKeyPEM: key.publicPEM))
        for name in ["RS256", "ES256", "EdDSA", "HS256"] where name != key.algorithm {
            #expect(await outcome(verifier, try key.token(algorithm: name)) == .failure(.algorithmNotAllowed))
        }
    }

    @Test("a token with a public key's algorithm is refused where only a secret is set", arguments: TestKey.all)
    func secretOnly(_ key: TestKey) throws {
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret))
        let token = try key.token()
        #expect(throws: TokenRejection.algorithmNotAllowed) { try verifier.verifySynchronously(token) }
    }

    @Test("a secret and a public key serve side by side", arguments: TestKey.all)
    func both(_ key: TestKey) async throws {
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret, publicKeyPEM: key.publicPEM))
        #expect(try await verifier.verify(key.token()).user == "ada")
        #expect(try await verifier.verify(RawToken.hs256(Fixture.payload)).user == "ada")
    }

    @Test(
        "algorithms outside of the four are refused, whatever the signature",
        arguments: ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS384", "RS512", "PS256", "ES384", "ES256K", "hs256", "Ed25519", "RSA-OAEP", "dir"]
    )
    func otherAlgorithms(_ name: String) async throws {
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret, publicKeyPEM: TestKey.rsa.publicPEM))
        let header = #"{"alg":"\#(name)","typ":"JWT"}"#
        let unsigned = RawToken.make(header: header, payload: Fixture.payload) { _ in Data() }
        #expect(await outcome(verifier, unsigned) == .failure(.algorithmNotAllowed))
        #expect(await outcome(verifier, RawToken.hs256(Fixture.payload, header: header)) == .failure(.algorithmNotAllowed))
    }

    @Test("a key that the token itself brings is not used")
    func ownKey() async throws {
        let attacker = TestKey.makeP256()
        let jwk = String(decoding: try JSONEncoder().encode(attacker.jwkFields), as: UTF8.self)
        let verifier = try makeVerifier(TokenConfiguration(publicKeyPEM: TestKey.p256.publicPEM))
        for field in [#""jwk":\#(jwk)"#, #""jku":"http://127.0.0.1:9/keys""#, #""x5u":"http://127.0.0.1:9/cert""#] {
            let token = try RawToken.make(header: #"{"alg":"ES256",\#(field)}"#, payload: Fixture.payload, sign: attacker.sign)
            #expect(await outcome(verifier, token) == .failure(.badSignature))
        }
    }
}
