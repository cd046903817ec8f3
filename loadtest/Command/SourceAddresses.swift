/// `127.0.0.2-127.0.0.9`, or single addresses, separated by commas: where streams come from, so that each brings its own ports.
enum SourceAddresses {
    /// Addresses of one run.
    private static let most = 4_096

    static func parse(_ text: String) throws(LoadtestError) -> [String] {
        var addresses: [String] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false)
            guard ends.count <= 2, let first = number(ends[0]), let last = number(ends[ends.count - 1]), first <= last,
                addresses.count + Int(last - first) < most
            else { throw .usage("'\(part)' is no range of IPv4 addresses", "Give FIRST-LAST as in 127.0.0.2-127.0.0.9, at most \(most) of them") }
            addresses += (first...last).map { address in
                [24, 16, 8, 0].map { String(address >> UInt32($0) & 255) }.joined(separator: ".")
            }
        }
        return addresses
    }

    private static func number(_ text: Substring) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard let part else { return nil }
            value = value << 8 | UInt32(part)
        }
        return value
    }
}
