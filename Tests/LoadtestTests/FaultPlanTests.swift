import Testing

@testable import carillon_loadtest

@Suite("Plans of faults")
struct FaultPlanTests {
    private let shape = ClusterShape(apis: 2, edges: 2, workers: 1)
    private static let seeds: [UInt64] = Array(0..<40)

    private func plan(_ seed: UInt64, _ seconds: Double = 603, _ shape: ClusterShape? = nil) -> FaultPlan {
        FaultPlan(seed: seed, seconds: seconds, shape: shape ?? self.shape)
    }

    /// The part of the plan's faults whose expected times overlap another's.
    private func overlapping(_ plan: FaultPlan) -> [(Fault, Fault)] {
        plan.faults.indices.flatMap { first in
            plan.faults[(first + 1)...].filter { $0.at < plan.faults[first].expectedEnd }.map { (plan.faults[first], $0) }
        }
    }

    @Test("the same seed makes the same plan, another seed another one")
    func repeatable() {
        #expect(plan(7) == plan(7))
        #expect(plan(7).faults != plan(8).faults)
    }

    @Test("the generator gives the numbers of SplitMix64")
    func generator() {
        var random = SeededGenerator(seed: 1_234_567)
        #expect([random.next(), random.next(), random.next()] == [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423])
    }

    @Test("ten minutes hold every kind four times", arguments: seeds)
    func often(seed: UInt64) {
        let counts = plan(seed).counts
        for kind in Fault.Kind.all { #expect(counts[kind, default: 0] >= 4, "\(kind)") }
        #expect(counts.count == 22)
    }

    @Test("two minutes hold every kind", arguments: seeds)
    func short(seed: UInt64) {
        #expect(plan(seed, 123).counts.count == 22)
    }

    @Test("faults stay within the run, and begin after its beginning", arguments: seeds)
    func within(seed: UInt64) {
        for seconds in [20.0, 63, 123, 303, 603, 1_803] {
            for fault in plan(seed, seconds).faults {
                #expect(fault.at >= FaultPlan.lead)
                #expect(fault.expectedEnd <= seconds - FaultPlan.tail + 0.001)
            }
        }
        #expect(plan(seed, 5).faults.isEmpty)
    }

    @Test("what must not happen at once does not", arguments: seeds)
    func forbidden(seed: UInt64) {
        for shape in [shape, ClusterShape(apis: 1, edges: 1, workers: 0), ClusterShape(apis: 3, edges: 4, workers: 2)] {
            let plan = plan(seed, 603, shape)
            for (first, second) in overlapping(plan) {
                #expect(first.mayOverlap(second, shape: shape), "\(first.text) and \(second.text)")
                #expect(second.mayOverlap(first, shape: shape))
            }
        }
    }

    @Test("about a quarter of the faults overlap others, and the rest leave the cluster time to recover", arguments: seeds)
    func overlaps(seed: UInt64) {
        let plan = plan(seed)
        let pairs = overlapping(plan)
        let overlapped = plan.faults.filter { fault in pairs.contains { $0.0 == fault || $0.1 == fault } }
        #expect((0.2...0.6).contains(Double(overlapped.count) / Double(plan.faults.count)), "\(overlapped.count) of \(plan.faults.count)")
        var end = 0.0
        var calm = 0
        for fault in plan.faults {
            if fault.at - end > 4 { calm += 1 }
            end = max(end, fault.expectedEnd)
        }
        #expect(calm >= 5, "\(calm) pauses")
    }

    @Test("the overlaps that matter are in every long plan", arguments: seeds)
    func wanted(seed: UInt64) {
        let pairs = overlapping(plan(seed)).map { Set([$0.0.kind.role, $0.1.kind.role]) }
        #expect(pairs.contains([.redis, .edge]))
        #expect(pairs.contains([.redis, .api]))
        #expect(!pairs.contains([.redis, .postgres]))
    }

    @Test("not all nodes of a role, not the same server, not both databases at once")
    func rules() {
        func fault(_ role: Fault.Role, _ number: Int, _ action: Fault.Action = .kill) -> Fault {
            Fault(kind: Fault.Kind(action: action, role: role), number: number, at: 0, seconds: 1, amount: 0)
        }
        #expect(!fault(.api, 1).mayOverlap(fault(.api, 2), shape: shape))
        #expect(!fault(.edge, 1).mayOverlap(fault(.edge, 2, .freeze), shape: shape))
        #expect(!fault(.redis, 0).mayOverlap(fault(.postgres, 0), shape: shape))
        #expect(!fault(.redis, 0).mayOverlap(fault(.redis, 0, .freeze), shape: shape))
        #expect(!fault(.edge, 1).mayOverlap(fault(.edge, 1, .silence), shape: shape))
        #expect(!fault(.edge, 1).mayOverlap(fault(.edge, 0, .cut), shape: shape))
        #expect(fault(.edge, 1).mayOverlap(fault(.edge, 2, .silence), shape: shape))
        #expect(fault(.edge, 1).mayOverlap(fault(.redis, 0), shape: shape))
        #expect(fault(.api, 1).mayOverlap(fault(.edge, 1), shape: shape))
        #expect(fault(.api, 1).mayOverlap(fault(.api, 2), shape: ClusterShape(apis: 3, edges: 1, workers: 1)))
    }
}
