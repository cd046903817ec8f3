/// A place in one user's sequence of changes. Positions of different epochs do not compare: the data is not the same.
public struct StreamPosition: Hashable, Sendable, CustomStringConvertible {
    public var epoch: Int64
    public var seq: Int64

    public init(epoch: Int64, seq: Int64) {
        self.epoch = epoch
        self.seq = seq
    }

    /// `<epoch>-<seq>`, the form of the stream's `id:` (opaque to clients).
    public var description: String { "\(self.epoch)-\(self.seq)" }

    /// Nil unless it is exactly two decimal numbers that this program could have written.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let epoch = Self.number(parts[0]), let seq = Self.number(parts[1]), epoch > 0 else { return nil }
        self.epoch = epoch
        self.seq = seq
    }

    private static func number(_ text: some StringProtocol) -> Int64? {
        guard (1...19).contains(text.utf8.count), text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
        if text.utf8.count > 1, text.utf8.first == UInt8(ascii: "0") { return nil }
        return Int64(text)
    }

    package func append(to bytes: inout [UInt8]) {
        bytes.append(decimal: self.epoch)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(decimal: self.seq)
    }
}

/// Where a client asks to go on. What it sends is never an error: what cannot be understood is answered with `resync`.
public enum ResumePoint: Sendable, Hashable {
    /// It asks for nothing: the stream starts at the head.
    case fresh
    case after(StreamPosition)
    /// Something that this service did not write.
    case malformed

    /// From the header `Last-Event-ID`, else the query's `last_event_id`; an empty one counts as absent.
    public init(header: String?, query: String?) {
        let text = [header, query].compactMap { $0 }.first { !$0.isEmpty }
        guard let text else {
            self = .fresh
            return
        }
        self = StreamPosition(text).map { .after($0) } ?? .malformed
    }
}
