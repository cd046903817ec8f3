internal import NIOCore

/// One of the 16,384 parts of a cluster's keys: CRC16 (XMODEM) of the key, or of its hash tag, as in the Redis Cluster specification.
struct HashSlot: Sendable, Hashable {
    static let count = 16384

    let number: UInt16

    /// Nil beyond the last slot.
    init?(_ number: Int) {
        guard (0..<Self.count).contains(number) else { return nil }
        self.number = UInt16(number)
    }

    init(key: String) {
        var key = key
        self = key.withUTF8 { HashSlot(key: UnsafeRawBufferPointer($0)) }
    }

    init(key: UnsafeRawBufferPointer) {
        number = Self.crc16(Self.tagged(key)) % UInt16(Self.count)
    }

    /// A short hash tag that lies in this slot.
    var tag: String {
        // Each number is in a slot as if at random: some 16,000 of them are looked at.
        for number in 0... {
            let text = String(number, radix: 36)
            if HashSlot(key: text) == self { return text }
        }
        preconditionFailure("a slot in which no number lies")
    }

    /// What stands between the first `{` and the next `}`, unless that is nothing; else all of it.
    private static func tagged(_ key: UnsafeRawBufferPointer) -> Slice<UnsafeRawBufferPointer> {
        guard let open = key.firstIndex(of: UInt8(ascii: "{")) else { return key[...] }
        let rest = key[(open + 1)...]
        guard let close = rest.firstIndex(of: UInt8(ascii: "}")), close > rest.startIndex else { return key[...] }
        return rest[..<close]
    }

    private static func crc16(_ bytes: Slice<UnsafeRawBufferPointer>) -> UInt16 {
        var crc: UInt16 = 0
        for byte in bytes { crc = crc << 8 ^ table[Int(UInt8(truncatingIfNeeded: crc >> 8) ^ byte)] }
        return crc
    }

    private static let table: [UInt16] = (0..<256).map { (byte: UInt16) in
        (0..<8).reduce(byte << 8) { crc, _ in crc & 0x8000 == 0 ? crc << 1 : crc << 1 ^ 0x1021 }
    }
}

extension RedisArgument {
    var slot: HashSlot {
        switch self {
        case .string(let text): HashSlot(key: text)
        case .bytes(let bytes): bytes.withUnsafeReadableBytes { HashSlot(key: $0) }
        case .octets(let bytes): bytes.withUnsafeBytes { HashSlot(key: $0) }
        case .integer(let number): HashSlot(key: String(number))
        }
    }
}
