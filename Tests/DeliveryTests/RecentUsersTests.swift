import NotificationCore
import Testing

@testable import Delivery

@Suite("the users that changed last")
struct RecentUsersTests {
    private static func user(_ number: Int) -> UserID { UserID("user-\(number)")! }

    @Test("a sample has different users, and no more than there are")
    func sample() {
        var recent = RecentUsers(bound: 10)
        #expect(recent.sample(5).isEmpty)
        for number in 0..<3 { recent.add(Self.user(number)) }
        #expect(Set(recent.sample(5)) == Set((0..<3).map(Self.user)))
        for _ in 0..<50 { #expect(Set(recent.sample(2)).count == 2) }
    }

    @Test("the newest are in every sample")
    func newest() {
        var recent = RecentUsers(bound: 8)
        for number in 0..<30 {
            recent.add(Self.user(number))
            for _ in 0..<5 { #expect(Set(recent.sample(4)).isSuperset(of: (max(0, number - 1)...number).map(Self.user))) }
        }
    }

    @Test("the oldest goes first, and one that comes again does not push another out")
    func bound() {
        var recent = RecentUsers(bound: 3)
        for number in [0, 1, 2, 2, 1, 0] { recent.add(Self.user(number)) }
        #expect(Set(recent.sample(9)) == Set([0, 1, 2].map(Self.user)))
        recent.add(Self.user(3))
        recent.add(Self.user(4))
        #expect(Set(recent.sample(9)) == Set([2, 3, 4].map(Self.user)))
        recent.add(Self.user(0))
        #expect(Set(recent.sample(9)) == Set([0, 3, 4].map(Self.user)))
    }
}
