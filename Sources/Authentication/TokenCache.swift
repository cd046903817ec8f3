import Crypto

/// Tokens that were verified before, by the SHA-256 of their text, so that a dump of the memory holds no token.
///
/// Holds at most `capacity` of them; when it is full, the one that has been in it longest makes room (first in, first out: a lookup then
/// writes nothing).
struct TokenCache: Sendable {
    typealias Key = SHA256Digest

    private struct Entry {
        let token: UserToken
        let slot: Int
    }

    private(set) var evictions = 0
    private var entries: [Key: Entry] = [:]
    /// The keys in the order of their arrival, as a ring.
    private var ring: [Key?]
    private var next = 0

    init(capacity: Int) {
        precondition(capacity > 0, "a cache of no entries")
        ring = Array(repeating: nil, count: capacity)
    }

    var count: Int { entries.count }

    static func key(for token: String) -> Key {
        var token = token
        return token.withUTF8 { SHA256.hash(data: $0) }
    }

    subscript(key: Key) -> UserToken? { entries[key]?.token }

    mutating func insert(_ token: UserToken, for key: Key) {
        guard entries[key] == nil else { return }
        if let oldest = ring[next] {
            entries[oldest] = nil
            evictions += 1
        }
        ring[next] = key
        entries[key] = Entry(token: token, slot: next)
        next = (next + 1) % ring.count
    }

    mutating func remove(_ key: Key) {
        guard let entry = entries.removeValue(forKey: key) else { return }
        ring[entry.slot] = nil
    }

    mutating func removeAll() {
        entries.removeAll(keepingCapacity: true)
        for slot in ring.indices { ring[slot] = nil }
        next = 0
    }
}
