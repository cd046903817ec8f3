#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// An opaque id of a user or a customer: 1 to 128 Unicode scalars, none of them a control character.
///
/// Checked once, where it enters; after that it cannot be wrong.
public struct OpaqueID: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The most Unicode scalars that an id may have.
    public static let maximumLength = 128

    public let value: String

    /// Nil when `value` is empty, too long, or holds a control character.
    public init?(_ value: String) {
        if value.isPrintable, (1...Self.maximumLength).contains(value.utf8.count) {
            self.value = value
            return
        }
        var count = 0
        for scalar in value.unicodeScalars {
            count += 1
            if count > Self.maximumLength || scalar.isControl { return nil }
        }
        if count == 0 { return nil }
        self.value = value
    }

    public var description: String { self.value }

    /// Byte order of UTF-8, the order of `COLLATE "C"`, in which heads are locked.
    public static func < (lhs: Self, rhs: Self) -> Bool {
        lhs.value.utf8.lexicographicallyPrecedes(rhs.value.utf8)
    }

    /// Swift compares strings by canonical equivalence; ids are the same only when their bytes are.
    public static func == (lhs: Self, rhs: Self) -> Bool {
        lhs.value.hasBytes(of: rhs.value)
    }

    public func hash(into hasher: inout Hasher) {
        var value = self.value
        value.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        hasher.combine(0xFF as UInt8)
    }
}

extension String {
    /// Whether both are the same bytes. `==` compares by canonical equivalence.
    package func hasBytes(of other: String) -> Bool {
        if self.utf8.count != other.utf8.count { return false }
        // Both are native, mostly: then it is a comparison of memory.
        let isSame = self.utf8.withContiguousStorageIfAvailable { left in
            other.utf8.withContiguousStorageIfAvailable { right in
                left.isEmpty || memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0
            }
        }
        return (isSame ?? nil) ?? self.utf8.elementsEqual(other.utf8)
    }

    /// Nothing but the visible characters of ASCII, and spaces: as many bytes as scalars, and none that a rule could be against.
    var isPrintable: Bool {
        self.utf8.withContiguousStorageIfAvailable { bytes in bytes.allSatisfy { (0x20...0x7E).contains($0) } } ?? false
    }
}

public typealias UserID = OpaqueID
public typealias CustomerID = OpaqueID

extension Unicode.Scalar {
    /// C0, DEL and C1.
    package var isControl: Bool { self.value < 0x20 || (0x7F...0x9F).contains(self.value) }
    /// Embeddings, overrides and isolates, with which text can be shown in another order than it is read (Unicode UAX #9).
    package var isBidiOverride: Bool { (0x202A...0x202E).contains(self.value) || (0x2066...0x2069).contains(self.value) }
}

/// A UUID (RFC 9562), kept as two big-endian halves.
public struct NotificationID: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Version 7: 48 bits of Unix milliseconds, then random bits.
    public static func make(now: Timestamp = .now()) -> NotificationID {
        let milliseconds = UInt64(max(0, now.microseconds / 1000))
        let (high, low) = RandomBits.pair()
        return NotificationID(
            high: milliseconds << 16 | 0x7000 | high & 0xFFF,
            low: 0x8000_0000_0000_0000 | low & 0x3FFF_FFFF_FFFF_FFFF
        )
    }

    /// The form with hyphens, in either case. Nil for anything else.
    public init?(_ text: some StringProtocol) {
        var high: UInt64 = 0
        var low: UInt64 = 0
        var index = 0
        var digits = 0
        for byte in text.utf8 {
            if index == 8 || index == 13 || index == 18 || index == 23 {
                if byte != UInt8(ascii: "-") { return nil }
            } else {
                guard let value = hexValue(byte) else { return nil }
                if digits < 16 { high = high << 4 | UInt64(value) } else { low = low << 4 | UInt64(value) }
                digits += 1
            }
            index += 1
            if index > 36 { return nil }
        }
        if index != 36 { return nil }
        self.high = high
        self.low = low
    }

    public var description: String {
        String(unsafeUninitializedCapacity: 36) { buffer in
            var at = 0
            self.eachByte {
                buffer[at] = $0
                at += 1
            }
            return 36
        }
    }

    package func append(to bytes: inout [UInt8]) {
        self.eachByte { bytes.append($0) }
    }

    private func eachByte(_ body: (UInt8) -> Void) {
        for digit in 0..<32 {
            if digit == 8 || digit == 12 || digit == 16 || digit == 20 { body(UInt8(ascii: "-")) }
            let half = digit < 16 ? self.high : self.low
            body(hexDigit(UInt8(truncatingIfNeeded: half >> UInt64(60 - 4 * (digit & 15))) & 15))
        }
    }

    public static func < (lhs: Self, rhs: Self) -> Bool {
        (lhs.high, lhs.low) < (rhs.high, rhs.low)
    }
}

@inline(__always)
package func hexDigit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
}

@inline(__always)
package func hexValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}
