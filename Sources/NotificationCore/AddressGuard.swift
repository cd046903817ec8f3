/// Which addresses a webhook may be sent to: the public internet, and what the operator allows besides.
///
/// Whoever registers a webhook chooses where this service connects to, from inside of the operator's network. So everything that IANA's registries of
/// special-purpose addresses do not call globally reachable is refused, and so is every form of IPv6 address that leads to an IPv4 one.
public struct AddressGuard: Sendable, Equatable {
    public let allowed: [IPRange]

    public init(allowed: [IPRange] = []) {
        self.allowed = allowed
    }

    /// Why nothing is sent to that address; nil when it may be.
    public func refusal(of address: IPAddress) -> String? {
        if self.allowed.contains(where: { $0.contains(address) }) { return nil }
        for (range, name) in Self.special where range.contains(address) { return name }
        if case .v6 = address, !Self.global.contains(address) { return "no global unicast" }
        return nil
    }

    /// All of IPv6 that is given out.
    private static let global = Self.range("2000::/3")

    private static let special: [(IPRange, String)] = [
        // IANA IPv4 Special-Purpose Address Registry (RFC 6890 and its updates).
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        // A public address at which a cloud answers its machines only. The others' metadata is link-local, shared or unique local.
        ("168.63.129.16/32", "a cloud's metadata"),
        // IANA IPv6 Special-Purpose Address Registry.
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discarded"),
        ("100:0:0:1::/64", "a dummy prefix"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    ].map { (Self.range($0.0), $0.1) }

    private static func range(_ text: String) -> IPRange {
        guard let range = IPRange(text) else { preconditionFailure("\(text) is no range of addresses") }
        return range
    }
}
