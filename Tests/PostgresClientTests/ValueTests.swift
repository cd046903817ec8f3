import TestServers
import Testing

@testable import PostgresClient

struct RoundTrip: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let value: PostgresValue
    let type: String
    /// How PostgreSQL itself writes it.
    let text: String
    let check: @Sendable (PostgresRow) throws -> Bool

    init<Value: Equatable & Sendable>(
        _ value: PostgresValue, _ type: String, _ text: String, _ read: @escaping @Sendable (PostgresRow) throws -> Value, _ expected: Value
    ) {
        testDescription = "\(type) \(text.prefix(30))"
        self.value = value
        self.type = type
        self.text = text
        check = { try read($0) == expected }
    }
}

private let id = UUIDBytes(high: 0x0193_0000_0000_7000, low: 0x8000_0000_0000_00ff)
private let bells = "é \u{1F514}\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}\n\t\"'\\{},"

extension RoundTrip {
    static let all: [RoundTrip] = [
        RoundTrip(.bool(true), "bool", "true", { try $0.bool(0) }, true),
        RoundTrip(.bool(false), "bool", "false", { try $0.bool(0) }, false),
        RoundTrip(.int2(.min), "int2", "-32768", { try $0.int2(0) }, .min),
        RoundTrip(.int4(.min), "int4", "-2147483648", { try $0.int4(0) }, .min),
        RoundTrip(.int8(.min), "int8", "-9223372036854775808", { try $0.int8(0) }, .min),
        RoundTrip(.int8(.max), "int8", "9223372036854775807", { try $0.int8(0) }, .max),
        RoundTrip(.float8(-1.5e300), "float8", "-1.5e+300", { try $0.float8(0) }, -1.5e300),
        RoundTrip(.float8(.infinity), "float8", "Infinity", { try $0.float8(0) }, .infinity),
        RoundTrip(.text(""), "text", "", { try $0.text(0) }, ""),
        RoundTrip(.text(bells), "text", bells, { try $0.text(0) }, bells),
        RoundTrip(.bytea([]), "bytea", "\\x", { try $0.bytes(0) }, []),
        RoundTrip(.bytea([0, 255, 10]), "bytea", "\\x00ff0a", { try $0.bytes(0) }, [0, 255, 10]),
        RoundTrip(.uuid(id), "uuid", "01930000-0000-7000-8000-0000000000ff", { try $0.uuid(0) }, id),
        RoundTrip(
            .timestamptz(microsecondsSince1970: 1_795_257_000_000_001), "timestamptz", "2026-11-21 10:30:00.000001+00", { try $0.timestamptz(0) },
            1_795_257_000_000_001),
        RoundTrip(.timestamptz(microsecondsSince1970: -1), "timestamptz", "1969-12-31 23:59:59.999999+00", { try $0.timestamptz(0) }, -1),
        RoundTrip(.timestamptz(microsecondsSince1970: .max), "timestamptz", "infinity", { try $0.timestamptz(0) }, .max),
        RoundTrip(.jsonb(#"{"a":"\#u{1F514}"}"#), "jsonb", #"{"a": "\#u{1F514}"}"#, { try $0.json(0) }, #"{"a": "\#u{1F514}"}"#),
        RoundTrip(.xid8(.max), "xid8", "18446744073709551615", { try $0.xid8(0) }, .max),
        RoundTrip(.null, "text", "", { try $0.optionalText(0) }, nil),
        RoundTrip(.null, "uuid", "", { try $0.optionalUUID(0) }, nil),
        RoundTrip(.null, "int8", "", { try $0.optionalInt8(0) }, nil),
        RoundTrip(.null, "timestamptz", "", { try $0.optionalTimestamptz(0) }, nil),
        RoundTrip(.textArray([]), "text[]", "{}", { try $0.textArray(0) }, []),
        RoundTrip(.textArray(["", nil, bells, "NULL"]), "text[]", "", { try $0.nullableTextArray(0) }, ["", nil, bells, "NULL"]),
        RoundTrip(.textArray(["a", "b"]), "text[]", "{a,b}", { try $0.textArray(0) }, ["a", "b"]),
        RoundTrip(.int8Array([1, nil, .max]), "int8[]", "{1,NULL,9223372036854775807}", { try $0.nullableInt8Array(0) }, [1, nil, .max]),
        RoundTrip(.int8Array([]), "int8[]", "{}", { try $0.int8Array(0) }, []),
        RoundTrip(.int8Array([1, 2]), "int8[]", "{1,2}", { try $0.int8Array(0) }, [1, 2]),
        RoundTrip(.int4Array([1, nil]), "int4[]", "{1,NULL}", { try $0.nullableInt4Array(0) }, [1, nil]),
        RoundTrip(.int2Array([-1, nil]), "int2[]", "{-1,NULL}", { try $0.nullableInt2Array(0) }, [-1, nil]),
        RoundTrip(.boolArray([true, nil, false]), "bool[]", "{t,NULL,f}", { try $0.nullableBoolArray(0) }, [true, nil, false]),
        RoundTrip(.uuidArray([id, nil]), "uuid[]", "{01930000-0000-7000-8000-0000000000ff,NULL}", { try $0.nullableUUIDArray(0) }, [id, nil]),
        RoundTrip(
            .timestamptzArray([0, nil]), "timestamptz[]", "{\"1970-01-01 00:00:00+00\",NULL}", { try $0.nullableTimestamptzArray(0) }, [0, nil]),
        RoundTrip(.byteaArray([[], nil, [0]]), "bytea[]", "{\"\\\\x\",NULL,\"\\\\x00\"}", { try $0.nullableBytesArray(0) }, [[], nil, [0]]),
        RoundTrip(.jsonbArray(["1", nil, "{}"]), "jsonb[]", "{1,NULL,\"{}\"}", { try $0.nullableJSONArray(0) }, ["1", nil, "{}"]),
    ]
}

extension Live {
    @Suite("Values")
    struct Values {
        @Test("every type comes back as it was sent, and PostgreSQL reads it as meant", arguments: RoundTrip.all)
        func roundTrip(item: RoundTrip) async throws {
            try await withConnection(PostgresServer.shared().url()) { connection async throws in
                _ = try await connection.execute(PostgresStatement("SET timezone = 'UTC'", prepared: false))
                let statement = PostgresStatement("SELECT $1::\(item.type), coalesce($1::\(item.type)::text, '')")
                for _ in 0..<2 {
                    let rows = try await connection.execute(statement, [item.value])
                    #expect(rows.count == 1)
                    #expect(try item.check(rows[0]))
                    if !item.text.isEmpty { #expect(try rows[0].text(1) == item.text) }
                }
            }
        }

        @Test("a parameter may be NULL first and a value later, and of another type still later")
        func changingTypes() async throws {
            try await withConnection(PostgresServer.shared().url()) { connection async throws in
                let statement = PostgresStatement("SELECT coalesce($1, 7)::int8 + $2")
                #expect(try await connection.execute(statement, [.null, .int8(1)])[0].int8(0) == 8)
                #expect(try await connection.execute(statement, [.int4(1), .int8(1)])[0].int8(0) == 2)
                #expect(try await connection.execute(statement, [.int8(2), .null])[0].optionalInt8(0) == nil)
                #expect(try await connection.execute(statement, [.int8(2), .int8(3)])[0].int8(0) == 5)
            }
        }

        @Test(
            "text with NUL is refused before sending, wherever it stands",
            arguments: [
                PostgresValue.text("a\0b"), .textArray(["", "\0"]), .jsonb("\0"), .jsonbArray([nil, "\"\0\""]),
            ])
        func nul(value: PostgresValue) async throws {
            try await withConnection(PostgresServer.shared().url()) { connection async throws in
                let error = await failure { try await connection.execute(PostgresStatement("SELECT $1"), [value]) }
                #expect(error?.code == .server)
                #expect(error?.sqlState == "22021")
                #expect(error?.message.contains("U+0000") == true)
                #expect(await failure { try await connection.execute(PostgresStatement("SELECT 1 \0")) }?.sqlState == "22021")
                #expect(await failure { try await connection.executeScript("\0") }?.sqlState == "22021")
            }
        }

        @Test("reading a column as what it is not is an error, and so are NULL and a column that is not there")
        func wrongTypes() async throws {
            try await withConnection(PostgresServer.shared().url()) { connection async throws in
                let row = try await connection.execute(PostgresStatement("SELECT 1::int4, NULL::text, ARRAY[[1,2],[3,4]]::int8[], ARRAY[NULL]::text[]"))[0]
                func code(_ read: () throws -> some Any) -> PostgresError.Code? {
                    do {
                        _ = try read()
                        return nil
                    } catch {
                        return (error as? PostgresError)?.code
                    }
                }
                #expect(code { try row.int8(0) } == .decoding)
                #expect(code { try row.optionalUUID(1) } == .decoding)
                #expect(code { try row.text(1) } == .decoding)
                #expect(code { try row.int8Array(2) } == .decoding)
                #expect(code { try row.textArray(3) } == .decoding)
                #expect(code { try row.int4(4) } == .decoding)
                #expect(code { try row.int4(-1) } == .decoding)
                #expect(try row.isNull(1))
                #expect(try !row.isNull(0))
            }
        }
    }
}
