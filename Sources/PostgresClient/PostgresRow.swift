/// One row. Columns are counted from 0.
///
/// Each accessor takes exactly its own type, so that a column that changes its type is noticed and not misread: everything else, NULL
/// included where the accessor is not `optional…`, throws `.decoding`.
public struct PostgresRow: Sendable {
    let result: QueryResult
    let row: Int

    public func isNull(_ column: Int) throws(PostgresError) -> Bool {
        try result.withCell(row: row, column: column) { (_, bytes) throws(PostgresError) in bytes == nil }
    }

    public func bool(_ column: Int) throws(PostgresError) -> Bool { try required(column, CellDecoder.bool) }
    public func optionalBool(_ column: Int) throws(PostgresError) -> Bool? { try optional(column, CellDecoder.bool) }

    public func int2(_ column: Int) throws(PostgresError) -> Int16 { try required(column, CellDecoder.int2) }
    public func optionalInt2(_ column: Int) throws(PostgresError) -> Int16? { try optional(column, CellDecoder.int2) }

    public func int4(_ column: Int) throws(PostgresError) -> Int32 { try required(column, CellDecoder.int4) }
    public func optionalInt4(_ column: Int) throws(PostgresError) -> Int32? { try optional(column, CellDecoder.int4) }

    public func int8(_ column: Int) throws(PostgresError) -> Int64 { try required(column, CellDecoder.int8) }
    public func optionalInt8(_ column: Int) throws(PostgresError) -> Int64? { try optional(column, CellDecoder.int8) }

    public func float8(_ column: Int) throws(PostgresError) -> Double { try required(column, CellDecoder.float8) }
    public func optionalFloat8(_ column: Int) throws(PostgresError) -> Double? { try optional(column, CellDecoder.float8) }

    /// `text`, `varchar`, `char` or `name`.
    public func text(_ column: Int) throws(PostgresError) -> String { try required(column, CellDecoder.text) }
    public func optionalText(_ column: Int) throws(PostgresError) -> String? { try optional(column, CellDecoder.text) }

    public func bytes(_ column: Int) throws(PostgresError) -> [UInt8] { try required(column, CellDecoder.bytea) }
    public func optionalBytes(_ column: Int) throws(PostgresError) -> [UInt8]? { try optional(column, CellDecoder.bytea) }

    public func uuid(_ column: Int) throws(PostgresError) -> UUIDBytes { try required(column, CellDecoder.uuid) }
    public func optionalUUID(_ column: Int) throws(PostgresError) -> UUIDBytes? { try optional(column, CellDecoder.uuid) }

    /// Microseconds since 1970; `Int64.max` is infinity, `Int64.min` is -infinity.
    public func timestamptz(_ column: Int) throws(PostgresError) -> Int64 { try required(column, CellDecoder.timestamptz) }
    public func optionalTimestamptz(_ column: Int) throws(PostgresError) -> Int64? { try optional(column, CellDecoder.timestamptz) }

    /// The text of a `jsonb` or `json`.
    public func json(_ column: Int) throws(PostgresError) -> String { try required(column, CellDecoder.json) }
    public func optionalJSON(_ column: Int) throws(PostgresError) -> String? { try optional(column, CellDecoder.json) }

    public func xid8(_ column: Int) throws(PostgresError) -> UInt64 { try required(column, CellDecoder.xid8) }
    public func optionalXID8(_ column: Int) throws(PostgresError) -> UInt64? { try optional(column, CellDecoder.xid8) }

    // Arrays of one dimension. A NULL among the elements is an error here; see `nullable…Array`.

    public func textArray(_ column: Int) throws(PostgresError) -> [String] { try whole(nullableTextArray(column)) }
    public func int8Array(_ column: Int) throws(PostgresError) -> [Int64] { try whole(nullableInt8Array(column)) }
    public func int4Array(_ column: Int) throws(PostgresError) -> [Int32] { try whole(nullableInt4Array(column)) }
    public func int2Array(_ column: Int) throws(PostgresError) -> [Int16] { try whole(nullableInt2Array(column)) }
    public func boolArray(_ column: Int) throws(PostgresError) -> [Bool] { try whole(nullableBoolArray(column)) }
    public func uuidArray(_ column: Int) throws(PostgresError) -> [UUIDBytes] { try whole(nullableUUIDArray(column)) }
    public func timestamptzArray(_ column: Int) throws(PostgresError) -> [Int64] { try whole(nullableTimestamptzArray(column)) }
    public func bytesArray(_ column: Int) throws(PostgresError) -> [[UInt8]] { try whole(nullableBytesArray(column)) }
    public func jsonArray(_ column: Int) throws(PostgresError) -> [String] { try whole(nullableJSONArray(column)) }

    // The same with nil for NULL elements.

    public func nullableTextArray(_ column: Int) throws(PostgresError) -> [String?] { try array(column, CellDecoder.text) }
    public func nullableInt8Array(_ column: Int) throws(PostgresError) -> [Int64?] { try array(column, CellDecoder.int8) }
    public func nullableInt4Array(_ column: Int) throws(PostgresError) -> [Int32?] { try array(column, CellDecoder.int4) }
    public func nullableInt2Array(_ column: Int) throws(PostgresError) -> [Int16?] { try array(column, CellDecoder.int2) }
    public func nullableBoolArray(_ column: Int) throws(PostgresError) -> [Bool?] { try array(column, CellDecoder.bool) }
    public func nullableUUIDArray(_ column: Int) throws(PostgresError) -> [UUIDBytes?] { try array(column, CellDecoder.uuid) }
    public func nullableTimestamptzArray(_ column: Int) throws(PostgresError) -> [Int64?] { try array(column, CellDecoder.timestamptz) }
    public func nullableBytesArray(_ column: Int) throws(PostgresError) -> [[UInt8]?] { try array(column, CellDecoder.bytea) }
    public func nullableJSONArray(_ column: Int) throws(PostgresError) -> [String?] { try array(column, CellDecoder.json) }

    private func optional<Value>(_ column: Int, _ decoder: CellDecoder<Value>) throws(PostgresError) -> Value? {
        try result.withCell(row: row, column: column) { (type, bytes) throws(PostgresError) in
            guard let bytes else {
                try decoder.check(type, column: column)
                return nil
            }
            return try decoder.decode(bytes, type: type, column: column)
        }
    }

    private func required<Value>(_ column: Int, _ decoder: CellDecoder<Value>) throws(PostgresError) -> Value {
        guard let value = try optional(column, decoder) else { throw .decoding("column \(column) is NULL") }
        return value
    }

    private func array<Value>(_ column: Int, _ decoder: CellDecoder<Value>) throws(PostgresError) -> [Value?] {
        try result.withCell(row: row, column: column) { (type, bytes) throws(PostgresError) in
            guard let bytes else { throw .decoding("column \(column) is NULL") }
            return try decoder.decodeArray(bytes, type: type, column: column)
        }
    }

    private func whole<Value>(_ items: [Value?]) throws(PostgresError) -> [Value] {
        var values: [Value] = []
        values.reserveCapacity(items.count)
        for item in items {
            guard let item else { throw .decoding("an array holds NULL") }
            values.append(item)
        }
        return values
    }
}
