public import NIOCore

/// One argument of a command. All of them travel as binary-safe strings.
public enum RedisArgument: Sendable, Hashable {
    case string(String)
    case bytes(ByteBuffer)
    case octets([UInt8])
    case integer(Int64)
}

extension RedisArgument: ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral {
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
}

/// A command with its arguments, not yet encoded.
public struct RedisCommand: Sendable, Hashable {
    public var name: String
    public var arguments: [RedisArgument]

    public init(_ name: String, _ arguments: RedisArgument...) {
        self.name = name
        self.arguments = arguments
    }

    public init(name: String, arguments: [RedisArgument]) {
        self.name = name
        self.arguments = arguments
    }
}

// Encoding: a RESP array of bulk strings, written straight into the buffer of the connection. (The C formatter would want every argument
// as a pointer of its own and return one more copy.)
extension RedisCommand {
    /// At least the bytes that the command takes on the wire, and not much more; what the bound on bytes in flight counts.
    var wireBytes: Int {
        var total = 32 + name.utf8.count
        for argument in arguments {
            switch argument {
            case .string(let text): total += 16 + text.utf8.count
            case .bytes(let bytes): total += 16 + bytes.readableBytes
            case .octets(let bytes): total += 16 + bytes.count
            case .integer: total += 32
            }
        }
        return total
    }

    func encode(into buffer: inout ByteBuffer) {
        buffer.writeArrayHeader(arguments.count + 1)
        buffer.writeBulk(name)
        for argument in arguments {
            switch argument {
            case .string(let text): buffer.writeBulk(text)
            case .bytes(let bytes): buffer.writeBulk(bytes)
            case .octets(let bytes): buffer.writeBulk(bytes)
            case .integer(let number): buffer.writeBulk(String(number))
            }
        }
    }
}

extension ByteBuffer {
    mutating func writeArrayHeader(_ count: Int) {
        writeHeader(UInt8(ascii: "*"), count)
    }

    mutating func writeBulk(_ text: String) {
        writeHeader(UInt8(ascii: "$"), text.utf8.count)
        writeString(text)
        writeStaticString("\r\n")
    }

    mutating func writeBulk(_ bytes: ByteBuffer) {
        writeHeader(UInt8(ascii: "$"), bytes.readableBytes)
        writeImmutableBuffer(bytes)
        writeStaticString("\r\n")
    }

    mutating func writeBulk(_ bytes: [UInt8]) {
        writeHeader(UInt8(ascii: "$"), bytes.count)
        writeBytes(bytes)
        writeStaticString("\r\n")
    }

    private mutating func writeHeader(_ kind: UInt8, _ count: Int) {
        writeInteger(kind)
        // Up to 15 digits live inside of the String: nothing is allocated.
        writeString(String(count))
        writeStaticString("\r\n")
    }
}
