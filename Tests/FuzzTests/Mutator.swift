import SeededRandom

/// Makes inputs of others: damaged, cut, doubled, joined, and with what parsers are known to stumble over.
struct Mutator {
    /// Bytes of an input at most.
    static let bound = 64 * 1024

    private var random: SeededGenerator
    private let words: [[UInt8]]

    private static let bytes: [UInt8] = [0, 1, 9, 10, 13, 0x1E, 0x20, 0x22, 0x25, 0x26, 0x27, 0x2B, 0x2C, 0x2D, 0x2E, 0x2F, 0x30, 0x39, 0x3A, 0x3B, 0x3D, 0x5B, 0x5C, 0x7B, 0x7D, 0x7E, 0x7F, 0x80, 0xC0, 0xED, 0xF4, 0xFE, 0xFF]
    private static let common: [[UInt8]] = [
        "0", "-1", "1e999", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551616", "4294967295", "65536", "0x10", "1.5", "٣",
        "null", "true", "\"", "\\", "\\u0000", "\\ud800", "\\udc00", "%00", "%", "%zz", "%F0%9F", "\r\n", "\n\n", "\u{0}", "\u{1E}", "\u{7F}", "\u{85}", "\u{2028}", "\u{202E}", "\u{FEFF}",
        "e\u{301}", "🏳️‍🌈", "\u{10FFFF}", "../", "//", "\\\\", "[[", "]]", "{{", "}}", "{}", "[]", "''", "--", "&&", "==", "#", "*",
    ].map { Array($0.utf8) } + [[0xED, 0xA0, 0x80], [0xC0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xFF, 0xFF, 0xFF, 0xFF], [0, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0x7F], [0x80]]

    init(seed: UInt64, words: [String]) {
        self.random = SeededGenerator(seed: seed)
        self.words = words.map { Array($0.utf8) } + Self.common
    }

    mutating func pick(_ count: Int) -> Int { self.random.below(count) }

    mutating func mutate(_ input: [UInt8], other: [UInt8]) -> [UInt8] {
        var bytes = input
        for _ in 0...self.random.below(4) { self.step(&bytes, other) }
        if bytes.count > Self.bound { bytes.removeLast(bytes.count - Self.bound) }
        return bytes
    }

    private mutating func step(_ bytes: inout [UInt8], _ other: [UInt8]) {
        let at = self.random.below(bytes.count + 1)
        let end = min(bytes.count, at + 1 + self.random.below(self.random.below(4) == 0 ? 64 : 8))
        switch self.random.below(12) {
        case 0 where at < bytes.count: bytes[at] ^= 1 << UInt8(self.random.below(8))
        case 1 where at < bytes.count: bytes[at] = UInt8(self.random.below(256))
        case 2 where at < bytes.count: bytes[at] = Self.bytes[self.random.below(Self.bytes.count)]
        case 3: bytes.insert(Self.bytes[self.random.below(Self.bytes.count)], at: at)
        case 4: bytes.removeSubrange(at..<end)
        case 5: bytes.removeLast(bytes.count - at)
        case 6: bytes.insert(contentsOf: Array(bytes[at..<end]), at: at)
        case 7:
            // Many times over.
            let part = Array(bytes[at..<end])
            if part.isEmpty { return }
            let times = 1 << self.random.below(self.random.below(8) == 0 ? 11 : 5)
            bytes.insert(contentsOf: (0..<min(times, Self.bound / part.count)).flatMap { _ in part }, at: at)
        case 8, 9: bytes.replaceSubrange(at..<(self.random.below(2) == 0 ? at : end), with: self.words[self.random.below(self.words.count)])
        case 10:
            let from = self.random.below(other.count + 1)
            bytes.replaceSubrange(at..., with: other[from...])
        case 11:
            let from = self.random.below(other.count + 1)
            let part = other[from..<min(other.count, from + 1 + self.random.below(32))]
            bytes.replaceSubrange(at..<end, with: Array(part))
        default: bytes.append(UInt8(self.random.below(256)))
        }
    }
}
