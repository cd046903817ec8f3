
/// Where a piece of work belongs in a trace over several services (W3C Trace Context): the trace, and this piece's own part of it.
///
/// What waits, a job or a delivery, is written down with the header of the request that asked for it; whoever takes it up later goes on with that.
public struct TraceContext: Sendable, Equatable {
    /// 32 hexadecimal digits, not all zero.
    public let traceID: String
    /// 16 hexadecimal digits, not all zero: of this part.
    public let spanID: String
    /// Whether whoever began the trace records it.
    public let isSampled: Bool

    /// Goes on with what a header `traceparent` says; nil when it says nothing usable, and a trace of its own begins.
    ///
    /// Later versions may append fields, which are ignored (section 4.3.2 of the recommendation); `ff` is no version.
    public init?(parent header: String?) {
        guard let header, header.utf8.count >= 55, header.utf8.count <= 256 else { return nil }
        let text = Array(header.utf8)
        let dash = UInt8(ascii: "-")
        guard text[2] == dash, text[35] == dash, text[52] == dash, text.count == 55 || text[55] == dash else { return nil }
        let (version, trace, parent, flags) = (text[0..<2], text[3..<35], text[36..<52], text[53..<55])
        guard Self.isHex(version), Self.isHex(trace), Self.isHex(parent), Self.isHex(flags), !Self.isZero(trace), !Self.isZero(parent),
            version != [UInt8(ascii: "f"), UInt8(ascii: "f")], version != [UInt8(ascii: "0"), UInt8(ascii: "0")] || text.count == 55,
            let bits = UInt8(String(decoding: flags, as: UTF8.self), radix: 16)
        else { return nil }
        self.traceID = String(decoding: trace, as: UTF8.self)
        self.spanID = Self.makeSpanID()
        self.isSampled = bits & 1 == 1
    }

    /// The header for those that are called on behalf of this part, and for its answer (`traceresponse`, level 2 of the recommendation). 55 characters.
    public var header: String { "00-\(self.traceID)-\(self.spanID)-\(self.isSampled ? "01" : "00")" }

    /// Lower case only (section 3.2.2.3).
    private static func isHex(_ text: ArraySlice<UInt8>) -> Bool {
        text.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0) }
    }

    private static func isZero(_ text: ArraySlice<UInt8>) -> Bool { text.allSatisfy { $0 == UInt8(ascii: "0") } }

    private static func makeSpanID() -> String {
        let digits = String(UInt64.random(in: 1...UInt64.max), radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
