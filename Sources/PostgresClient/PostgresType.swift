/// Object ids of the built-in types, as in PostgreSQL's `pg_type.dat`; they never change.
enum PostgresType {
    static let unspecified: UInt32 = 0
    static let bool: UInt32 = 16
    static let bytea: UInt32 = 17
    static let char: UInt32 = 18
    static let name: UInt32 = 19
    static let int8: UInt32 = 20
    static let int2: UInt32 = 21
    static let int4: UInt32 = 23
    static let text: UInt32 = 25
    static let json: UInt32 = 114
    static let unknown: UInt32 = 705
    static let float8: UInt32 = 701
    static let bpchar: UInt32 = 1042
    static let varchar: UInt32 = 1043
    static let timestamptz: UInt32 = 1184
    static let uuid: UInt32 = 2950
    static let jsonb: UInt32 = 3802
    static let xid8: UInt32 = 5069

    static let boolArray: UInt32 = 1000
    static let byteaArray: UInt32 = 1001
    static let nameArray: UInt32 = 1003
    static let int2Array: UInt32 = 1005
    static let int4Array: UInt32 = 1007
    static let textArray: UInt32 = 1009
    static let varcharArray: UInt32 = 1015
    static let int8Array: UInt32 = 1016
    static let timestamptzArray: UInt32 = 1185
    static let uuidArray: UInt32 = 2951
    static let jsonbArray: UInt32 = 3807

    /// Types whose binary form is the plain UTF-8 text.
    static let textual: [UInt32] = [text, varchar, bpchar, name, char, unknown]
}

/// `timestamptz` counts microseconds from 2000-01-01; everything else in this program counts from 1970.
enum PostgresEpoch {
    static let offset: Int64 = 946_684_800_000_000

    /// The two ends of `Int64` are infinity and -infinity on both sides.
    static func toWire(_ microsecondsSince1970: Int64) -> Int64? {
        if microsecondsSince1970 == .max || microsecondsSince1970 == .min { return microsecondsSince1970 }
        let (value, overflow) = microsecondsSince1970.subtractingReportingOverflow(offset)
        return overflow ? nil : value
    }

    static func fromWire(_ microsecondsSince2000: Int64) -> Int64? {
        if microsecondsSince2000 == .max || microsecondsSince2000 == .min { return microsecondsSince2000 }
        let (value, overflow) = microsecondsSince2000.addingReportingOverflow(offset)
        return overflow ? nil : value
    }
}
