/// A parameter of a statement. It is sent in binary under the object id of its own type, so that the server neither parses nor guesses it.
///
/// Text holding U+0000 is refused before sending (`.server`, SQLSTATE 22021): PostgreSQL has no such text.
/// An array has one dimension, `nil` being NULL.
public enum PostgresValue: Sendable {
    /// NULL of whatever type the statement has there.
    case null
    case bool(Bool)
    case int2(Int16)
    case int4(Int32)
    case int8(Int64)
    case float8(Double)
    case text(String)
    case bytea([UInt8])
    case uuid(UUIDBytes)
    /// `Int64.max` is infinity, `Int64.min` is -infinity.
    case timestamptz(microsecondsSince1970: Int64)
    /// A JSON text.
    case jsonb(String)
    case xid8(UInt64)
    case textArray([String?])
    case int8Array([Int64?])
    case int4Array([Int32?])
    case int2Array([Int16?])
    case boolArray([Bool?])
    case uuidArray([UUIDBytes?])
    /// Microseconds since 1970.
    case timestamptzArray([Int64?])
    case byteaArray([[UInt8]?])
    /// JSON texts.
    case jsonbArray([String?])
}
