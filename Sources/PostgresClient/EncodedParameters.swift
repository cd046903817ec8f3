/// The parameters of one statement as they go on the wire, made on the caller's thread so that the connection's thread only copies them.
struct EncodedParameters: Sendable {
    /// The most that the protocol's 16-bit count allows.
    static let maximumCount = 65_535

    private(set) var types: [UInt32] = []
    /// -1 for NULL.
    private(set) var lengths: [Int32] = []
    /// All values, one behind the other.
    private(set) var bytes: [UInt8] = []

    init(_ values: [PostgresValue]) throws(PostgresError) {
        guard values.count <= Self.maximumCount else {
            throw PostgresError(code: .server, sqlState: "54023", message: "a statement takes at most 65,535 parameters", hint: "pass arrays")
        }
        types.reserveCapacity(values.count)
        lengths.reserveCapacity(values.count)
        for value in values { try append(value) }
    }

    var count: Int { types.count }

    private mutating func append(_ value: PostgresValue) throws(PostgresError) {
        let start = bytes.count
        switch value {
        case .null:
            types.append(PostgresType.unspecified)
            lengths.append(-1)
            return
        case .bool(let value): open(PostgresType.bool); put(value)
        case .int2(let value): open(PostgresType.int2); put(value)
        case .int4(let value): open(PostgresType.int4); put(value)
        case .int8(let value): open(PostgresType.int8); put(value)
        case .float8(let value): open(PostgresType.float8); put(value.bitPattern)
        case .text(let value): open(PostgresType.text); try put(value)
        case .bytea(let value): open(PostgresType.bytea); put(value)
        case .uuid(let value): open(PostgresType.uuid); put(value)
        case .timestamptz(let value): open(PostgresType.timestamptz); try putTime(value)
        case .jsonb(let value): open(PostgresType.jsonb); try putJSON(value)
        case .xid8(let value): open(PostgresType.xid8); put(value)
        case .textArray(let items):
            open(PostgresType.textArray)
            try put(items, of: PostgresType.text) { (me, item) throws(PostgresError) in try me.put(item) }
        case .int8Array(let items):
            open(PostgresType.int8Array)
            try put(items, of: PostgresType.int8) { (me, item) throws(PostgresError) in me.put(item) }
        case .int4Array(let items):
            open(PostgresType.int4Array)
            try put(items, of: PostgresType.int4) { (me, item) throws(PostgresError) in me.put(item) }
        case .int2Array(let items):
            open(PostgresType.int2Array)
            try put(items, of: PostgresType.int2) { (me, item) throws(PostgresError) in me.put(item) }
        case .boolArray(let items):
            open(PostgresType.boolArray)
            try put(items, of: PostgresType.bool) { (me, item) throws(PostgresError) in me.put(item) }
        case .uuidArray(let items):
            open(PostgresType.uuidArray)
            try put(items, of: PostgresType.uuid) { (me, item) throws(PostgresError) in me.put(item) }
        case .timestamptzArray(let items):
            open(PostgresType.timestamptzArray)
            try put(items, of: PostgresType.timestamptz) { (me, item) throws(PostgresError) in try me.putTime(item) }
        case .byteaArray(let items):
            open(PostgresType.byteaArray)
            try put(items, of: PostgresType.bytea) { (me, item) throws(PostgresError) in me.put(item) }
        case .jsonbArray(let items):
            open(PostgresType.jsonbArray)
            try put(items, of: PostgresType.jsonb) { (me, item) throws(PostgresError) in try me.putJSON(item) }
        }
        lengths.append(try checkedLength(bytes.count - start))
    }

    private mutating func open(_ type: UInt32) {
        types.append(type)
    }

    /// PostgreSQL takes no value of 1 GiB or more.
    private func checkedLength(_ length: Int) throws(PostgresError) -> Int32 {
        guard length < 1 << 30 else {
            throw PostgresError(code: .server, sqlState: "54000", message: "a value has 1 GiB or more", hint: "split it")
        }
        return Int32(length)
    }

    private mutating func put(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    private mutating func put(_ value: Bool) {
        bytes.append(value ? 1 : 0)
    }

    private mutating func put(_ value: [UInt8]) {
        bytes.append(contentsOf: value)
    }

    private mutating func put(_ value: UUIDBytes) {
        put(value.high)
        put(value.low)
    }

    private mutating func put(_ value: String) throws(PostgresError) {
        let start = bytes.count
        bytes.append(contentsOf: value.utf8)
        if bytes[start...].contains(0) {
            throw PostgresError(
                code: .server, sqlState: "22021", message: "a text parameter holds U+0000, which PostgreSQL cannot store", hint: "remove it, or use bytea")
        }
    }

    private mutating func putTime(_ microsecondsSince1970: Int64) throws(PostgresError) {
        guard let value = PostgresEpoch.toWire(microsecondsSince1970) else {
            throw PostgresError(code: .server, sqlState: "22008", message: "a time lies outside of timestamptz", hint: "check where it comes from")
        }
        put(value)
    }

    /// The binary form of jsonb: its version, then the text.
    private mutating func putJSON(_ text: String) throws(PostgresError) {
        bytes.append(1)
        try put(text)
    }

    /// `array_send`: dimensions, whether there are NULLs, the element's type, then for the one dimension its size and lower bound, and each
    /// element behind its length. An empty array has no dimension.
    private mutating func put<Item>(
        _ items: [Item?], of type: UInt32, _ each: (inout EncodedParameters, Item) throws(PostgresError) -> Void
    ) throws(PostgresError) {
        put(Int32(items.isEmpty ? 0 : 1))
        put(Int32(items.contains { $0 == nil } ? 1 : 0))
        put(type)
        if items.isEmpty { return }
        put(Int32(truncatingIfNeeded: items.count))
        put(Int32(1))
        for item in items {
            guard let item else {
                put(Int32(-1))
                continue
            }
            let place = bytes.count
            put(Int32(0))
            try each(&self, item)
            let length = try checkedLength(bytes.count - place - 4)
            withUnsafeBytes(of: length.bigEndian) { bytes.replaceSubrange(place..<place + 4, with: $0) }
        }
    }
}
