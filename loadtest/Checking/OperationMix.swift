/// Which inbox operation comes next: mostly reads, then deletes, and a few read-alls. The same seed gives the same row.
struct OperationMix {
    enum Kind: Equatable { case read, delete, readAll }

    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> Kind {
        switch random(below: 100) {
        case 0..<5: .readAll
        case 5..<35: .delete
        default: .read
        }
    }

    /// A number in `0..<bound` (SplitMix64; the slight bias of the remainder does not matter here).
    mutating func random(below bound: Int) -> Int {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return Int((mixed ^ (mixed >> 31)) % UInt64(bound))
    }
}
