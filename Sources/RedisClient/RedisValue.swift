public import NIOCore

/// One reply of the server (RESP2; what RESP3 adds is folded into these: maps, sets and pushes are arrays, booleans integers, the rest bulks).
public enum RedisValue: Sendable, Equatable {
    case null
    case integer(Int64)
    /// A simple string such as `OK`.
    case status(String)
    /// A binary-safe string, in storage of its own.
    case bulk(ByteBuffer)
    case array([RedisValue])
    /// An error the server answered with, here or inside of an array; its code is `server`. In the values of a pipeline to a cluster also what
    /// became of a command whose node failed.
    case error(RedisError)

    /// The text of a bulk, status or integer; nil for all else. Bytes that are not UTF-8 are replaced, so it is not for binary values.
    public var string: String? {
        switch self {
        case .bulk(let bytes): String(buffer: bytes)
        case .status(let text): text
        case .integer(let number): String(number)
        case .null, .array, .error: nil
        }
    }

    /// The number of an integer, or of a bulk or status that is one in decimal.
    public var int: Int64? {
        switch self {
        case .integer(let number): number
        case .bulk(let bytes): Int64(String(buffer: bytes))
        case .status(let text): Int64(text)
        case .null, .array, .error: nil
        }
    }

    public var array: [RedisValue]? {
        switch self {
        case .array(let values): values
        case .null, .integer, .status, .bulk, .error: nil
        }
    }

    public var bytes: ByteBuffer? {
        switch self {
        case .bulk(let bytes): bytes
        case .null, .integer, .status, .array, .error: nil
        }
    }

    public var error: RedisError? {
        switch self {
        case .error(let error): error
        case .null, .integer, .status, .bulk, .array: nil
        }
    }

    public var isNull: Bool { self == .null }
}
