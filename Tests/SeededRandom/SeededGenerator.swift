/// Random numbers that come again with the same seed (SplitMix64), for tests.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init(seed: UInt64) {
        self.state = seed
    }

    public mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// From 0 up to the bound, which is not among them; 0 for a bound below 2. Quicker than `Int.random(in:using:)` in debug builds; its small bias does not
    /// matter to tests.
    public mutating func below(_ bound: Int) -> Int {
        bound <= 1 ? 0 : Int(truncatingIfNeeded: self.next() >> 33) % bound
    }

    /// True in so many of a hundred cases.
    public mutating func chance(_ percent: Int) -> Bool { self.below(100) < percent }

    /// One of them; there must be one.
    public mutating func pick<Value>(_ values: [Value]) -> Value { values[self.below(values.count)] }
}
