/// How one type is read from its binary form, alone and as the element of an array.
struct CellDecoder<Value>: Sendable {
    let name: String
    let types: [UInt32]
    let arrayTypes: [UInt32]
    /// nil when the bytes are not one of this type.
    let read: @Sendable (_ bytes: UnsafeRawBufferPointer, _ type: UInt32) -> Value?

    func check(_ type: UInt32, column: Int) throws(PostgresError) {
        guard types.contains(type) else { throw .decoding("column \(column) has the type \(type), not \(name)") }
    }

    func decode(_ bytes: UnsafeRawBufferPointer, type: UInt32, column: Int) throws(PostgresError) -> Value {
        try check(type, column: column)
        guard let value = read(bytes, type) else { throw .decoding("column \(column) does not hold a valid \(name)") }
        return value
    }

    /// See `EncodedParameters` for the form.
    func decodeArray(_ bytes: UnsafeRawBufferPointer, type: UInt32, column: Int) throws(PostgresError) -> [Value?] {
        guard arrayTypes.contains(type) else { throw .decoding("column \(column) has the type \(type), not \(name)[]") }
        let broken = PostgresError.decoding("column \(column) does not hold a valid \(name)[] of one dimension")
        var reader = BinaryReader(bytes)
        guard let dimensions = reader.integer(Int32.self), reader.integer(Int32.self) != nil, let element = reader.integer(UInt32.self),
            types.contains(element)
        else { throw broken }
        if dimensions == 0 { return [] }
        guard dimensions == 1, let count = reader.integer(Int32.self), count >= 0, reader.integer(Int32.self) != nil, count <= reader.remaining / 4 else {
            throw broken
        }
        var values: [Value?] = []
        values.reserveCapacity(Int(count))
        for _ in 0..<count {
            guard let length = reader.integer(Int32.self) else { throw broken }
            if length == -1 {
                values.append(nil)
                continue
            }
            guard let item = reader.bytes(Int(length)), let value = read(item, element) else { throw broken }
            values.append(value)
        }
        guard reader.remaining == 0 else { throw broken }
        return values
    }
}

/// Reads from the front of bytes that it does not own; nil past their end.
private struct BinaryReader {
    private var rest: Slice<UnsafeRawBufferPointer>

    init(_ bytes: UnsafeRawBufferPointer) {
        rest = bytes[...]
    }

    var remaining: Int { rest.count }

    mutating func bytes(_ count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, count <= rest.count else { return nil }
        defer { rest = rest.dropFirst(count) }
        return UnsafeRawBufferPointer(rebasing: rest.prefix(count))
    }

    mutating func integer<Value: FixedWidthInteger>(_: Value.Type) -> Value? {
        bytes(MemoryLayout<Value>.size).flatMap { CellDecoder<Value>.integer($0) }
    }
}

extension CellDecoder where Value: FixedWidthInteger {
    /// The one integer that these bytes are, in network order.
    fileprivate static func integer(_ bytes: UnsafeRawBufferPointer) -> Value? {
        guard bytes.count == MemoryLayout<Value>.size else { return nil }
        return Value(bigEndian: bytes.loadUnaligned(as: Value.self))
    }
}

extension CellDecoder where Value == Bool {
    static let bool = CellDecoder(name: "bool", types: [PostgresType.bool], arrayTypes: [PostgresType.boolArray]) { bytes, _ in
        bytes.count == 1 ? bytes[0] != 0 : nil
    }
}

extension CellDecoder where Value == Int16 {
    static let int2 = CellDecoder(name: "int2", types: [PostgresType.int2], arrayTypes: [PostgresType.int2Array]) { bytes, _ in integer(bytes) }
}

extension CellDecoder where Value == Int32 {
    static let int4 = CellDecoder(name: "int4", types: [PostgresType.int4], arrayTypes: [PostgresType.int4Array]) { bytes, _ in integer(bytes) }
}

extension CellDecoder where Value == Int64 {
    static let int8 = CellDecoder(name: "int8", types: [PostgresType.int8], arrayTypes: [PostgresType.int8Array]) { bytes, _ in integer(bytes) }

    static let timestamptz = CellDecoder(
        name: "timestamptz", types: [PostgresType.timestamptz], arrayTypes: [PostgresType.timestamptzArray]
    ) { bytes, _ in integer(bytes).flatMap(PostgresEpoch.fromWire) }
}

extension CellDecoder where Value == UInt64 {
    /// PostgreSQL 15 has no binary array of it that this program reads.
    static let xid8 = CellDecoder(name: "xid8", types: [PostgresType.xid8], arrayTypes: []) { bytes, _ in integer(bytes) }
}

extension CellDecoder where Value == Double {
    static let float8 = CellDecoder(name: "float8", types: [PostgresType.float8], arrayTypes: []) { bytes, _ in
        CellDecoder<UInt64>.integer(bytes).map(Double.init(bitPattern:))
    }
}

extension CellDecoder where Value == [UInt8] {
    static let bytea = CellDecoder(name: "bytea", types: [PostgresType.bytea], arrayTypes: [PostgresType.byteaArray]) { bytes, _ in [UInt8](bytes) }
}

extension CellDecoder where Value == UUIDBytes {
    static let uuid = CellDecoder(name: "uuid", types: [PostgresType.uuid], arrayTypes: [PostgresType.uuidArray]) { bytes, _ in
        var reader = BinaryReader(bytes)
        guard bytes.count == 16, let high = reader.integer(UInt64.self), let low = reader.integer(UInt64.self) else { return nil }
        return UUIDBytes(high: high, low: low)
    }
}

extension CellDecoder where Value == String {
    static let text = CellDecoder(
        name: "text", types: PostgresType.textual, arrayTypes: [PostgresType.textArray, PostgresType.varcharArray, PostgresType.nameArray]
    ) { bytes, _ in String(validating: bytes, as: UTF8.self) }

    /// jsonb is its version and the text; json is the text.
    static let json = CellDecoder(
        name: "jsonb", types: [PostgresType.jsonb, PostgresType.json], arrayTypes: [PostgresType.jsonbArray]
    ) { bytes, type in
        if type == PostgresType.json { return String(validating: bytes, as: UTF8.self) }
        guard bytes.first == 1 else { return nil }
        return String(validating: bytes.dropFirst(), as: UTF8.self)
    }
}
