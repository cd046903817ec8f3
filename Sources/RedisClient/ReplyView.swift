internal import CHiredis
internal import NIOCore

/// A reply where the parser holds it: for reading without a copy what is only looked at. Never kept beyond the parser's callback.
struct ReplyView {
    enum Kind {
        case null, integer, status, bulk, array, error
    }

    private let reply: UnsafePointer<redisReply>

    init(_ reply: UnsafePointer<redisReply>) {
        self.reply = reply
    }

    var kind: Kind {
        get throws(RedisError) {
            // 7 and up come from servers that speak RESP3 through a newer library, which defines their names.
            switch reply.pointee.type {
            case REDIS_REPLY_NIL: .null
            case REDIS_REPLY_INTEGER, 8: .integer
            case REDIS_REPLY_STATUS: .status
            case REDIS_REPLY_STRING, 7, 13, 14: .bulk
            case REDIS_REPLY_ARRAY, 9, 10, 11, 12: .array
            case REDIS_REPLY_ERROR: .error
            default: throw .violation("a reply of an unknown kind")
            }
        }
    }

    /// Elements of an array.
    var count: Int { reply.pointee.elements }

    subscript(_ index: Int) -> ReplyView {
        get throws(RedisError) {
            guard index < reply.pointee.elements, let element = reply.pointee.element[index] else { throw .violation("an array with a hole") }
            return ReplyView(UnsafePointer(element))
        }
    }

    /// The bytes of a bulk, status or error; empty for all else.
    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        body(UnsafeRawBufferPointer(start: reply.pointee.str, count: reply.pointee.str == nil ? 0 : reply.pointee.len))
    }

    var text: String { withBytes { String(decoding: $0, as: UTF8.self) } }

    func equals(_ bytes: ByteBuffer) -> Bool {
        withBytes { mine in bytes.withUnsafeReadableBytes { mine.elementsEqual($0) } }
    }

    func equals(_ text: StaticString) -> Bool {
        withBytes { mine in mine.elementsEqual(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)) }
    }

    /// A copy that may be kept.
    func value() throws(RedisError) -> RedisValue {
        switch try kind {
        case .null: return .null
        case .integer: return .integer(reply.pointee.integer)
        case .status: return .status(text)
        case .bulk: return .bulk(withBytes { ByteBuffer(bytes: $0) })
        case .error: return .error(RedisError(code: .server, message: text))
        case .array:
            var values: [RedisValue] = []
            values.reserveCapacity(count)
            for index in 0..<count { values.append(try self[index].value()) }
            return .array(values)
        }
    }
}
