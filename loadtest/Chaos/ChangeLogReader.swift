import Foundation

/// Reads the database through `psql`, a line at a time, so that no table has to fit in memory.
struct ChangeLogReader: Sendable {
    private let environment: [String: String]
    /// What the names of the run's users begin with.
    private let prefix: String

    /// The password goes through the environment: a command line is for everybody to see.
    init(databaseURL: String, prefix: String) throws(LoadtestError) {
        guard let parts = URLComponents(string: databaseURL), let host = parts.host else {
            throw .environment("CARILLON_DATABASE_URL is no URL", "See deploy/local env")
        }
        var environment = ProcessInfo.processInfo.environment
        environment["PGHOST"] = host
        environment["PGPORT"] = String(parts.port ?? 5_432)
        environment["PGUSER"] = parts.user
        environment["PGPASSWORD"] = parts.password
        environment["PGDATABASE"] = String(parts.path.dropFirst())
        environment["PGCONNECT_TIMEOUT"] = "10"
        self.environment = environment
        // It stands in a statement: letters, digits, hyphens.
        guard prefix.allSatisfy({ ($0.isASCII && ($0.isLetter || $0.isNumber)) || $0 == "-" }) else {
            throw .environment("'\(prefix)' cannot be looked for", "Use tokens of deploy/local")
        }
        self.prefix = prefix
    }

    /// The epoch of the cluster.
    func epoch() async throws -> UInt64 {
        var epoch: UInt64?
        try await read("SELECT epoch FROM cluster") { epoch = UInt64($0.first ?? "") }
        guard let epoch else { throw LoadtestError.environment("The database does not say its epoch", "Check that it was migrated") }
        return epoch
    }

    func heads() async throws -> [String: LogHead] {
        var heads: [String: LogHead] = [:]
        try await read("SELECT user_id, epoch, seq, unread, unseen FROM heads WHERE \(range("user_id"))") { fields throws(LoadtestError) in
            guard fields.count == 5, let epoch = UInt64(fields[1]), let seq = UInt64(fields[2]), let unread = Int64(fields[3]),
                let unseen = Int64(fields[4])
            else { throw Self.unusable(fields) }
            heads[String(fields[0])] = LogHead(epoch: epoch, seq: seq, unread: unread, unseen: unseen)
        }
        return heads
    }

    /// Numbered notifications that the log does not know, and ones that it says were deleted. Must be 0.
    func strays() async throws -> Int {
        var count = 0
        try await read(
            """
            SELECT count(*) FROM notifications n WHERE \(range("n.user_id")) AND n.seq IS NOT NULL AND (
                NOT EXISTS (SELECT FROM changes c WHERE c.user_id = n.user_id AND c.seq = n.seq AND c.kind = 1 AND c.notification_id = n.id)
                OR EXISTS (SELECT FROM changes c WHERE c.user_id = n.user_id AND c.notification_id = n.id AND c.kind IN (3, 6, 7)))
            """
        ) { count = Int($0.first ?? "") ?? 0 }
        return count
    }

    /// Calls `body` once for each user that has changes, with all of them in order.
    func changes(_ body: @escaping (String, [LogRow]) -> Void) async throws {
        var user = ""
        var rows: [LogRow] = []
        try await read(
            """
            SELECT c.user_id, c.seq, c.kind, c.notification_id, c.state, c.unread, c.unseen, extract(epoch FROM c.at), n.rec_id
            FROM changes c LEFT JOIN notifications n ON n.user_id = c.user_id AND n.id = c.notification_id
            WHERE \(range("c.user_id")) ORDER BY c.user_id, c.seq
            """
        ) { fields throws(LoadtestError) in
            guard fields.count == 9, let row = LogRow(fields) else { throw Self.unusable(fields) }
            if fields[0] != user {
                if !rows.isEmpty { body(user, rows) }
                user = String(fields[0])
                rows.removeAll(keepingCapacity: true)
            }
            rows.append(row)
        }
        if !rows.isEmpty { body(user, rows) }
    }

    private func range(_ column: String) -> String { "\(column) >= '\(prefix)' AND \(column) < '\(prefix):'" }

    private static func unusable(_ fields: [Substring]) -> LoadtestError {
        .environment("The database answers a row that this tool does not know: \(fields.joined(separator: " "))", "Use a tool of the same version")
    }

    /// Runs one statement and calls `body` with the fields of each row; `\N` is an empty field.
    private func read(_ statement: String, _ body: @escaping ([Substring]) throws(LoadtestError) -> Void) async throws {
        let box = UncheckedBox(body)
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            DispatchQueue.global().async {
                do {
                    try readBlocking(statement, box.value)
                    continuation.resume()
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
    }

    /// Hands a closure to the one thread that runs it while its owner waits for that thread: the two never touch it at the same time.
    private struct UncheckedBox<Value>: @unchecked Sendable {
        let value: Value
        init(_ value: Value) { self.value = value }
    }

    private func readBlocking(_ statement: String, _ body: ([Substring]) throws(LoadtestError) -> Void) throws(LoadtestError) {
        var rest: [UInt8] = []
        let arguments = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", "COPY (\(statement)) TO STDOUT"]
        let status = try Subprocess.run("psql", arguments, environment: environment) { (bytes) throws(LoadtestError) in
            rest.append(contentsOf: bytes)
            guard let end = rest.lastIndex(of: 0x0a) else { return }
            for line in rest[..<end].split(separator: 0x0a) {
                try body(String(decoding: line, as: UTF8.self).split(separator: "\t", omittingEmptySubsequences: false).map { $0 == "\\N" ? "" : $0 })
            }
            rest.removeFirst(end + 1)
        }
        guard status == 0 else {
            throw .environment("psql ended with status \(status)", "Its message stands above; check that Postgres runs")
        }
    }
}

extension LogRow {
    init?(_ fields: [Substring]) {
        guard let seq = UInt64(fields[1]), let kind = Int(fields[2]).flatMap(Kind.init), let state = Int(fields[4]), let unread = Int64(fields[5]),
            let unseen = Int64(fields[6]), let at = Double(fields[7])
        else { return nil }
        self.init(
            seq: seq, kind: kind, id: NotificationID(String(fields[3])), read: state & 1 != 0, seen: state & 2 != 0, unread: unread, unseen: unseen,
            call: CallNumber(String(fields[8])), at: at
        )
    }
}
