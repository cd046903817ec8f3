/// Random numbers that come again with the same seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        self.state = seed
    }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// Quicker than `Int.random(in:using:)` in debug builds; its small bias does not matter here.
    mutating func below(_ bound: Int) -> Int {
        Int(truncatingIfNeeded: self.next() >> 33) % bound
    }

    mutating func chance(_ percent: Int) -> Bool {
        self.below(100) < percent
    }
}
