import DequeModule
public import Logging
public import NotificationCore
public import PostgresClient
import Synchronization

/// Reads what is known of the recipients of notifications, for all requests of this node together.
///
/// One query is under way at a time; what is asked meanwhile waits for the next one, so that a busy node asks for more at
/// once, not more often. Nothing is kept: who changes a preference sees the next notification follow it.
public final class RecipientReader: Sendable {
    public struct Settings: Sendable {
        /// Users a query.
        public var batch = 1000
        /// Users that may wait, in all requests together.
        public var queue = 200_000

        public init() {}
    }

    public struct Counters: Sendable {
        public var queries = 0
        /// Users asked for.
        public var lookups = 0
        /// Requests turned away since too many waited.
        public var refused = 0
        /// Users that wait for their query.
        public var waiting = 0
    }

    /// Those of the users of whom something is known.
    public typealias Found = [UserID: Recipient]
    public typealias Completion = @Sendable (Result<Found, StoreError>) -> Void

    private struct Request: Sendable {
        var users: [UserID]
        var customer: String
        var completion: Completion
    }

    private enum Source: Sendable {
        case connection(PostgresConnection)
        case pool(PostgresPool)
    }

    private let source: Source
    private let settings: Settings
    private let logger: Logger
    private let queue = BatchQueue<Request>()
    private let state = Mutex(Counters())

    /// With a connection of its own, for nodes that ask all the time.
    public init(configuration: PostgresConfiguration, settings: Settings = Settings(), identity: ClusterIdentity, logger: Logger) {
        let connection = PostgresConnection(configuration: configuration, name: "recipients", logger: logger)
        self.source = .connection(connection)
        self.settings = settings
        self.logger = logger
        identity.watch(connection)
    }

    /// Over a pool that others use as well; whoever has it starts and closes it.
    public init(pool: PostgresPool, settings: Settings = Settings(), logger: Logger) {
        self.source = .pool(pool)
        self.settings = settings
        self.logger = logger
    }

    public func start() {
        if case .connection(let connection) = self.source { connection.start() }
    }

    public func close() async {
        if case .connection(let connection) = self.source { await connection.close() }
    }

    public var isAvailable: Bool {
        switch self.source {
        case .connection(let connection): connection.isConnected
        case .pool(let pool): pool.isAvailable
        }
    }

    public var counters: Counters { self.state.withLock { $0 } }

    /// Calls `completion` once, on a thread that must not be blocked, or before it returns.
    public func read(_ users: [UserID], customer: CustomerID?, completion: @escaping Completion) {
        let isTaken = self.state.withLock { counters in
            if counters.waiting > 0, counters.waiting + users.count > self.settings.queue {
                counters.refused += 1
                return false
            }
            counters.waiting += users.count
            return true
        }
        guard isTaken else {
            completion(.failure(StoreError(code: .overloaded, message: "too many recipients are looked up; try again in a moment")))
            return
        }
        if self.queue.append(Request(users: users, customer: customer?.value ?? "", completion: completion)) { self.next() }
    }

