#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif
import Synchronization

/// Random bits of the system, fetched many at once: `SystemRandomNumberGenerator` asks the kernel for eight bytes at a time.
enum RandomBits {
    /// Words that are fetched at once: the most that one getentropy(3) gives.
    private static let portion = 32

    private struct Stock {
        var words: [UInt64] = []
    }

    private static let stock = Mutex(Stock())

    /// From any thread. No word is given out twice.
    static func pair() -> (UInt64, UInt64) {
        self.stock.withLock { stock in
            if stock.words.count < 2 { self.fill(&stock.words) }
            return (stock.words.removeLast(), stock.words.removeLast())
        }
    }

    private static func fill(_ words: inout [UInt64]) {
        var system = SystemRandomNumberGenerator()
        words = [UInt64](unsafeUninitializedCapacity: Self.portion) { buffer, count in
            // It fails only where the kernel lacks it.
            if getentropy(buffer.baseAddress!, Self.portion * 8) != 0 {
                for index in 0..<Self.portion { (buffer.baseAddress! + index).initialize(to: system.next()) }
            }
            count = Self.portion
        }
    }
}
