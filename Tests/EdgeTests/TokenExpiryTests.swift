import Testing

@testable import Edge

@Suite("the end of a stream's token")
struct TokenExpiryTests {
    /// The moments at which it is said, until it has ended, when each time the token is sent again that `renewed` answers.
    private func warnings(_ expiry: TokenExpiry, _ renewed: (Int64) -> Int64?) -> [Int64] {
        var expiry = expiry
        var moments: [Int64] = []
        for now in 0..<min(expiry.at, 1000) where expiry.takeWarning(now: now) {
            moments.append(now)
            #expect(expiry.next(isWarned: false) == expiry.at)
            if let end = renewed(now) { expiry.renew(until: end, now: now, lead: 60) }
        }
        return moments
    }

    @Test("is said once, a minute before")
    func once() {
        #expect(self.warnings(TokenExpiry(at: 300, lead: 60)) { _ in nil } == [240])
        #expect(self.warnings(TokenExpiry(at: 20, lead: 60)) { _ in nil } == [0])
    }

    @Test("is said again a minute before the next one's, not before")
    func renewed() { #expect(self.warnings(TokenExpiry(at: 300, lead: 60)) { _ in 900 } == [240]) }

    @Test("a token that is sent again though it is about to end is not asked for every second")
    func same() { #expect(self.warnings(TokenExpiry(at: 300, lead: 60)) { _ in 300 } == [240, 270, 285, 293, 297, 299]) }

    @Test("tokens of less than the lead are renewed at half of their time")
    func short() {
        var moments: [Int64] = []
        var expiry = TokenExpiry(at: 30, lead: 60)
        for now in 0..<100 as Range<Int64> where expiry.takeWarning(now: now) {
            moments.append(now)
            expiry.renew(until: now + 30, now: now, lead: 60)
        }
        #expect(moments == [0, 15, 30, 45, 60, 75, 90])
    }

    @Test("an older token takes nothing away")
    func older() {
        var expiry = TokenExpiry(at: 300, lead: 60)
        expiry.renew(until: 200, now: 10, lead: 60)
        #expect(expiry.at == 300 && expiry.next(isWarned: false) == 240)
    }

    @Test("a poll is not told")
    func silent() {
        var expiry = TokenExpiry(at: 300, lead: 60)
        expiry.isSilent = true
        #expect(!expiry.takeWarning(now: 299) && expiry.next(isWarned: false) == 300)
    }
}
