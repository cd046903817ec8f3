import Foundation

/// Ports of 127.0.0.1 for servers that tests start, stop, and start again.
///
/// They lie below those that the kernel gives to outgoing connections (`ip_local_port_range`, ip(7)): one of those would otherwise take a server's
/// port between the choice and the start, or while the server is down, and the server could not come up.
public enum FreePort {
    public struct Exhausted: Error {}

    private static let first = 10_000
    private static let end: Int = {
        // Without that file the kernel's default holds.
        let range = (try? String(contentsOfFile: "/proc/sys/net/ipv4/ip_local_port_range", encoding: .utf8)) ?? ""
        let lowest = range.split(whereSeparator: \.isWhitespace).first.flatMap { Int($0) } ?? 32_768
        return (12_000...32_768).contains(lowest) ? lowest : 32_768
    }()
    private static let turn = Turn(Int.random(in: first..<end))

    /// A port at which nobody listens, and which no other call in this process was given before all others had their turn.
    /// - Throws: `Exhausted` when all are taken.
    public static func next() throws -> Int {
        for _ in first..<end {
            let port = turn.next(in: first..<end)
            if isFree(port) { return port }
        }
        throw Exhausted()
    }

    private static func isFree(_ port: Int) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        // As servers do: connections that wait for their end are no hindrance.
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
        }
    }

    private final class Turn: @unchecked Sendable {
        // @unchecked: `last` is under `lock`.
        private let lock = NSLock()
        private var last: Int

        init(_ start: Int) { last = start }

        func next(in range: Range<Int>) -> Int {
            lock.withLock {
                last = last + 1 < range.upperBound ? last + 1 : range.lowerBound
                return last
            }
        }
    }
}
