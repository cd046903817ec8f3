import Gateway
import NIOHTTP1
import NIOPosix
import NotificationCore
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Refuses webhooks that lead inside, as they are registered, so that whoever does it learns of it. What counts is the address at the time of each call,
/// which is looked at again then.
final class EndpointCheck: Sendable {
    /// Names that are looked up at once: a resolver that does not answer must not take all threads that there are for such things.
    private static let lookUps = 4

    private let addresses: AddressGuard
    private let underWay = Atomic<Int>(0)

    init(addresses: AddressGuard) {
        self.addresses = addresses
    }

    func check(_ url: WebhookURL) async throws(Problem) {
        for address in await self.addressesOf(url.host) {
            if let refusal = self.addresses.refusal(of: address) { throw .invalidField("/url", "must not lead to \(address): \(refusal)") }
        }
    }

    /// None where the name is not known now.
    private func addressesOf(_ host: String) async -> [IPAddress] {
        if let address = IPAddress(host) { return [address] }
        let name = host.lowercased()
        if name == "localhost" || name.hasSuffix(".localhost") { return [.v4(0x7F00_0001)] }
        guard self.underWay.add(1, ordering: .relaxed).newValue <= Self.lookUps else {
            self.underWay.subtract(1, ordering: .relaxed)
            return []
        }
        let found: [IPAddress]
        do {
            found = try await NIOThreadPool.singleton.runIfActive { Self.resolve(host) }
        } catch {
            // The process ends.
            found = []
        }
        self.underWay.subtract(1, ordering: .relaxed)
        return found
    }

    private static func resolve(_ host: String) -> [IPAddress] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var found: [IPAddress] = []
        var entry = list
        while let current = entry {
            if let address = current.pointee.ai_addr.flatMap({ IPAddress(socketAddress: $0) }) { found.append(address) }
            entry = current.pointee.ai_next
        }
        return found
    }
}
