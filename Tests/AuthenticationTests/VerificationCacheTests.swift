@testable import Authentication
import Testing

@Suite("Remembered tokens")
struct VerificationCacheTests {
    private func token(_ user: Int, expiry: Int64 = 1_800_000_600) -> String {
        RawToken.hs256(#"{"sub":"u\#(user)","exp":\#(expiry)}"#)
    }

    @Test("a verified token is remembered until it ends")
    func untilExpiry() throws {
        let time = TestTime()
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret), time: time)
        #expect(verifier.verifyCached(token(1)) == nil)
        _ = try verifier.verifySynchronously(token(1))
        #expect(verifier.verifyCached(token(1))?.user == "u1")
        time.now = 1_800_000_599
        #expect(verifier.verifyCached(token(1))?.user == "u1")
        time.now = 1_800_000_600
        #expect(verifier.verifyCached(token(1)) == nil)
        #expect(throws: TokenRejection.expired) { try verifier.verifySynchronously(token(1)) }
        #expect(verifier.statistics.cachedTokens == 0)
    }

    @Test("refused tokens are not remembered")
    func refused() throws {
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret))
        for _ in 0..<2 {
            #expect(throws: TokenRejection.expired) { try verifier.verifySynchronously(token(1, expiry: 5)) }
            #expect(throws: TokenRejection.badSignature) { try verifier.verifySynchronously(token(1) + "AAAA") }
        }
        #expect(verifier.statistics.cachedTokens == 0)
    }

    @Test("when it is full the oldest makes room, and evictions are counted")
    func bound() throws {
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret), cacheCapacity: 3)
        for user in 1...4 { _ = try verifier.verifySynchronously(token(user)) }
        #expect(verifier.verifyCached(token(1)) == nil)
        for user in 2...4 { #expect(verifier.verifyCached(token(user))?.user == "u\(user)") }
        #expect(verifier.statistics.cachedTokens == 3)
        #expect(verifier.statistics.cacheEvictions == 1)
        #expect(verifier.statistics.cacheHits == 3)
    }

    @Test("the cache agrees with a plain model through many insertions, removals and flushes")
    func model() throws {
        var cache = TokenCache(capacity: 5)
        var slots: [String?] = []
        var random = SystemRandomNumberGenerator()
        let user = try #require(UserToken(user: "a", expiresAt: 1))
        for _ in 0..<3000 {
            let text = String(UInt8.random(in: 0..<12, using: &random))
            let key = TokenCache.key(for: text)
            switch Int.random(in: 0..<20, using: &random) {
            case 0:
                cache.removeAll()
                slots = []
            case 1...5:
                cache.remove(key)
                // A removed entry leaves its place in the queue empty.
                if let place = slots.firstIndex(of: text) { slots[place] = nil }
            default:
                cache.insert(user, for: key)
                if !slots.contains(text) {
                    slots.append(text)
                    if slots.count > 5 { slots.removeFirst() }
                }
            }
            let live = Set(slots.compactMap { $0 })
            #expect(cache.count == live.count)
            for number in 0..<12 {
                #expect((cache[TokenCache.key(for: String(number))] != nil) == live.contains(String(number)))
            }
        }
    }
}
