import CLibpq

/// The fields of an error or notice (protocol documentation, 55.8), whose codes the header has as characters.
enum PGField: Character {
    case sqlState = "C"
    case message = "M"
    case detail = "D"
    case hint = "H"
    case table = "t"
    case constraint = "n"

    func read(_ result: OpaquePointer) -> String? {
        PQresultErrorField(result, Int32(rawValue.asciiValue!)).map { String(cString: $0) }
    }
}

extension PostgresError {
    /// From a result of the server, or one that libpq made up.
    init(_ result: OpaquePointer) {
        let sqlState = PGField.sqlState.read(result)
        let code: Code =
            switch sqlState {
            case "57014": .timedOut
            // A standby: the statement was refused whole, and the next connection finds the primary.
            case "25006": .unavailable
            default: .server
            }
        self.init(
            code: code, sqlState: sqlState, message: PGField.message.read(result) ?? String(libpq: PQresultErrorMessage(result)),
            detail: PGField.detail.read(result), hint: PGField.hint.read(result), constraint: PGField.constraint.read(result),
            table: PGField.table.read(result))
    }
}

extension String {
    /// libpq's messages end with a line break and may have several lines.
    init(libpq message: UnsafePointer<CChar>?) {
        self = message.map { String(cString: $0).split(whereSeparator: \.isNewline).joined(separator: "; ") } ?? ""
    }
}