    /// The same for any number of users, one portion after the other, so that what is known of many is not held all at once, and others have their turn.
    public func fold<Value: Sendable>(
        _ users: ArraySlice<UserID>, customer: CustomerID?, into value: Value, _ add: @escaping @Sendable (consuming Value, [UserID], Found) -> Value,
        completion: @escaping @Sendable (Result<Value, StoreError>) -> Void
    ) {
        let portion = Array(users.prefix(self.settings.batch))
        let rest = users.dropFirst(portion.count)
        self.read(portion, customer: customer) { result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let found):
                let next = add(value, portion, found)
                if rest.isEmpty {
                    completion(.success(next))
                } else {
                    self.fold(rest, customer: customer, into: next, add, completion: completion)
                }
            }
        }
    }

    public func read(_ users: [UserID], customer: CustomerID?) async throws(StoreError) -> Found {
        let result: Result<Found, StoreError> = await withCheckedContinuation { continuation in
            self.read(users, customer: customer) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    private func next() {
        self.queue.next(take: self.take, begin: self.send)
    }

    /// Whole requests up to the bound, at least one.
    private func take(_ waiting: inout Deque<Request>) -> [Request] {
        var requests = [waiting.removeFirst()]
        var users = requests[0].users.count
        while let next = waiting.first, users + next.users.count <= self.settings.batch {
            users += next.users.count
            requests.append(waiting.removeFirst())
        }
        self.state.withLock { counters in
            counters.waiting -= users
            counters.queries += 1
            counters.lookups += users
        }
        return requests
    }

    // Index: preferences_pkey twice, contacts_pkey. Each LIMIT keeps its part a lookup by key for every user, whatever the planner thinks of tables that
    // were never analysed.
    private static let statement = PostgresStatement(
        """
        SELECT q.place::integer, o.body, s.body, c.user_id IS NOT NULL, c.email, c.phone, c.locale, c.timezone, c.telegram_chat_id
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS q(user_id, customer_id, place)
        LEFT JOIN LATERAL (SELECT p.body FROM preferences p WHERE p.user_id = q.user_id AND p.customer_id = '' LIMIT 1) o ON true
        LEFT JOIN LATERAL (
            SELECT p.body FROM preferences p WHERE p.user_id = q.user_id AND p.customer_id = q.customer_id AND q.customer_id <> '' LIMIT 1
        ) s ON true
        LEFT JOIN LATERAL (SELECT * FROM contacts c WHERE c.user_id = q.user_id LIMIT 1) c ON true
        WHERE o.body IS NOT NULL OR s.body IS NOT NULL OR c.user_id IS NOT NULL
        """)

    // The same for one user, the usual case: its plan does not depend on the values, so that Postgres keeps it.
    private static let one = PostgresStatement(
        """
        SELECT 1, o.body, s.body, c.user_id IS NOT NULL, c.email, c.phone, c.locale, c.timezone, c.telegram_chat_id
        FROM (SELECT) AS q
        LEFT JOIN LATERAL (SELECT p.body FROM preferences p WHERE p.user_id = $1::text AND p.customer_id = '' LIMIT 1) o ON true
        LEFT JOIN LATERAL (SELECT p.body FROM preferences p WHERE p.user_id = $1 AND p.customer_id = $2::text AND $2 <> '' LIMIT 1) s ON true
        LEFT JOIN LATERAL (SELECT * FROM contacts c WHERE c.user_id = $1 LIMIT 1) c ON true
        WHERE o.body IS NOT NULL OR s.body IS NOT NULL OR c.user_id IS NOT NULL
        """)

    private func send(_ requests: [Request]) {
        var users: [String?] = []
        var customers: [String?] = []
        for request in requests {
            for user in request.users {
                users.append(user.value)
                customers.append(request.customer)
            }
        }
        let isOne = users.count == 1
        let values: [PostgresValue] = isOne ? [.text(users[0] ?? ""), .text(customers[0] ?? "")] : [.textArray(users), .textArray(customers)]
        self.execute(isOne ? Self.one : Self.statement, values) { result in
            // The next query does not wait for those who hear of this one.
            self.next()
            switch result {
            case .success(let rows): self.answer(requests, rows)
            case .failure(let error):
                let failure = InboxReader.translate(error)
                for request in requests { request.completion(.failure(failure)) }
            }
        }
    }

    private func execute(_ statement: PostgresStatement, _ values: [PostgresValue], completion: @escaping @Sendable (Result<PostgresRows, PostgresError>) -> Void) {
        switch self.source {
        case .connection(let connection): connection.execute(statement, values, completion: completion)
        case .pool(let pool): pool.execute(statement, values, completion: completion)
        }
    }

    private func answer(_ requests: [Request], _ rows: PostgresRows) {
        let answers: [Found]
        do throws(PostgresError) {
            answers = try self.decode(requests, rows)
        } catch {
            self.logger.error("recipients not understood", metadata: ["error": "\(error)"])
            let failure = StoreError(code: .failed, message: "the database's answer was not understood")
            for request in requests { request.completion(.failure(failure)) }
            return
        }
        for (request, found) in zip(requests, answers) { request.completion(.success(found)) }
    }

    private func decode(_ requests: [Request], _ rows: PostgresRows) throws(PostgresError) -> [Found] {
        var answers = [Found](repeating: [:], count: requests.count)
        if rows.isEmpty { return answers }
        var places: [(request: Int, user: UserID)] = []
        for (index, request) in requests.enumerated() {
            for user in request.users { places.append((index, user)) }
        }
        for row in rows {
            let place = Int(try row.int4(0)) - 1
            guard places.indices.contains(place) else { continue }
            let contact = try row.bool(3) ? try ContactStore.contact(row, 4) : nil
            let recipient = Recipient(own: .readable(try row.optionalText(1), self.logger), customer: .readable(try row.optionalText(2), self.logger), contact: contact)
            answers[places[place].request][places[place].user] = recipient
        }
        return answers
    }

}

extension Preferences? {
    /// What is stored. Those that cannot be read any more count as unsaid, and are logged: they must not keep others from being notified.
    static func readable(_ text: String?, _ logger: Logger) -> Preferences? {
        guard let text else { return nil }
        do throws(ValidationError) {
            return try Preferences(stored: text)
        } catch {
            logger.error("stored preferences not understood", metadata: ["error": "\(error.errors.first?.detail ?? "")"])
            return nil
        }
    }
}

/// Hears of what is kept about recipients.
public protocol RecipientObserver: Sendable {
    /// Something is kept of the user now. Called after the commit, and waited for: for a moment at most.
    func known(_ user: UserID) async
}

/// That something is kept of a user is said at the head of the inbox, which every write has in its hands.
enum KnownRecipient {
    // Index: heads_pkey. With the row that it announces in one transaction; it stays when that row goes. The first time the commit tail tells it, too.
    static let mark = """
        WITH head AS (
            INSERT INTO heads (user_id, epoch, is_known) VALUES ($1, 0, true)
            ON CONFLICT (user_id) DO UPDATE SET is_known = true WHERE NOT heads.is_known RETURNING user_id
        ), told AS (
            INSERT INTO commits (batch_id, users, last_seqs) SELECT gen_random_uuid(), ARRAY[user_id], '{}' FROM head
        )
        """
}
