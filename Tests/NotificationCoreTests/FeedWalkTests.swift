import NotificationCore
import SeededRandom
import Testing

@Suite("the feed, on random walks")
struct FeedWalkTests {
    private static let walksPerChunk = 10_000

    @Test("whatever happens, every reader is given every change once and in order", arguments: 0..<10)
    func walks(chunk: Int) throws {
        var steps: [FeedWorld.Step] = []
        var taken: [FeedWorld.Step] = []
        for walk in 0..<Self.walksPerChunk {
            let seed = UInt64(chunk * Self.walksPerChunk + walk)
            var random = SeededGenerator(seed: seed)
            let head = Int64(random.below(4))
            var world = FeedWorld(Self.plan(head: head, &random), head: head)
            taken.removeAll(keepingCapacity: true)
            do throws(FeedWorld.Violation) {
                for _ in 0..<(8 + random.below(24)) {
                    steps.removeAll(keepingCapacity: true)
                    world.appendSteps(to: &steps)
                    if steps.isEmpty { break }
                    let step = steps[random.below(steps.count)]
                    taken.append(step)
                    try world.apply(step)
                }
                try world.settle()
            } catch {
                Issue.record("seed \(seed): \(error) after \(taken)")
                return
            }
        }
    }

    private static func plan(head: Int64, _ random: inout SeededGenerator) -> FeedWorld.Plan {
        var plan = FeedWorld.Plan()
        // Now and then batches that go past what the machine keeps.
        let largest = random.chance(1) ? 120 : 3
        for _ in 0..<(1 + random.below(6)) { plan.commits.append(Int64(random.chance(60) ? 1 : 1 + random.below(largest))) }
        for _ in 0..<(1 + random.below(4)) { plan.joins.append(Self.resume(head: head, &random)) }
        if random.chance(30) { plan.epochChanges.append(random.chance(50) ? .erase : .restore(lost: Int64(random.below(4)))) }
        if random.chance(10) { plan.epochChanges.append(random.chance(50) ? .erase : .restore(lost: Int64(random.below(4)))) }
        plan.doubles = random.below(3)
        plan.failures = random.below(3)
        plan.blocks = random.below(3)
        plan.leaves = random.below(2)
        plan.reconciles = random.below(2)
        if random.chance(30) { plan.portion = Int64(1 + random.below(3)) }
        if random.chance(20) { plan.replayLimit = Int64(1 + random.below(3)) }
        return plan
    }

    private static func resume(head: Int64, _ random: inout SeededGenerator) -> ResumePoint {
        switch random.below(8) {
        case 0, 1, 2: .fresh
        case 3, 4, 5: .after(StreamPosition(epoch: 1, seq: Int64(random.below(Int(head) + 2))))
        case 6: .malformed
        default: .after(StreamPosition(epoch: Int64(1 + random.below(4)), seq: Int64(random.below(9))))
        }
    }
}
