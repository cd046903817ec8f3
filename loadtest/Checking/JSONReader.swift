#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A walk over JSON (RFC 8259) that builds no tree: the caller enters what it wants and skips the rest.
///
/// Every byte is looked at once; a member of a nested object can therefore never be taken for one of the outer object,
/// as a search for `"unread":` would do. The bytes must outlive the reader.
struct JSONReader {
    /// A string as it stands between its quotes.
    struct Text {
        let bytes: UnsafeRawBufferPointer
        let escaped: Bool

        /// Whether it says this; the comparison is by bytes unless it holds escapes.
        func matches(_ other: StaticString) -> Bool {
            guard escaped else {
                return bytes.count == other.utf8CodeUnitCount
                    && memcmp(bytes.baseAddress ?? UnsafeRawPointer(other.utf8Start), other.utf8Start, bytes.count) == 0
            }
            return string == other.description
        }

        var string: String {
            guard escaped else { return String(decoding: bytes, as: UTF8.self) }
            var units: [UInt8] = []
            var surrogate: UInt32?
            var index = 0
            func append(_ scalar: UInt32) { units.append(contentsOf: String(Unicode.Scalar(scalar) ?? "\u{fffd}").utf8) }
            while index < bytes.count {
                guard bytes[index] == UInt8(ascii: "\\"), index + 1 < bytes.count else {
                    units.append(bytes[index])
                    index += 1
                    continue
                }
                let escape = bytes[index + 1]
                index += 2
                switch escape {
                case UInt8(ascii: "n"): units.append(0x0a)
                case UInt8(ascii: "t"): units.append(0x09)
                case UInt8(ascii: "r"): units.append(0x0d)
                case UInt8(ascii: "b"): units.append(0x08)
                case UInt8(ascii: "f"): units.append(0x0c)
                case UInt8(ascii: "u"):
                    let end = Swift.min(index + 4, bytes.count)
                    let unit = UInt32(String(decoding: bytes[index..<end], as: UTF8.self), radix: 16) ?? 0xfffd
                    index = end
                    if let high = surrogate, (0xdc00..<0xe000).contains(unit) {
                        append(0x10000 + (high - 0xd800) << 10 + (unit - 0xdc00))
                        surrogate = nil
                    } else if (0xd800..<0xdc00).contains(unit) {
                        surrogate = unit
                    } else {
                        append(unit)
                    }
                default: units.append(escape)
                }
            }
            return String(decoding: units, as: UTF8.self)
        }
    }

