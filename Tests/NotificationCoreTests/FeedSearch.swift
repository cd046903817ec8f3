/// Visits every state that a world can come to, each once, and from each lets it settle.
struct FeedSearch {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    private var seen: Set<Int> = []
    private var came: [(from: Int, step: FeedWorld.Step?)] = []

    /// - Returns: how many states there are.
    /// - Throws: `Failure` with the steps that led to what must not be.
    static func run(_ world: FeedWorld, bound: Int) throws(Failure) -> Int {
        var search = FeedSearch()
        return try search.visit(world, bound: bound)
    }

    private mutating func visit(_ first: FeedWorld, bound: Int) throws(Failure) -> Int {
        var stack = [(world: first, place: 0)]
        self.came.append((-1, nil))
        self.seen.insert(first.hashValue)
        var steps: [FeedWorld.Step] = []
        while let (world, place) = stack.popLast() {
            var end = world
            do throws(FeedWorld.Violation) { try end.settle() } catch { throw self.failure(error, place, nil) }
            steps.removeAll(keepingCapacity: true)
            world.appendSteps(to: &steps)
            for step in steps {
                var next = world
                do throws(FeedWorld.Violation) { try next.apply(step) } catch { throw self.failure(error, place, step) }
                if !self.seen.insert(next.hashValue).inserted { continue }
                if self.seen.count > bound { throw Failure(description: "more than \(bound) states") }
                self.came.append((place, step))
                stack.append((next, self.came.count - 1))
            }
        }
        return self.seen.count
    }

    private func failure(_ violation: FeedWorld.Violation, _ place: Int, _ last: FeedWorld.Step?) -> Failure {
        var steps: [String] = last.map { ["\($0)"] } ?? ["settle"]
        var place = place
        while place >= 0 {
            if let step = self.came[place].step { steps.append("\(step)") }
            place = self.came[place].from
        }
        return Failure(description: "\(violation) after \(steps.reversed().joined(separator: ", "))")
    }
}
