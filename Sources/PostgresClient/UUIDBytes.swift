/// The 16 bytes of a UUID (RFC 9562) as two integers in network order, so that comparing them compares UUIDv7s by time.
public struct UUIDBytes: Hashable, Sendable, Comparable {
    /// Bytes 0 to 7, the first in the highest place.
    public var high: UInt64
    /// Bytes 8 to 15.
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    public static func < (a: UUIDBytes, b: UUIDBytes) -> Bool {
        (a.high, a.low) < (b.high, b.low)
    }
}