    /// Nesting past this is refused rather than followed.
    private static let depthLimit = 64

    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
    }

    private func fault(_ what: StaticString) -> LoadtestError { .malformed("Not JSON at byte \(position): \(what)") }

    /// The next byte that is not white space, not consumed; 0 at the end.
    private mutating func peek() -> UInt8 {
        while position < bytes.count {
            let byte = bytes[position]
            if byte != 0x20, byte != 0x0a, byte != 0x0d, byte != 0x09 { return byte }
            position += 1
        }
        return 0
    }

    private mutating func expect(_ byte: UInt8, _ what: StaticString) throws(LoadtestError) {
        guard peek() == byte, position < bytes.count else { throw fault(what) }
        position += 1
    }

    /// Calls `member` for each member of the object that stands here; `member` must consume the value.
    mutating func object(_ member: (Text, inout JSONReader) throws(LoadtestError) -> Void) throws(LoadtestError) {
        try expect(UInt8(ascii: "{"), "an object was expected")
        if peek() == UInt8(ascii: "}") {
            position += 1
            return
        }
        while true {
            let key = try string()
            try expect(UInt8(ascii: ":"), "a colon was expected")
            try member(key, &self)
            if peek() == UInt8(ascii: ",") {
                position += 1
                continue
            }
            return try expect(UInt8(ascii: "}"), "a comma or the end of the object was expected")
        }
    }

    /// Calls `element` for each element of the array that stands here; `element` must consume the value.
    mutating func array(_ element: (inout JSONReader) throws(LoadtestError) -> Void) throws(LoadtestError) {
        try expect(UInt8(ascii: "["), "an array was expected")
        if peek() == UInt8(ascii: "]") {
            position += 1
            return
        }
        while true {
            try element(&self)
            if peek() == UInt8(ascii: ",") {
                position += 1
                continue
            }
            return try expect(UInt8(ascii: "]"), "a comma or the end of the array was expected")
        }
    }

    mutating func string() throws(LoadtestError) -> Text {
        try expect(UInt8(ascii: "\""), "a string was expected")
        let start = position
        var escaped = false
        while position < bytes.count {
            let byte = bytes[position]
            if byte == UInt8(ascii: "\"") {
                let text = Text(bytes: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), escaped: escaped)
                position += 1
                return text
            }
            if byte < 0x20 { throw fault("a control character stands in a string") }
            if byte == UInt8(ascii: "\\") {
                escaped = true
                position += 1
            }
            position += 1
        }
        throw fault("a string does not end")
    }

    /// The string that stands here, or nil when another kind of value does (which is skipped).
    mutating func stringIfAny() throws(LoadtestError) -> Text? {
        if peek() == UInt8(ascii: "\"") { return try string() }
        try skip()
        return nil
    }

    /// The integer that stands here, or nil when another kind of value does (which is skipped).
    mutating func integerIfAny() throws(LoadtestError) -> Int64? {
        let first = peek()
        guard first == UInt8(ascii: "-") || (0x30...0x39).contains(first) else {
            try skip()
            return nil
        }
        let start = position
        try skip()
        var value: Int64 = 0
        let negative = first == UInt8(ascii: "-")
        for index in (negative ? start + 1 : start)..<position {
            let digit = bytes[index] &- 0x30
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(Int64(digit))
            guard digit < 10, !overflow, !carry else {
                // A fraction or an exponent: a server may have decoded and encoded the number as a double.
                let text = String(decoding: bytes[start..<position], as: UTF8.self)
                return Double(text).flatMap { Int64(exactly: $0.rounded()) }
            }
            value = sum
        }
        return negative ? -value : value
    }

    /// The boolean that stands here, or nil when another kind of value does (which is skipped).
    mutating func boolIfAny() throws(LoadtestError) -> Bool? {
        let first = peek()
        try skip()
        return first == UInt8(ascii: "t") ? true : first == UInt8(ascii: "f") ? false : nil
    }

    /// Skips the value that stands here; true when it was not `null`.
    @discardableResult
    mutating func skip() throws(LoadtestError) -> Bool { try skip(depth: 0) }

    var standsAtObject: Bool {
        mutating get { peek() == UInt8(ascii: "{") }
    }

    private mutating func skip(depth: Int) throws(LoadtestError) -> Bool {
        guard depth < Self.depthLimit else { throw fault("the nesting is too deep") }
        switch peek() {
        case UInt8(ascii: "{"):
            try object { (_, reader) throws(LoadtestError) in _ = try reader.skip(depth: depth + 1) }
        case UInt8(ascii: "["):
            try array { (reader) throws(LoadtestError) in _ = try reader.skip(depth: depth + 1) }
        case UInt8(ascii: "\""):
            _ = try string()
        case UInt8(ascii: "t"): try literal("true")
        case UInt8(ascii: "f"): try literal("false")
        case UInt8(ascii: "n"):
            try literal("null")
            return false
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            position += 1
            while position < bytes.count {
                switch bytes[position] {
                case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"), UInt8(ascii: "+"), UInt8(ascii: "-"):
                    position += 1
                default:
                    return true
                }
            }
        default:
            throw fault("a value was expected")
        }
        return true
    }

    private mutating func literal(_ word: StaticString) throws(LoadtestError) {
        let count = word.utf8CodeUnitCount
        guard position + count <= bytes.count,
            bytes[position..<position + count].elementsEqual(UnsafeBufferPointer(start: word.utf8Start, count: count))
        else { throw fault("a value was expected") }
        position += count
    }

    /// Throws unless nothing but white space follows.
    mutating func end() throws(LoadtestError) {
        guard peek() == 0, position == bytes.count else { throw fault("something follows the value") }
    }
}
