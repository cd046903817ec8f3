import Authentication
import Foundation
import JWTKit
import Testing

@Suite("Minted tokens")
struct TokenMinterTests {
    @Test("a minted token verifies with all that it was given")
    func roundTrip() throws {
        let minter = TokenMinter(secret: Fixture.secret, issuer: "https://id", audience: "carillon")
        let token = try minter.mint(user: "ada", role: "admin", customers: ["c1", "c2"], ttlSeconds: 3600, now: Fixture.now)
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret, issuer: "https://id", audience: "carillon"))
        let user = try verifier.verifySynchronously(token)
        #expect(user == UserToken(user: "ada", roles: ["admin"], customers: ["c1", "c2"], expiresAt: Fixture.now + 3600))
    }

    @Test("any possible id survives", arguments: ["{}", "a/b", #"quote " and \ "#, "🦉", "\u{2028}", "100%", "</script>", "\u{FEFF}x"])
    func ids(_ user: String) throws {
        let minter = TokenMinter(secret: Fixture.secret, issuer: "tab\tand \"quote\"", audience: nil)
        let token = try minter.mint(user: user, role: user, customers: [user], ttlSeconds: 1, now: Fixture.now)
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret, issuer: "tab\tand \"quote\""))
        #expect(try verifier.verifySynchronously(token) == UserToken(user: user, roles: [user], customers: [user], expiresAt: Fixture.now + 1))
    }

    @Test("another implementation verifies a minted token")
    func libraryVerifies() async throws {
        let token = try TokenMinter(secret: Fixture.secret, issuer: nil, audience: "carillon")
            .mint(user: "ada", role: nil, customers: [], ttlSeconds: 600, now: Fixture.now)
        let payload = try await JWTKeyCollection().add(hmac: HMACKey(from: Fixture.secret), digestAlgorithm: .sha256)
            .verify(token, as: LibraryPayload.self)
        #expect(payload.sub.value == "ada")
        #expect(payload.aud?.value == ["carillon"])
        #expect(payload.exp.value == Date(timeIntervalSince1970: 1_800_000_600))
    }

    @Test("what would not be accepted is not minted")
    func refused() {
        let minter = TokenMinter(secret: Fixture.secret, issuer: nil, audience: nil)
        func code(_ minter: TokenMinter, user: String = "a", customers: [String]? = nil, ttl: Int = 60, now: Int64 = Fixture.now) -> TokenMintingError.Code? {
            #expect(throws: TokenMintingError.self) {
                try minter.mint(user: user, role: nil, customers: customers, ttlSeconds: ttl, now: now)
            }?.code
        }
        #expect(code(TokenMinter(secret: "short", issuer: nil, audience: nil)) == .weakSecret)
        #expect(code(minter, user: "") == .invalidUser)
        #expect(code(minter, user: "a\n") == .invalidUser)
        #expect(code(minter, customers: [""]) == .invalidCustomer)
        #expect(code(minter, ttl: 0) == .invalidLife)
        #expect(code(minter, ttl: .max) == .invalidLife)
        #expect(code(minter, now: .max) == .invalidLife)
        #expect(code(minter, customers: (0..<500).map { "customer-\($0)-\(String(repeating: "x", count: 20))" }) == .tooLong)
    }

    @Test("minting a hundred thousand tokens gives as many different ones")
    func many() throws {
        let minter = TokenMinter(secret: Fixture.secret, issuer: nil, audience: nil)
        var last = ""
        for number in 0..<100_000 {
            let token = try minter.mint(user: "user\(number)", role: nil, customers: nil, ttlSeconds: 60, now: Fixture.now)
            try #require(token != last)
            last = token
        }
        #expect(try makeVerifier(TokenConfiguration(secret: Fixture.secret)).verifySynchronously(last)?.user == "user99999")
    }
}
