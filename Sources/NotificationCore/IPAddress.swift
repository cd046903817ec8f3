#if canImport(Glibc)
public import Glibc
#elseif canImport(Musl)
public import Musl
#elseif canImport(Darwin)
public import Darwin
#endif

/// An IPv4 or IPv6 address.
public enum IPAddress: Hashable, Sendable, CustomStringConvertible {
    case v4(UInt32)
    case v6(UInt128)

    /// The usual text form, without brackets, zone or prefix. Nil for anything else, so also for the short and octal forms of old.
    public init?(_ text: some StringProtocol) {
        var four = in_addr()
        var six = in6_addr()
        let text = String(text)
        if text.utf8.contains(0) { return nil }
        if inet_pton(AF_INET, text, &four) == 1 {
            self = .v4(UInt32(bigEndian: four.s_addr))
        } else if inet_pton(AF_INET6, text, &six) == 1 {
            self = .v6(withUnsafeBytes(of: &six) { UInt128(bigEndian: $0.loadUnaligned(as: UInt128.self)) })
        } else {
            return nil
        }
    }

    /// Of a socket, of whatever length it is for its family. Nil for families other than the two.
    public init?(socketAddress: UnsafePointer<sockaddr>) {
        let bytes = UnsafeRawPointer(socketAddress)
        switch Int32(socketAddress.pointee.sa_family) {
        case AF_INET:
            self = .v4(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: MemoryLayout<sockaddr_in>.offset(of: \.sin_addr) ?? 4, as: UInt32.self)))
        case AF_INET6:
            self = .v6(UInt128(bigEndian: bytes.loadUnaligned(fromByteOffset: MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr) ?? 8, as: UInt128.self)))
        default:
            return nil
        }
    }

    public var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        switch self {
        case .v4(let bits):
            var address = in_addr(s_addr: bits.bigEndian)
            inet_ntop(AF_INET, &address, &text, socklen_t(text.count))
        case .v6(let bits):
            var bytes = bits.bigEndian
            inet_ntop(AF_INET6, &bytes, &text, socklen_t(text.count))
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`; an address alone is a range of one (RFC 4632, RFC 4291).
public struct IPRange: Hashable, Sendable, CustomStringConvertible {
    public let base: IPAddress
    public let prefix: Int

    /// Nil for what is no range, also when the address has bits beyond the prefix: one of the two would be a mistake.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let base = IPAddress(parts[0]) else { return nil }
        let width =
            switch base {
            case .v4: 32
            case .v6: 128
            }
        var prefix = width
        if parts.count == 2 {
            guard (1...3).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
                let number = Int(parts[1]), number <= width
            else { return nil }
            prefix = number
        }
        switch base {
        case .v4(let bits): if prefix < 32, bits << UInt32(prefix) != 0 { return nil }
        case .v6(let bits): if prefix < 128, bits << UInt128(prefix) != 0 { return nil }
        }
        self.base = base
        self.prefix = prefix
    }

    /// A range of one family holds no address of the other, mapped or not.
    public func contains(_ address: IPAddress) -> Bool {
        switch (self.base, address) {
        case (.v4(let base), .v4(let bits)): self.prefix == 0 || (base ^ bits) >> UInt32(32 - self.prefix) == 0
        case (.v6(let base), .v6(let bits)): self.prefix == 0 || (base ^ bits) >> UInt128(128 - self.prefix) == 0
        case (.v4, .v6), (.v6, .v4): false
        }
    }

    public var description: String { "\(self.base)/\(self.prefix)" }
}
