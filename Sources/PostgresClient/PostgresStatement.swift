/// The text of one SQL statement with parameters `$1`, `$2` …, made once and used many times.
///
/// A prepared one is parsed on its first use on each connection, in the same round trip, under a name that its text alone decides.
public struct PostgresStatement: Sendable, Hashable {
    /// The SQL text.
    public let sql: String
    /// Whether it is prepared on first use. Leave it out for statements that run once.
    public let prepared: Bool
    /// 128 bits of the text: the prepared statement's name, and what makes hashing and comparing cheap.
    let digest: UUIDBytes
    let containsNUL: Bool

    public init(_ sql: String, prepared: Bool = true) {
        self.sql = sql
        self.prepared = prepared
        var high: UInt64 = 0xcbf2_9ce4_8422_2325
        var low: UInt64 = 0x6c62_272e_07bb_0142
        var containsNUL = false
        for byte in sql.utf8 {
            // FNV-1a, twice from different starts, the second also turned: names must differ between our own texts, nothing more.
            high = (high ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
            low = ((low << 7 | low >> 57) ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
            if byte == 0 { containsNUL = true }
        }
        digest = UUIDBytes(high: high, low: low)
        self.containsNUL = containsNUL
    }

    public static func == (a: PostgresStatement, b: PostgresStatement) -> Bool {
        a.digest == b.digest && a.prepared == b.prepared && a.sql == b.sql
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(digest.low)
    }

    func name(generation: Int) -> String {
        "s\(String(digest.high, radix: 36))_\(String(digest.low, radix: 36))_\(generation)"
    }
}
