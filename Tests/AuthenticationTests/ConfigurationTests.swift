import Authentication
import Crypto
import CryptoExtras
import Foundation
import Testing

@Suite("Settings")
struct ConfigurationTests {
    private func fault(_ configuration: TokenConfiguration) -> TokenConfigurationError? {
        #expect(throws: TokenConfigurationError.self) { try TokenVerifier(configuration: configuration, logger: LogCapture().logger) }
    }

    @Test("no key at all is refused")
    func nothing() {
        #expect(fault(TokenConfiguration())?.code == .noKey)
    }

    @Test("a secret of 31 bytes is refused by name and without its value, one of 32 is taken")
    func shortSecret() throws {
        let secret = String(repeating: "é", count: 15) + "x"
        let error = try #require(fault(TokenConfiguration(secret: secret)))
        #expect(error.code == .weakSecret)
        #expect(error.setting == "CARILLON_JWT_SECRET")
        #expect(error.description.hasPrefix("CARILLON_JWT_SECRET: "))
        #expect(!error.description.contains(secret))
        #expect(!error.description.contains("\n"))
        _ = try makeVerifier(TokenConfiguration(secret: secret + "x"))
    }

    @Test("a public key given as the secret is refused")
    func keyAsSecret() {
        #expect(fault(TokenConfiguration(secret: TestKey.rsa.publicPEM))?.code == .secretIsPublic)
    }

    @Test("a PEM that cannot verify is refused by name")
    func badPEM() throws {
        let weak = try _RSA.Signing.PrivateKey(unsafeKeySize: .init(bitCount: 1024))
        let pems = [
            "", "hello", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            P384.Signing.PrivateKey().publicKey.pemRepresentation, P256.Signing.PrivateKey().pemRepresentation, weak.publicKey.pemRepresentation,
        ]
        for pem in pems {
            let error = try #require(fault(TokenConfiguration(publicKeyPEM: pem)))
            #expect(error.code == .invalidPublicKey)
            #expect(error.setting == "CARILLON_JWT_PUBLIC_KEY")
        }
    }

    @Test(
        "a JWKS that can be none is refused by name",
        arguments: [
            "", "ftp://host/keys", "http://", "https:///keys", "https://user:password@host/keys", "/no/such/file.json", "/", "/dev/null", "/dev/zero",
        ]
    )
    func badJWKS(_ setting: String) throws {
        let error = try #require(fault(TokenConfiguration(jwks: setting)))
        #expect(error.code == .invalidJWKS)
        #expect(error.setting == "CARILLON_JWT_JWKS")
        #expect(!error.description.contains("password@"))
    }

    @Test("a JWKS file that is too large or no key set is refused at the start")
    func badFile() throws {
        let good = try keySet([TestKey.p256.jwk("k")])
        for text in ["", "[]", #"{"keys":[]}"#, good + String(repeating: " ", count: 1024 * 1024)] {
            let file = try TemporaryFile(text)
            #expect(fault(TokenConfiguration(jwks: file.path))?.code == .invalidJWKS)
        }
    }

    @Test("empty claims and odd leeways are refused by name")
    func claims() {
        #expect(fault(TokenConfiguration(secret: Fixture.secret, issuer: ""))?.setting == "CARILLON_JWT_ISSUER")
        #expect(fault(TokenConfiguration(secret: Fixture.secret, audience: ""))?.setting == "CARILLON_JWT_AUDIENCE")
        #expect(fault(TokenConfiguration(secret: Fixture.secret, leeway: -1))?.code == .invalidLeeway)
        #expect(fault(TokenConfiguration(secret: Fixture.secret, leeway: 301))?.code == .invalidLeeway)
    }
}
