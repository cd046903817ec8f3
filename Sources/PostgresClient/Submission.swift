/// One piece of work for a connection and whom to tell.
struct Submission: Sendable {
    typealias Completion = @Sendable (Result<[PostgresRows], PostgresError>) -> Void

    enum Kind: Sendable {
        case statement(PostgresStatement, EncodedParameters)
        case transaction([Item])
        case script(String)
    }

    let kind: Kind
    /// What it takes of the queue's bound.
    let bytes: Int
    let completion: Completion

    /// The Deque's place, the closure and the arrays' headers.
    private static let overhead = 256

    static func statement(_ statement: PostgresStatement, _ values: [PostgresValue], _ completion: @escaping Completion) throws(PostgresError) -> Submission {
        let parameters = try encode(statement, values)
        return Submission(kind: .statement(statement, parameters), bytes: size(statement, parameters), completion: completion)
    }

    typealias Item = (statement: PostgresStatement, parameters: EncodedParameters)

    static func transaction(_ items: [Item], _ completion: @escaping Completion) -> Submission {
        Submission(kind: .transaction(items), bytes: items.reduce(overhead) { $0 + size($1.statement, $1.parameters) }, completion: completion)
    }

    static func encode(_ statements: [(PostgresStatement, [PostgresValue])]) throws(PostgresError) -> [Item] {
        var items: [Item] = []
        items.reserveCapacity(statements.count)
        for (statement, values) in statements { items.append((statement, try encode(statement, values))) }
        return items
    }

    static func script(_ sql: String, _ completion: @escaping Completion) -> Submission {
        Submission(kind: .script(sql), bytes: sql.utf8.count + overhead, completion: completion)
    }

    static func check(script: String) throws(PostgresError) {
        if script.utf8.contains(0) { throw containsNUL }
    }

    private static func encode(_ statement: PostgresStatement, _ values: [PostgresValue]) throws(PostgresError) -> EncodedParameters {
        if statement.containsNUL { throw containsNUL }
        return try EncodedParameters(values)
    }

    /// libpq takes the text as a C string and would send only what stands before it.
    private static let containsNUL = PostgresError(
        code: .server, sqlState: "22021", message: "the text of a statement holds U+0000", hint: "pass values as parameters")

    private static func size(_ statement: PostgresStatement, _ parameters: EncodedParameters) -> Int {
        statement.sql.utf8.count + parameters.bytes.count + parameters.count * 8 + overhead
    }
}
