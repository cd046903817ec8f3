/// A JSON value (RFC 8259). Numbers keep the digits that they came with, so that nothing is rounded on its way through.
public indirect enum JSONValue: Sendable, Equatable {
    case null
    case bool(Bool)
    case number(String)
    case string(String)
    case array([JSONValue])
    /// Members in the order of the text. A name that came twice has its last value.
    case object([(name: String, value: JSONValue)])

    public static func == (lhs: JSONValue, rhs: JSONValue) -> Bool {
        switch (lhs, rhs) {
        case (.null, .null): true
        case (.bool(let left), .bool(let right)): left == right
        case (.number(let left), .number(let right)): left == right
        case (.string(let left), .string(let right)): left.hasBytes(of: right)
        case (.array(let left), .array(let right)): left == right
        case (.object(let left), .object(let right)):
            left.count == right.count && zip(left, right).allSatisfy { $0.name.hasBytes(of: $1.name) && $0.value == $1.value }
        default: false
        }
    }

    public subscript(name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.last { $0.name.hasBytes(of: name) }?.value
    }

    public var string: String? {
        guard case .string(let value) = self else { return nil }
        return value
    }

    /// Appends it without any space.
    public func append(to bytes: inout [UInt8]) {
        switch self {
        case .null: bytes.append(ascii: "null")
        case .bool(let value): value ? bytes.append(ascii: "true") : bytes.append(ascii: "false")
        case .number(let digits): bytes.append(contentsOf: digits.utf8)
        case .string(let value): bytes.append(json: value)
        case .array(let values):
            bytes.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                value.append(to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let members):
            bytes.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                bytes.append(json: member.name)
                bytes.append(UInt8(ascii: ":"))
                member.value.append(to: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    public var encoded: [UInt8] {
        var bytes: [UInt8] = []
        self.append(to: &bytes)
        return bytes
    }
}

extension [UInt8] {
    /// Appends a JSON string. CR, LF, NUL and all other control characters are escaped, so that the text can stand in one line of SSE.
    public mutating func append(json text: String) {
        var text = text
        self.append(UInt8(ascii: "\""))
        text.withUTF8 { utf8 in
            var start = 0
            var index = 0
            while index < utf8.count {
                let byte = utf8[index]
                if byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte == 0x7F {
                    self.append(contentsOf: UnsafeBufferPointer(rebasing: utf8[start..<index]))
                    self.append(escaped: UInt32(byte))
                    start = index + 1
                }
                index += 1
            }
            self.append(contentsOf: UnsafeBufferPointer(rebasing: utf8[start...]))
        }
        self.append(UInt8(ascii: "\""))
    }

    private mutating func append(escaped scalar: UInt32) {
        switch scalar {
        case 0x22: self.append(ascii: "\\\"")
        case 0x5C: self.append(ascii: "\\\\")
        case 0x0A: self.append(ascii: "\\n")
        case 0x0D: self.append(ascii: "\\r")
        case 0x09: self.append(ascii: "\\t")
        default:
            self.append(ascii: "\\u")
            for shift in [12, 8, 4, 0] as [UInt32] { self.append(hexDigit(UInt8(scalar >> shift & 15))) }
        }
    }

    /// Appends `null` or a JSON string.
    public mutating func append(json text: String?) {
        if let text { self.append(json: text) } else { self.append(ascii: "null") }
    }
}

/// Why a text is not JSON, and where.
public struct JSONError: Error, Sendable, Equatable {
    public let message: String
    /// In bytes from the start.
    public let offset: Int
}

/// Reads one JSON text, strictly: no comments, no trailing comma, valid UTF-8, at most `maximumDepth` levels.
public struct JSONParser {
    /// How deep arrays and objects may stand in each other.
    public static let maximumDepth = 64

    private let bytes: UnsafeBufferPointer<UInt8>
    private var at = 0

    /// - Throws: ``JSONError`` with the first thing that is wrong.
    public static func parse(_ bytes: UnsafeBufferPointer<UInt8>) throws(JSONError) -> JSONValue {
        var parser = JSONParser(bytes: bytes)
        parser.skipSpace()
        let value = try parser.value(depth: 0)
        parser.skipSpace()
        if parser.at < bytes.count { throw parser.failure("something follows the value") }
        return value
    }

    public static func parse(_ bytes: [UInt8]) throws(JSONError) -> JSONValue {
        let result: Result<JSONValue, JSONError> = bytes.withUnsafeBufferPointer { buffer in
            do throws(JSONError) { return .success(try Self.parse(buffer)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    private init(bytes: UnsafeBufferPointer<UInt8>) {
        self.bytes = bytes
    }

    private func failure(_ message: String) -> JSONError {
        JSONError(message: message, offset: self.at)
    }

    private mutating func skipSpace() {
        while self.at < self.bytes.count {
            switch self.bytes[self.at] {
            case 0x20, 0x09, 0x0A, 0x0D: self.at += 1
            default: return
            }
        }
    }

    private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        guard self.at < self.bytes.count else { throw self.failure("the text ends too early") }
        switch self.bytes[self.at] {
        case UInt8(ascii: "{"): return try self.object(depth: depth)
        case UInt8(ascii: "["): return try self.array(depth: depth)
        case UInt8(ascii: "\""): return .string(try self.string())
        case UInt8(ascii: "t"): return try self.word("true", .bool(true))
        case UInt8(ascii: "f"): return try self.word("false", .bool(false))
        case UInt8(ascii: "n"): return try self.word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try self.number())
        default: throw self.failure("no value starts here")
        }
    }

    private mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        let count = word.utf8CodeUnitCount
        guard self.at + count <= self.bytes.count else { throw self.failure("the text ends too early") }
        for index in 0..<count where self.bytes[self.at + index] != word.utf8Start[index] { throw self.failure("no value starts here") }
        self.at += count
        return value
    }

    private mutating func digits() throws(JSONError) {
        let start = self.at
        while self.at < self.bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self.bytes[self.at]) { self.at += 1 }
        if self.at == start { throw self.failure("a digit is missing") }
    }

    private mutating func number() throws(JSONError) -> String {
        let start = self.at
        if self.bytes[self.at] == UInt8(ascii: "-") { self.at += 1 }
        if self.at < self.bytes.count, self.bytes[self.at] == UInt8(ascii: "0") { self.at += 1 } else { try self.digits() }
        if self.at < self.bytes.count, self.bytes[self.at] == UInt8(ascii: ".") {
            self.at += 1
            try self.digits()
        }
        if self.at < self.bytes.count, self.bytes[self.at] | 0x20 == UInt8(ascii: "e") {
            self.at += 1
            if self.at < self.bytes.count, self.bytes[self.at] == UInt8(ascii: "+") || self.bytes[self.at] == UInt8(ascii: "-") { self.at += 1 }
            try self.digits()
        }
        return String(decoding: self.bytes[start..<self.at], as: UTF8.self)
    }

    private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
        if depth == Self.maximumDepth { throw self.failure("nested too deeply") }
        self.at += 1
        var values: [JSONValue] = []
        self.skipSpace()
        if self.at < self.bytes.count, self.bytes[self.at] == UInt8(ascii: "]") {
            self.at += 1
            return .array(values)
        }
        while true {
            self.skipSpace()
            values.append(try self.value(depth: depth + 1))
            self.skipSpace()
            guard self.at < self.bytes.count else { throw self.failure("the text ends too early") }
            switch self.bytes[self.at] {
            case UInt8(ascii: ","): self.at += 1
            case UInt8(ascii: "]"):
                self.at += 1
                return .array(values)
            default: throw self.failure("a comma or a bracket is missing")
            }
        }
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
        if depth == Self.maximumDepth { throw self.failure("nested too deeply") }
        self.at += 1
        var members: [(name: String, value: JSONValue)] = []
        self.skipSpace()
        if self.at < self.bytes.count, self.bytes[self.at] == UInt8(ascii: "}") {
            self.at += 1
            return .object(members)
        }
        // Looking through the members is quicker than a table for the few that objects have; past that a table is kept. Names are the same
        // when their bytes are: strings compare by canonical equivalence, which would make one member of two.
        var places: [[UInt8]: Int] = [:]
        while true {
            self.skipSpace()
            guard self.at < self.bytes.count, self.bytes[self.at] == UInt8(ascii: "\"") else { throw self.failure("a name is missing") }
            let name = try self.string()
            self.skipSpace()
            guard self.at < self.bytes.count, self.bytes[self.at] == UInt8(ascii: ":") else { throw self.failure("a colon is missing") }
            self.at += 1
            self.skipSpace()
            let value = try self.value(depth: depth + 1)
            if members.count == 32 { for (index, member) in members.enumerated() { places[Array(member.name.utf8)] = index } }
            let known = members.count < 32 ? members.firstIndex { $0.name.hasBytes(of: name) } : places[Array(name.utf8)]
            if let known {
                members[known].value = value
            } else {
                if members.count >= 32 { places[Array(name.utf8)] = members.count }
                members.append((name, value))
            }
            self.skipSpace()
            guard self.at < self.bytes.count else { throw self.failure("the text ends too early") }
            switch self.bytes[self.at] {
            case UInt8(ascii: ","): self.at += 1
            case UInt8(ascii: "}"):
                self.at += 1
                return .object(members)
            default: throw self.failure("a comma or a brace is missing")
            }
        }
    }

    private mutating func string() throws(JSONError) -> String {
        self.at += 1
        let start = self.at
        // Of all bytes together: ASCII need not be validated.
        var bits: UInt8 = 0
        while self.at < self.bytes.count {
            let byte = self.bytes[self.at]
            bits |= byte
            if byte == UInt8(ascii: "\"") {
                let bytes = UnsafeBufferPointer(rebasing: self.bytes[start..<self.at])
                if bits < 0x80 {
                    self.at += 1
                    return String(decoding: bytes, as: UTF8.self)
                }
                guard let text = String(validating: bytes, as: UTF8.self) else { throw self.failure("not UTF-8") }
                self.at += 1
                return text
            }
            if byte == UInt8(ascii: "\\") { return try self.escapedString(from: start) }
            if byte < 0x20 { throw self.failure("a control character stands in a string") }
            self.at += 1
        }
        throw self.failure("a string does not end")
    }

    private mutating func escapedString(from start: Int) throws(JSONError) -> String {
        var text = Array(self.bytes[start..<self.at])
        while self.at < self.bytes.count {
            let byte = self.bytes[self.at]
            self.at += 1
            if byte == UInt8(ascii: "\"") {
                guard let string = String(validating: text, as: UTF8.self) else { throw self.failure("not UTF-8") }
                return string
            }
            if byte < 0x20 { throw self.failure("a control character stands in a string") }
            if byte != UInt8(ascii: "\\") {
                text.append(byte)
                continue
            }
            guard self.at < self.bytes.count else { break }
            let escape = self.bytes[self.at]
            self.at += 1
            switch escape {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(escape)
            case UInt8(ascii: "b"): text.append(0x08)
            case UInt8(ascii: "f"): text.append(0x0C)
            case UInt8(ascii: "n"): text.append(0x0A)
            case UInt8(ascii: "r"): text.append(0x0D)
            case UInt8(ascii: "t"): text.append(0x09)
            case UInt8(ascii: "u"):
                var unit = try self.codeUnit()
                if (0xDC00...0xDFFF).contains(unit) { throw self.failure("half a surrogate pair") }
                if (0xD800...0xDBFF).contains(unit) {
                    guard self.at + 1 < self.bytes.count, self.bytes[self.at] == UInt8(ascii: "\\"), self.bytes[self.at + 1] == UInt8(ascii: "u")
                    else { throw self.failure("half a surrogate pair") }
                    self.at += 2
                    let second = try self.codeUnit()
                    guard (0xDC00...0xDFFF).contains(second) else { throw self.failure("half a surrogate pair") }
                    unit = 0x10000 + (unit - 0xD800) << 10 + (second - 0xDC00)
                }
                guard let scalar = Unicode.Scalar(unit) else { throw self.failure("no such character") }
                text.append(contentsOf: UTF8.encode(scalar)!)
            default: throw self.failure("no such escape")
            }
        }
        throw self.failure("a string does not end")
    }

    private mutating func codeUnit() throws(JSONError) -> UInt32 {
        guard self.at + 4 <= self.bytes.count else { throw self.failure("the text ends too early") }
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard let digit = hexValue(self.bytes[self.at]) else { throw self.failure("no such escape") }
            unit = unit << 4 | UInt32(digit)
            self.at += 1
        }
        return unit
    }
}
