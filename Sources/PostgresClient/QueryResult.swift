import CLibpq

/// One `PGresult` of libpq, cleared with the last row that refers to it.
///
/// `@unchecked Sendable`: a PGresult that `PQgetResult` has handed out is never changed again, and the functions used here only read it.
final class QueryResult: @unchecked Sendable {
    private let result: OpaquePointer
    let rowCount: Int
    let columnCount: Int

    /// Takes over the result.
    init(_ result: OpaquePointer) {
        self.result = result
        rowCount = Int(PQntuples(result))
        columnCount = Int(PQnfields(result))
    }

    deinit {
        PQclear(result)
    }

    var affectedRows: Int {
        Int(String(cString: PQcmdTuples(result))) ?? 0
    }

    /// The type of a column and the bytes of a cell, nil for NULL. The bytes are valid within the body only.
    func withCell<Value>(
        row: Int, column: Int, _ body: (_ type: UInt32, _ bytes: UnsafeRawBufferPointer?) throws(PostgresError) -> Value
    ) throws(PostgresError) -> Value {
        guard (0..<rowCount).contains(row), (0..<columnCount).contains(column) else {
            throw .decoding("there is no column \(column): the result has \(columnCount)")
        }
        let (row, column) = (Int32(row), Int32(column))
        let type = PQftype(result, column)
        if PQgetisnull(result, row, column) != 0 { return try body(type, nil) }
        return try body(type, UnsafeRawBufferPointer(start: PQgetvalue(result, row, column), count: Int(PQgetlength(result, row, column))))
    }
}
