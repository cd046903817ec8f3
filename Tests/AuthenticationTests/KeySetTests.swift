import Authentication
import Foundation
import JWTKit
import Testing

@Suite("Key sets")
struct KeySetTests {
    @Test("a token of each algorithm is verified with its key of the set", arguments: TestKey.all)
    func eachAlgorithm(_ key: TestKey) async throws {
        let file = try TemporaryFile(keySet(TestKey.all.map { $0.jwk("key-\($0.algorithm)") }))
        let verifier = try makeVerifier(TokenConfiguration(jwks: file.path))
        #expect(verifier.keysAvailable)
        #expect(try await verifier.verify(key.token(keyID: "key-\(key.algorithm)")).user == "ada")
        let payload = LibraryPayload(sub: "ada", exp: .init(value: Date(timeIntervalSince1970: 1_800_000_600)))
        #expect(try await verifier.verify(key.signWithLibrary(payload, "key-\(key.algorithm)")).user == "ada")
    }

    @Test("the kid selects the key, and no other is tried")
    func selection() async throws {
        let (one, two) = (TestKey.makeP256(), TestKey.makeP256())
        let file = try TemporaryFile(keySet([one.jwk("one"), two.jwk("two")]))
        let verifier = try makeVerifier(TokenConfiguration(jwks: file.path))
        #expect(try await verifier.verify(one.token(keyID: "one")).user == "ada")
        #expect(try await verifier.verify(two.token(keyID: "two")).user == "ada")
        #expect(await outcome(verifier, try one.token(keyID: "two")) == .failure(.badSignature))
        #expect(await outcome(verifier, try one.token(keyID: "three")) == .failure(.unknownKey))
        #expect(await outcome(verifier, try one.token(keyID: nil)) == .failure(.unknownKey))
    }

    @Test("without a kid the only key of the algorithm is meant")
    func withoutName() async throws {
        let file = try TemporaryFile(keySet(TestKey.all.map { $0.jwk(nil) }))
        let verifier = try makeVerifier(TokenConfiguration(jwks: file.path))
        for key in TestKey.all { #expect(try await verifier.verify(key.token()).user == "ada") }
        #expect(await outcome(verifier, try TestKey.makeP256().token()) == .failure(.badSignature))
    }

    @Test("keys of different types may share a kid")
    func sharedName() async throws {
        let file = try TemporaryFile(keySet(TestKey.all.map { $0.jwk("same") }))
        let verifier = try makeVerifier(TokenConfiguration(jwks: file.path))
        for key in TestKey.all { #expect(try await verifier.verify(key.token(keyID: "same")).user == "ada") }
    }

    @Test("a public key of a set is no secret, and a symmetric key of it no key")
    func confusion() async throws {
        let symmetric = ["kty": "oct", "kid": "s", "alg": "HS256", "k": RawToken.base64URL(Fixture.secret)]
        let file = try TemporaryFile(keySet([TestKey.rsa.jwk("r"), symmetric]))
        let verifier = try makeVerifier(TokenConfiguration(jwks: file.path))
        let modulus = try #require(TestKey.rsa.jwkFields["n"])
        for (secret, name) in [(Fixture.secret, "s"), (TestKey.rsa.publicPEM, "r"), (modulus, "r")] {
            let token = RawToken.hs256(Fixture.payload, header: #"{"alg":"HS256","kid":"\#(name)"}"#, secret: secret)
            #expect(await outcome(verifier, token) == .failure(.algorithmNotAllowed))
        }
        // An ES256 token that names the RSA key finds none.
        #expect(await outcome(verifier, try TestKey.p256.token(keyID: "r")) == .failure(.unknownKey))
    }

    @Test("keys for other uses are left out, and do not cost the others")
    func otherUses() async throws {
        let document = """
            {"keys":[7,null,"x",{},{"kty":7},{"kty":"EC","crv":"P-521","kid":"p"},{"kty":"RSA","kid":"a","n":"","e":""},{"kty":"RSA","kid":"b","n":"AQAB","e":"AQAB"},
            {"kty":"OKP","crv":"Ed25519","kid":"c","x":"AA"},{"kty":"OKP","crv":"X25519","kid":"d","x":"AA"},{"kty":"EC","crv":"P-256","kid":"e","x":"AA","y":"AA"},
            \(try json(TestKey.rsa.jwk("pss", ["alg": "PS256"]))),\(try json(TestKey.rsa.jwk("enc", ["use": "enc"]))),
            \(try json(TestKey.p256.jwk("wrong", ["y": TestKey.p256.jwkFields["x"] ?? ""]))),
            \(try json(TestKey.ed25519.jwk("good", ["alg": "EdDSA", "use": "sig"])))]}
            """
        let file = try TemporaryFile(document)
        let verifier = try makeVerifier(TokenConfiguration(jwks: file.path))
        #expect(try await verifier.verify(TestKey.ed25519.token(keyID: "good")).user == "ada")
        for name in ["pss", "enc", "a", "b"] {
            #expect(await outcome(verifier, try TestKey.rsa.token(keyID: name)) == .failure(.unknownKey))
        }
        for name in ["e", "wrong", "p"] {
            #expect(await outcome(verifier, try TestKey.p256.token(keyID: name)) == .failure(.unknownKey))
        }
    }

    @Test("weak and odd RSA numbers make no key", arguments: ["AA", "AQ", "Ag", "Aw", "AQAA", "AQAAAAAAAAAAAAAB"])
    func oddExponents(_ exponent: String) async throws {
        let document = try keySet([TestKey.rsa.jwk("odd", ["e": exponent]), TestKey.ed25519.jwk("good")])
        let file = try TemporaryFile(document)
        let verifier = try makeVerifier(TokenConfiguration(jwks: file.path))
        let result = await outcome(verifier, try TestKey.rsa.token(keyID: "odd"))
        #expect(result == .failure(.unknownKey) || result == .failure(.badSignature))
    }

    @Test("a changed file is read for an unknown kid, and a key that left it no longer verifies")
    func rotationOfAFile() async throws {
        let (old, new) = (TestKey.makeP256(), TestKey.makeP256())
        let file = try TemporaryFile(keySet([old.jwk("old")]))
        let verifier = try makeVerifier(TokenConfiguration(jwks: file.path))
        let oldToken = try old.token(keyID: "old")
        #expect(try await verifier.verify(oldToken).user == "ada")
        #expect(verifier.verifyCached(oldToken) != nil)
        try file.write(keySet([new.jwk("new")]))
        #expect(try await verifier.verify(new.token(keyID: "new")).user == "ada")
        #expect(verifier.verifyCached(oldToken) == nil)
        #expect(await outcome(verifier, oldToken) == .failure(.unknownKey))
    }

    @Test("a file that is damaged or gone leaves the keys as they were", arguments: ["", "{", #"{"keys":[]}"#, #"{"keys":{}}"#, nil] as [String?])
    func damagedFile(_ text: String?) async throws {
        let file = try TemporaryFile(keySet([TestKey.p256.jwk("k")]))
        let verifier = try makeVerifier(TokenConfiguration(jwks: file.path))
        if let text { try file.write(text) } else { try file.remove() }
        #expect(await outcome(verifier, try TestKey.p256.token(keyID: "other")) == .failure(.keysUnavailable))
        #expect(try await verifier.verify(TestKey.p256.token(keyID: "k")).user == "ada")
        #expect(verifier.keysAvailable)
    }

    private func json(_ fields: [String: String]) throws -> String {
        String(decoding: try JSONEncoder().encode(fields), as: UTF8.self)
    }
}
