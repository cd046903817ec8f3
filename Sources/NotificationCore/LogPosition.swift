/// A place in Postgres' write-ahead log. Places compare within one timeline only.
public struct LogPosition: Sendable, Hashable {
    public var timeline: Int32
    public var lsn: UInt64

    public init(timeline: Int32, lsn: UInt64) {
        self.timeline = timeline
        self.lsn = lsn
    }

    /// - Parameter lsn: as Postgres writes a `pg_lsn`: two hexadecimal numbers with a slash between them. Nil when it is none.
    public init?(timeline: Int32, lsn: String) {
        let parts = lsn.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let high = UInt64(parts[0], radix: 16), let low = UInt64(parts[1], radix: 16), low <= UInt32.max, high <= UInt32.max
        else { return nil }
        self.init(timeline: timeline, lsn: high << 32 | low)
    }

    /// As Postgres reads a `pg_lsn`.
    public var text: String {
        String(self.lsn >> 32, radix: 16, uppercase: true) + "/" + String(self.lsn & 0xFFFF_FFFF, radix: 16, uppercase: true)
    }
}
