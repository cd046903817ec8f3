import NotificationCore
import NotificationStore
import SeededRandom
import Testing

@testable import Delivery

@Suite("tasks in a runner's hands")
struct TasksInHandTests {
    private let start = ContinuousClock.now

    private func task(_ number: Int, key: String = "") -> QueuedTask {
        QueuedTask(id: Self.ids[number], queue: .email, key: key, createdAt: Timestamp(seconds: 0))
    }

    private static let ids = (0..<8).map { _ in NotificationID.make() }

    private func numbers(_ tasks: [QueuedTask]) -> [Int] { tasks.compactMap { Self.ids.firstIndex(of: $0.id) } }

    @Test("what is claimed again while it is attempted waits until that is over")
    func again() {
        var hand = TasksInHand()
        hand.ask()
        #expect(self.numbers(hand.got([self.task(0), self.task(1)], asked: self.start, wholeKeys: false).new) == [0, 1])
        hand.ask()
        let sorted = hand.got([self.task(0), self.task(2)], asked: self.start, wholeKeys: false)
        #expect(self.numbers(sorted.new) == [2] && sorted.doubtful.isEmpty && sorted.replaced.isEmpty)
        #expect(hand.over(Self.ids[1]).isEmpty)
        #expect(hand.over(Self.ids[0]).map(self.numbers) == [[0]])
        #expect(hand.leased.count == 2)
        #expect(hand.over(Self.ids[0]).isEmpty)
        #expect(hand.over(Self.ids[2]).isEmpty)
        #expect(hand.leased.isEmpty)
    }

    @Test("what ended while the claim was under way that brings it is asked for once more")
    func ended() {
        var hand = TasksInHand()
        hand.ask()
        _ = hand.got([self.task(0)], asked: self.start, wholeKeys: false)
        hand.ask()
        #expect(hand.over(Self.ids[0]).isEmpty)
        let sorted = hand.got([self.task(0), self.task(1)], asked: self.start, wholeKeys: false)
        #expect(self.numbers(sorted.new) == [1] && self.numbers(sorted.doubtful) == [0])
        hand.ask()
        hand.gotNothing()
        #expect(hand.over(Self.ids[0]).isEmpty)
        // Not since this claim.
        hand.ask()
        #expect(self.numbers(hand.got([self.task(0)], asked: self.start, wholeKeys: false).new) == [0])
    }

    @Test("of a key that is taken as a whole nothing goes ahead, and what only waited is not waited for")
    func wholeKeys() {
        var hand = TasksInHand()
        hand.ask()
        _ = hand.got([self.task(0, key: "a")], asked: self.start, wholeKeys: true)
        hand.ask()
        let sorted = hand.got([self.task(0, key: "a"), self.task(1, key: "a"), self.task(2, key: "b")], asked: self.start, wholeKeys: true)
        #expect(self.numbers(sorted.new) == [2])
        hand.ask()
        // It waits, and is attempted by nobody.
        let later = hand.got([self.task(1, key: "a")], asked: self.start, wholeKeys: true)
        #expect(later.new.isEmpty && later.doubtful.isEmpty && self.numbers(later.replaced) == [1])
        #expect(hand.over(Self.ids[0]).map(self.numbers) == [[0], [1]])
    }

    @Test("whatever comes again and again: no task is attempted twice at once, each that waits has its turn, and nothing stays", arguments: 0..<200)
    func random(_ seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var hand = TasksInHand()
        var active: [Int] = []
        var isClaiming = false
        // Places that a runner counts.
        var held = 0
        func begin(_ tasks: [QueuedTask]) {
            for number in self.numbers(tasks) {
                #expect(!active.contains(number))
                active.append(number)
            }
        }
        func end() {
            let number = active.remove(at: random.below(active.count))
            held -= 1
            for tasks in hand.over(Self.ids[number]) { begin(tasks) }
        }
        for _ in 0..<60 {
            switch random.below(3) {
            case 0 where isClaiming:
                isClaiming = false
                if random.chance(20) {
                    hand.gotNothing()
                    continue
                }
                let chosen = Self.ids.indices.filter { _ in random.chance(30) }
                let sorted = hand.got(chosen.map { self.task($0, key: "\($0 % 3)") }, asked: self.start, wholeKeys: seed.isMultiple(of: 2))
                held += chosen.count - sorted.replaced.count
                begin(sorted.new)
                begin(sorted.doubtful)
            case 1 where !isClaiming:
                isClaiming = true
                hand.ask()
            default:
                if !active.isEmpty { end() }
            }
            #expect(Set(self.numbers(hand.leased.keys.map { QueuedTask(id: $0, queue: .email, createdAt: Timestamp(seconds: 0)) })).isSuperset(of: active))
        }
        while !active.isEmpty { end() }
        #expect(hand.leased.isEmpty)
        #expect(held == 0)
    }
}
