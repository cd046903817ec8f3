/// Which faults come when: a value made from a seed, so that a run can be repeated.
struct FaultPlan: Equatable, Sendable {
    let seed: UInt64
    let shape: ClusterShape
    /// Seconds of the run.
    let seconds: Double
    /// In the order of their times.
    let faults: [Fault]

    /// Of each kind in this many seconds, this often.
    static let often = (times: 4, seconds: 600.0)
    /// Seconds without a fault at the beginning, and before the end.
    static let lead = 3.0
    static let tail = 8.0

    /// Overlaps that every long run has, because they are where one thing stands in for another.
    static let wanted: [(Fault.Kind, Fault.Kind)] = [
        (kind(.redis, .kill), kind(.edge, .kill)), (kind(.redis, .freeze), kind(.api, .kill)), (kind(.redis, .stop), kind(.api, .freeze)),
        (kind(.postgres, .kill), kind(.edge, .freeze)), (kind(.haproxy, .kill), kind(.api, .stop)), (kind(.redis, .freeze), kind(.edge, .stop)),
    ]

    init(seed: UInt64, seconds: Double, shape: ClusterShape) {
        self.seed = seed
        self.seconds = seconds
        self.shape = shape
        var random = SeededGenerator(seed: seed)
        let kinds = Fault.Kind.all.filter { $0.role != .worker || shape.workers > 0 }
        let room = max(0, seconds - Self.lead - Self.tail)
        let times = max(1, Int((Double(Self.often.times) * seconds / Self.often.seconds).rounded(.down)))

        var single: [Fault] = []
        for kind in kinds {
            for _ in 0..<times { single.append(Self.fault(kind, shape, &random)) }
        }
        random.shuffle(&single)
        var groups = Self.grouped(&single, shape, seconds < Self.often.seconds ? 0 : Self.wanted.count, &random)
        // What does not fit is left out from the end, of which the shuffle has made a random choice; first more of it overlaps.
        while Self.length(groups) > room * 0.85, groups.count > 1 {
            if let joined = Self.joinTwo(groups, shape, &random) { groups = joined } else { groups.removeLast() }
        }
        if Self.length(groups) > room { groups.removeAll() }
        faults = Self.spread(groups, room: room, &random).sorted { ($0.at, $0.target) < ($1.at, $1.target) }
    }

    /// How often each kind occurs.
    var counts: [Fault.Kind: Int] { faults.reduce(into: [:]) { $0[$1.kind, default: 0] += 1 } }

    private static func kind(_ role: Fault.Role, _ action: Fault.Action) -> Fault.Kind { Fault.Kind(action: action, role: role) }

    /// A fault without its time.
    private static func fault(_ kind: Fault.Kind, _ shape: ClusterShape, _ random: inout SeededGenerator) -> Fault {
        let nodes =
            switch kind.role {
            case .api: shape.apis
            case .edge: shape.edges
            case .worker: shape.workers
            case .redis, .postgres, .haproxy: 0
            }
        // For a link, 0 is all edges at once.
        let number = nodes == 0 ? 0 : kind.isLink ? random.index(below: nodes + 1) : 1 + random.index(below: nodes)
        let seconds: Double
        var amount = 0
        switch kind.action {
        case .kill: seconds = random.seconds(in: 1...4)
        case .freeze: seconds = 5
        case .stop: seconds = random.seconds(in: 0.2...2)
        case .cut: seconds = random.seconds(in: 1...4)
        case .delay:
            seconds = random.seconds(in: 4...8)
            amount = 50 + random.index(below: 451)
        case .throttle:
            seconds = random.seconds(in: 4...8)
            amount = 1_024 * (1 + random.index(below: 8))
        case .silence: seconds = random.seconds(in: 3...8)
        }
        return Fault(kind: kind, number: number, at: 0, seconds: seconds, amount: amount)
    }

    /// Faults of one group overlap; `at` is counted from the group's start. About a quarter of all are in a group with another.
    private static func grouped(_ single: inout [Fault], _ shape: ClusterShape, _ wanted: Int, _ random: inout SeededGenerator) -> [[Fault]] {
        var groups: [[Fault]] = []
        let all = single.count
        for (first, second) in Self.wanted.prefix(wanted) {
            guard let one = single.firstIndex(where: { $0.kind == first }) else { continue }
            let leader = single[one]
            guard let other = single.firstIndex(where: { $0.kind == second && $0.mayOverlap(leader, shape: shape) }) else { continue }
            groups.append(overlapping([leader], single[other], &random))
            for index in [one, other].sorted(by: >) { single.remove(at: index) }
        }
        var overlapped = groups.count * 2
        for fault in single {
            if overlapped * 4 < all, let last = groups.last, last.count == 1, last[0].mayOverlap(fault, shape: shape) {
                groups[groups.count - 1] = overlapping(last, fault, &random)
                overlapped += 2
            } else {
                groups.append([fault])
            }
        }
        random.shuffle(&groups)
        return groups
    }

    /// The group with one more fault, which begins while the first one lasts.
    private static func overlapping(_ group: [Fault], _ fault: Fault, _ random: inout SeededGenerator) -> [Fault] {
        var fault = fault
        fault.at = group[0].at + random.seconds(in: 0.05...0.7) * group[0].expectedSeconds
        return group + [fault]
    }

    /// The groups with the last of them made part of an earlier one, or nil when it fits none.
    private static func joinTwo(_ groups: [[Fault]], _ shape: ClusterShape, _ random: inout SeededGenerator) -> [[Fault]]? {
        for from in groups.indices.reversed() where groups[from].count == 1 {
            let fault = groups[from][0]
            for into in groups.indices
            where into != from && groups[into].count < 3 && groups[into].allSatisfy({ $0.mayOverlap(fault, shape: shape) }) {
                var joined = groups
                joined[into] = overlapping(groups[into], fault, &random)
                joined.remove(at: from)
                return joined
            }
        }
        return nil
    }

    private static func length(_ group: [Fault]) -> Double { group.map(\.expectedEnd).max() ?? 0 }
    private static func length(_ groups: [[Fault]]) -> Double { groups.reduce(0) { $0 + length($1) } }

    /// One group after the other, with pauses between of which some are long: exponential, scaled to fill the room.
    private static func spread(_ groups: [[Fault]], room: Double, _ random: inout SeededGenerator) -> [Fault] {
        let weights = groups.map { _ in
            let uniform = random.seconds(in: 0.05...1)
            return uniform * uniform
        }
        let pause = max(0, room - length(groups))
        let sum = weights.reduce(0, +)
        var faults: [Fault] = []
        var now = lead
        for (group, weight) in zip(groups, weights) {
            for var fault in group {
                fault.at += now
                faults.append(fault)
            }
            now += length(group) + (sum > 0 ? pause * weight / sum : 0)
        }
        return faults
    }
}
