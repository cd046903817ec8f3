/// The answer to one statement. Its rows are read in place from libpq's memory, which lives as long as any of them.
public struct PostgresRows: Sendable, RandomAccessCollection {
    private let result: QueryResult

    init(_ result: QueryResult) {
        self.result = result
    }

    public var startIndex: Int { 0 }
    public var endIndex: Int { result.rowCount }

    public subscript(position: Int) -> PostgresRow {
        precondition((0..<result.rowCount).contains(position), "row out of bounds")
        return PostgresRow(result: result, row: position)
    }

    /// Rows inserted, updated or deleted, or returned by a SELECT; 0 for statements that have no such count.
    public var affectedRows: Int { result.affectedRows }
}
