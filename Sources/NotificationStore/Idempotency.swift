public import NotificationCore
public import PostgresClient

/// That a request is to be carried out once: it is claimed in the transaction of what it writes (`Idempotency-Key`, draft-ietf-httpapi-idempotency-key-header).
public struct IdempotencyClaim: Sendable, Hashable {
    /// How long a claim is remembered.
    public static let hours = 24

    /// The API key.
    public var owner: NotificationID
    public var route: String
    public var key: String
    /// SHA-256 of the request's body.
    public var digest: [UInt8]
    /// What is answered, but for the numbers of what was created.
    public var answer: String

    public init(owner: NotificationID, route: String, key: String, digest: [UInt8], answer: String) {
        self.owner = owner
        self.route = route
        self.key = key
        self.digest = digest
        self.answer = answer
    }

    /// The order in which a batch makes its claims.
    static func precedes(_ left: IdempotencyClaim, _ right: IdempotencyClaim) -> Bool {
        if left.owner != right.owner { return left.owner < right.owner }
        if left.route != right.route { return left.route < right.route }
        return left.key < right.key
    }
}

/// What requests with an `Idempotency-Key` were answered.
public struct IdempotencyStore: Sendable {
    public struct Answer: Sendable {
        public var digest: [UInt8]
        public var answer: String
        /// Numbers of what was created; nil: it has none.
        public var seqs: [NotificationID: Int64?]
    }

    private let pool: PostgresPool

    public init(pool: PostgresPool) {
        self.pool = pool
    }

    // Index: idempotency_pkey.
    private static let find = PostgresStatement(
        "SELECT digest, answer, ids, seqs FROM idempotency WHERE owner = $1 AND route = $2 AND key = $3 AND at > clock_timestamp() - interval '\(IdempotencyClaim.hours) hours'")
    // The same of a job's chunk, which lives as long as its job.
    private static let findChunk = PostgresStatement("SELECT digest, answer, ids, seqs FROM idempotency WHERE owner = $1 AND route = $2 AND key = $3")

    /// Nil when no such request was carried out in the last day.
    public func find(_ claim: IdempotencyClaim, isJob: Bool = false) async throws(StoreError) -> Answer? {
        let values: [PostgresValue] = [.uuid(UUIDBytes(high: claim.owner.high, low: claim.owner.low)), .text(claim.route), .text(claim.key)]
        return try await InboxReader.run { () async throws(PostgresError) in
            guard let row = try await self.pool.execute(isJob ? Self.findChunk : Self.find, values).first else { return nil }
            let numbers = Self.numbers(try row.uuidArray(2), try row.nullableInt8Array(3))
            return Answer(digest: try row.bytes(0), answer: try row.text(1), seqs: numbers)
        }
    }

    private static let remember = PostgresStatement("SELECT claim_request($1, $2, $3, $4, $5)")

    /// Keeps the answer of a request that needs no transaction of its own: to carry it out once more changes nothing. False: another one's is kept already.
    public func remember(_ claim: IdempotencyClaim) async throws(StoreError) -> Bool {
        let values: [PostgresValue] = [
            .uuid(UUIDBytes(high: claim.owner.high, low: claim.owner.low)), .text(claim.route), .text(claim.key), .bytea(claim.digest), .text(claim.answer),
        ]
        return try await InboxReader.run { () async throws(PostgresError) in try await self.pool.execute(Self.remember, values).first?.bool(0) ?? false }
    }

    /// Owner, route, key and digest; without a claim there is no key.
    static func values(_ claim: IdempotencyClaim?) -> [PostgresValue] {
        guard let claim else { return [.null, .null, .null, .null] }
        return [.uuid(claim.owner.bytes), .text(claim.route), .text(claim.key), .bytea(claim.digest)]
    }

    static func numbers(_ ids: [UUIDBytes], _ seqs: [Int64?]) -> [NotificationID: Int64?] {
        var numbers: [NotificationID: Int64?] = [:]
        for (id, seq) in zip(ids, seqs) { numbers[NotificationID(high: id.high, low: id.low)] = seq }
        return numbers
    }
}
