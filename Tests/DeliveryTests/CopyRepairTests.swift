import NotificationCore
import Testing

@testable import Delivery
@testable import NotificationStore

struct CopyRepairTests {
    private let alice = UserID("alice")!
    private let bob = UserID("bob")!

    private func commit(_ changes: [UserID: Int64]) -> CommitTail.Commit {
        CommitTail.Commit(users: Array(changes.keys), lastSeqs: Array(changes.values), ageMilliseconds: 0)
    }

    @Test("a copy is looked at one turn after the user's last commit, for the highest number of a turn")
    func turn() {
        var waiting: [UserID: CopyRepair.Expected] = [:]
        #expect(CopyRepair.turn(&waiting, [commit([alice: 3]), commit([alice: 5, bob: 1]), commit([alice: 4])]) == [:])
        #expect(CopyRepair.turn(&waiting, []) == [alice: 5, bob: 1])
        #expect(CopyRepair.turn(&waiting, []) == [:])
    }

    @Test("whoever is written to in every turn is looked at all the same, after some of them")
    func patience() {
        var waiting: [UserID: CopyRepair.Expected] = [:]
        var looks: [[UserID: Int64]] = []
        for seq in 1...14 { looks.append(CopyRepair.turn(&waiting, [commit([alice: Int64(seq)])])) }
        // Of what was there a turn before.
        #expect(looks.enumerated().filter { !$0.element.isEmpty }.map(\.offset) == [6, 12])
        #expect(looks[6] == [alice: 6] && looks[12] == [alice: 12])
    }
}
