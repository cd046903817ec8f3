/// SplitMix64 (Steele, Lea, Flood 2014): the same seed gives the same numbers on every machine and in every version.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    // The standard library's own ways from bits to a number in a range are not promised to stay as they are.

    /// A number in `0..<bound`; the slight bias of the remainder does not matter here.
    mutating func index(below bound: Int) -> Int { Int(next() % UInt64(bound)) }

    mutating func seconds(in range: ClosedRange<Double>) -> Double {
        range.lowerBound + Double(next() >> 11) / Double(1 << 53) * (range.upperBound - range.lowerBound)
    }

    mutating func shuffle<Element>(_ elements: inout [Element]) {
        for upper in stride(from: elements.count - 1, to: 0, by: -1) { elements.swapAt(upper, index(below: upper + 1)) }
    }
}
