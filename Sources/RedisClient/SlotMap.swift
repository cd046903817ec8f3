internal import NIOCore

/// Which master serves which slot.
struct SlotMap: Sendable, Equatable {
    /// The index of a slot's master in ``places``, plus one; 0 where nobody serves it.
    private var owners: [UInt16]
    private var places: [RedisAddress]
    /// Replicas too: all of them can be asked for the map.
    private(set) var nodes: Set<RedisAddress>

    init() {
        owners = Array(repeating: 0, count: HashSlot.count)
        places = []
        nodes = []
    }

    /// The answer to `CLUSTER SLOTS`: first slot, last slot, master, replicas; of each node host, port, and more.
    ///
    /// - Parameter asked: who answered. A node that does not know its own host leaves it out, and means the one it was reached by.
    static func read(_ reply: RedisValue, asked: RedisAddress) -> Result<SlotMap, RedisError> {
        switch reply {
        case .error(let error): return .failure(error)
        case .null, .integer, .status, .bulk: return .failure(.violation("an answer that is no map of slots"))
        case .array(let ranges):
            // One that was reset, or was never told of any: not a word on who serves what.
            guard !ranges.isEmpty else {
                return .failure(RedisError(code: .unavailable, message: "the node at \(asked) knows of no slots; check that it belongs to the cluster"))
            }
            // More ranges than slots overlap; it also bounds the masters, which are numbered.
            guard ranges.count <= HashSlot.count else { return .failure(.violation("an answer that is no map of slots")) }
            var map = SlotMap()
            for range in ranges {
                guard let parts = range.array, parts.count >= 3, let first = parts[0].int, let last = parts[1].int, first >= 0, first <= last,
                    last < HashSlot.count, let master = address(parts[2], asked: asked)
                else { return .failure(.violation("an answer that is no map of slots")) }
                let index = map.index(of: master)
                for slot in first...last { map.owners[Int(slot)] = index }
                for replica in parts.dropFirst(3).compactMap({ address($0, asked: asked) }) { map.nodes.insert(replica) }
            }
            return .success(map)
        }
    }

    private static func address(_ value: RedisValue, asked: RedisAddress) -> RedisAddress? {
        guard let parts = value.array, parts.count >= 2, let port = parts[1].int, (1...65535).contains(port) else { return nil }
        let host = parts[0].string ?? ""
        return RedisAddress(host: host.isEmpty || host == "?" ? asked.host : host, port: Int(port))
    }

    func owner(of slot: HashSlot) -> RedisAddress? {
        let index = owners[Int(slot.number)]
        return index == 0 ? nil : places[Int(index) - 1]
    }

    /// A slot of this master, some way on from a random one; nil if it serves none.
    func someSlot(of master: RedisAddress, using generator: inout some RandomNumberGenerator) -> HashSlot? {
        guard let place = places.firstIndex(of: master) else { return nil }
        let start = Int.random(in: 0..<HashSlot.count, using: &generator)
        for step in 0..<HashSlot.count {
            let slot = (start + step) % HashSlot.count
            if Int(owners[slot]) == place + 1 { return HashSlot(slot) }
        }
        return nil
    }

    /// Those that serve any slot.
    var masters: Set<RedisAddress> {
        var used = Set(owners)
        used.remove(0)
        return Set(used.map { places[Int($0) - 1] })
    }

    /// Whether each slot has a master.
    var isComplete: Bool { !owners.contains(0) }

    mutating func assign(_ slot: HashSlot, to master: RedisAddress) {
        owners[Int(slot.number)] = index(of: master)
    }

    private mutating func index(of master: RedisAddress) -> UInt16 {
        if let index = places.firstIndex(of: master) { return UInt16(index) + 1 }
        places.append(master)
        nodes.insert(master)
        return UInt16(places.count)
    }

    static func == (left: SlotMap, right: SlotMap) -> Bool {
        guard left.nodes == right.nodes else { return false }
        if left.places == right.places { return left.owners == right.owners }
        return zip(left.owners, right.owners).allSatisfy { mine, theirs in
            (mine == 0 ? nil : left.places[Int(mine) - 1]) == (theirs == 0 ? nil : right.places[Int(theirs) - 1])
        }
    }
}

/// The map as answered last, with what servers have said of single slots since (MOVED). The word of the server that gave a slot away is newer
/// than the map of a node that has not heard of it yet, so it stands for a while against such maps.
struct LearnedSlotMap: Sendable {
    /// How long a MOVED stands against maps that say otherwise.
    static let trust: TimeAmount = .seconds(3)
    /// After this long a node should have heard: one that has not is behind the times.
    static let hearsay: TimeAmount = .seconds(1)

    private var moved: [HashSlot: (to: RedisAddress, at: NIODeadline)] = [:]
    private(set) var current = SlotMap()

    struct Outcome: Equatable {
        var isChanged: Bool
        /// The node that answered is behind the times: better ask another one.
        var isOutdated: Bool
    }

    mutating func answered(_ map: SlotMap, now: NIODeadline) -> Outcome {
        var isOutdated = false
        var new = map
        for (slot, word) in moved {
            if now - word.at >= Self.trust || map.owner(of: slot) == word.to {
                moved[slot] = nil
            } else {
                if now - word.at >= Self.hearsay { isOutdated = true }
                new.assign(slot, to: word.to)
            }
        }
        let isChanged = new != current
        if isChanged { current = new }
        return Outcome(isChanged: isChanged, isOutdated: isOutdated)
    }

    /// Returns whether that is news.
    mutating func moved(_ slot: HashSlot, to address: RedisAddress, now: NIODeadline) -> Bool {
        moved[slot] = (address, now)
        guard current.owner(of: slot) != address else { return false }
        current.assign(slot, to: address)
        return true
    }
}
