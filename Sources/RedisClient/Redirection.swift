internal import NIOCore

/// What a node of a cluster says in place of doing what it was asked.
enum Redirection: Sendable, Equatable {
    /// The slot is served there, for good.
    case moved(HashSlot, RedisAddress)
    /// This key is there already; the slot is on its way.
    case ask(RedisAddress)
    /// Keys of one command are in both places at the moment.
    case tryAgain
    /// The slot, or the whole cluster, is not served at the moment.
    case down

    /// Nil for errors of the command itself.
    ///
    /// - Parameter from: who said so. An address without a host means the same host.
    init?(_ error: RedisError, from: RedisAddress) {
        let words = error.code == .server ? error.message.split(separator: " ") : []
        switch words.first {
        case "MOVED":
            guard words.count >= 3, let slot = Int(words[1]).flatMap({ HashSlot($0) }), let address = Self.address(words[2], from: from) else { return nil }
            self = .moved(slot, address)
        case "ASK":
            guard words.count >= 3, let address = Self.address(words[2], from: from) else { return nil }
            self = .ask(address)
        case "TRYAGAIN": self = .tryAgain
        case "CLUSTERDOWN": self = .down
        default: return nil
        }
    }

    private static func address(_ text: Substring, from: RedisAddress) -> RedisAddress? {
        // An IPv6 address comes without brackets, so only the last colon counts.
        guard let colon = text.utf8.lastIndex(of: UInt8(ascii: ":")), let port = Int(text[text.utf8.index(after: colon)...]), (1...65535).contains(port) else {
            return nil
        }
        let host = text[..<colon]
        return RedisAddress(host: host.isEmpty || host == "?" ? from.host : String(host), port: port)
    }
}

/// How often one command may be sent elsewhere, and what becomes of it.
struct Redirections: Sendable {
    enum Step: Sendable, Equatable {
        case send(to: RedisAddress, asking: Bool)
        /// To whoever serves the slot by then.
        case sendAgain(after: TimeAmount)
        case fail(RedisError)
    }

    private var moves = 0
    private var delays = 0

    static let maximumMoves = 5
    static let maximumDelays = 8

    mutating func next(_ redirection: Redirection) -> Step {
        switch redirection {
        case .moved(_, let address), .ask(let address):
            moves += 1
            guard moves <= Self.maximumMoves else {
                return .fail(RedisError(code: .unavailable, message: "the nodes of the Redis cluster send the command to and fro; nothing was done, try again later"))
            }
            if case .ask = redirection { return .send(to: address, asking: true) }
            return .send(to: address, asking: false)
        case .tryAgain:
            delays += 1
            guard delays <= Self.maximumDelays else {
                return .fail(RedisError(code: .unavailable, message: "the slot is being moved for too long; nothing was done, try again later"))
            }
            // 20 ms to 640 ms, some 2 s in all.
            return .sendAgain(after: .milliseconds(20 << Int64(min(delays - 1, 5))))
        case .down:
            return .fail(.notServed)
        }
    }
}

extension RedisError {
    static let notServed = RedisError(code: .unavailable, message: "no node of the Redis cluster serves this key now; nothing was done, try again later")
}
