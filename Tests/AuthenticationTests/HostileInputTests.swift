import Authentication
import Foundation
import SeededRandom
import Testing

@Suite("Hostile tokens")
struct HostileInputTests {
    let configuration = TokenConfiguration(secret: Fixture.secret)

    @Test(
        "what is no compact JWS is malformed",
        arguments: [
            "", ".", "..", "...", "....", "a", "a.b", "a.b.c", "e30..", "e30.e30.", "bnVsbA.e30.", "W10.e30.", "IkhTMjU2Ig.e30.", "\u{0}.\u{0}.\u{0}",
            "é.é.é", "Bearer x.y.z", "🦉",
        ]
    )
    func noToken(_ token: String) async throws {
        #expect(await outcome(try makeVerifier(configuration), token) == .failure(.malformed))
    }

    @Test("four and five parts are malformed")
    func tooManyParts() async throws {
        let token = RawToken.hs256(Fixture.payload)
        for text in [token + ".", token + ".e30", token + ".e30.e30", "." + token] {
            #expect(await outcome(try makeVerifier(configuration), text) == .failure(.malformed))
        }
    }

    @Test("a token has one spelling: padding, blanks and the other base64 alphabet are malformed")
    func spelling() async throws {
        let verifier = try makeVerifier(configuration)
        let token = RawToken.hs256(#"{"sub":"a??>>~~","exp":1800000600}"#)
        #expect(await outcome(verifier, token).map(\.user) == .success("a??>>~~"))
        let parts = token.split(separator: ".").map(String.init)
        for text in [token + "=", token + "\n", " " + token, "\(parts[0])=.\(parts[1]).\(parts[2])", "\(parts[0]).\(parts[1])=.\(parts[2])"] {
            #expect(await outcome(verifier, text) == .failure(.malformed))
        }
        let other = parts[1].replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
        #expect(other != parts[1])
        #expect(await outcome(verifier, "\(parts[0]).\(other).\(parts[2])") == .failure(.malformed))
    }

    @Test("stray bits in the last character of a signature are malformed")
    func strayBits() async throws {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        let token = RawToken.hs256(Fixture.payload)
        let last = try #require(token.last.flatMap(alphabet.firstIndex(of:)))
        // 32 bytes leave two unused bits in the last character.
        for stray in 1...3 {
            #expect(await outcome(try makeVerifier(configuration), token.dropLast() + String(alphabet[last | stray])) == .failure(.malformed))
        }
    }

    @Test("a crit header is refused", arguments: [#"["exp"]"#, #"["b64"]"#, "[]", "null", #""exp""#])
    func critical(_ value: String) async throws {
        let token = RawToken.hs256(Fixture.payload, header: #"{"alg":"HS256","crit":\#(value),"b64":false}"#)
        #expect(await outcome(try makeVerifier(configuration), token) == .failure(.malformed))
    }

    @Test("a header with fields of the wrong kind is malformed", arguments: [#"{}"#, #"{"alg":7}"#, #"{"alg":null}"#, #"{"alg":["HS256"]}"#, #"{"alg":"HS256","kid":7}"#])
    func header(_ header: String) async throws {
        #expect(await outcome(try makeVerifier(configuration), RawToken.hs256(Fixture.payload, header: header)) == .failure(.malformed))
    }

    @Test(
        "a signed payload that is no object of claims is malformed",
        arguments: ["", "null", "[]", "7", #""x""#, "{", #"{"sub":"a","exp":1800000600"#, #"{"sub":"\ud800","exp":1800000600}x"#, "\u{0}"]
    )
    func payload(_ payload: String) async throws {
        #expect(await outcome(try makeVerifier(configuration), RawToken.hs256(payload)) == .failure(.malformed))
    }

    @Test("payloads nested deeply or with bytes that are no text are malformed")
    func oddPayloads() async throws {
        let verifier = try makeVerifier(configuration)
        let nested = #"{"sub":"a","exp":1800000600,"x":\#(String(repeating: "[", count: 2500))\#(String(repeating: "]", count: 2500))}"#
        #expect(await outcome(verifier, RawToken.hs256(nested)) == .failure(.malformed))
        let input = RawToken.base64URL(#"{"alg":"HS256"}"#) + "." + RawToken.base64URL(Data([0x7B, 0xFF, 0xFE, 0x7D]))
        let signed = RawToken.hs256("").split(separator: ".")
        #expect(await outcome(verifier, input + "." + signed[signed.count - 1]) == .failure(.badSignature))
    }

    @Test("a token of 8 KiB is read, and one byte more is refused before it is")
    func size() async throws {
        let verifier = try makeVerifier(configuration)
        func token(filler: Int) -> String {
            RawToken.hs256(#"{"sub":"a","exp":1800000600,"x":"\#(String(repeating: "x", count: filler))"}"#)
        }
        let filler = try #require((5900..<6200).last { token(filler: $0).utf8.count <= 8192 })
        #expect(await outcome(verifier, token(filler: filler)).map(\.user) == .success("a"))
        #expect(await outcome(verifier, token(filler: filler + 2)) == .failure(.malformed))
        #expect(verifier.verifyCached(token(filler: filler + 2)) == nil)
        #expect(await outcome(verifier, String(repeating: "x", count: 10_000_000)) == .failure(.malformed))
    }

    @Test("random damage to good tokens never verifies and never crashes", arguments: 0..<8)
    func damage(_ seed: Int) async throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret, publicKeyPEM: TestKey.p256.publicPEM))
        let good = [RawToken.hs256(Fixture.payload), try TestKey.p256.token()]
        for _ in 0..<250 {
            let original = Array(good[Int.random(in: 0..<2, using: &random)].utf8)
            var bytes = original
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0..<128, using: &random)
                case 1: bytes.remove(at: place)
                default: bytes.insert(UInt8.random(in: 0..<128, using: &random), at: place)
                }
            }
            guard bytes != original else { continue }
            let result = await outcome(verifier, String(decoding: bytes, as: UTF8.self))
            #expect(throws: TokenRejection.self) { try result.get() }
        }
    }

    @Test("signed payloads of random JSON pieces never crash", arguments: 0..<4)
    func randomClaims(_ seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let verifier = try makeVerifier(configuration)
        let names = ["sub", "exp", "nbf", "iss", "aud", "role", "roles", "customers", "jti"]
        let values = [
            "null", "true", "0", "-1", "1e308", "-1e308", "1800000600", "0.5", "1e-400", "18446744073709551616", #""""#, #""a""#, #""\u0000""#, "[]", "[[]]",
            "{}", #"["a"]"#, #"[1]"#, #"{"a":1}"#, "\"\u{FEFF}\"",
        ]
        for _ in 0..<500 {
            let claims = (0..<Int.random(in: 0..<10, using: &random)).map { _ in
                "\"\(names.randomElement(using: &random) ?? "")\":\(values.randomElement(using: &random) ?? "")"
            }
            do {
                let user = try verifier.verifySynchronously(RawToken.hs256("{\(claims.joined(separator: ","))}"))
                #expect(user?.user == "a")
            } catch {
                #expect(error != .badSignature && error != .keysUnavailable)
            }
        }
    }

    @Test("neither tokens nor secrets reach a log or an error's text")
    func silence() async throws {
        let log = LogCapture()
        try await KeyServer.with(.answer(try keySet([TestKey.rsa.jwk("k1")]))) { server in
            let verifier = try makeVerifier(
                TokenConfiguration(secret: Fixture.secret, publicKeyPEM: TestKey.p256.publicPEM, jwks: server.url, issuer: "i"), log: log
            )
            let tokens = [
                RawToken.hs256(Fixture.payload), RawToken.hs256(#"{"sub":"a"}"#), RawToken.hs256("{"), try TestKey.p256.token(),
                try TestKey.rsa.token(keyID: "k1"), try TestKey.rsa.token(keyID: "k2"), "x.y.z",
            ]
            for token in tokens { _ = await outcome(verifier, token) }
            server.behaviour = .status(500)
            let unknown = try TestKey.rsa.token(keyID: "k3")
            _ = await outcome(verifier, unknown)
            #expect(!log.lines.isEmpty)
            for line in log.lines {
                #expect(!line.contains(Fixture.secret))
                for token in tokens + [unknown] {
                    for part in token.split(separator: ".") where part.count > 8 { #expect(!line.contains(part)) }
                }
            }
        }
    }
}
