public import NotificationCore

/// Names of keys and channels. User ids are percent-encoded and stand in the hash tag, so that all of one user's lie in one slot.
public struct RedisNames: Sendable {
    public let prefix: String

    public init(prefix: String) {
        self.prefix = prefix
    }

    public func channel(_ user: UserID) -> String { self.name(user, "ch") }
    public func counts(_ user: UserID) -> String { self.name(user, "n") }
    public func leases(_ user: UserID) -> String { self.name(user, "l") }
    /// Streams that were closed a moment ago for being over the limit.
    public func evictions(_ user: UserID) -> String { self.name(user, "e") }
    /// How many requests of a window were let in.
    public func rate(_ subject: RateSubject, window: Int64) -> String {
        switch subject {
        case .user(let user): self.name(user, "rl:\(window)")
        // No user's name has a colon: those are percent-encoded.
        case .key(let id): "\(self.prefix):{key:\(id)}:rl:\(window)"
        }
    }
    public func ticket(_ nonce: String) -> String { "\(self.prefix):ticket:\(nonce)" }
    public func control(edge: String) -> String { "\(self.prefix):edge:\(edge)" }
    /// What edges answer to one question.
    public func answers(_ question: String) -> String { "\(self.prefix):answers:\(question)" }
    /// How far the log of this cluster's database was seen.
    public func mark(cluster: String) -> String { "\(self.prefix):mark:\(cluster)" }
    public var edges: String { "\(self.prefix):edges" }
    public var broadcast: String { "\(self.prefix):bcast" }
    /// Names of queues that have got tasks.
    public var tasks: String { "\(self.prefix):tasks" }
    public var probes: String { "\(self.prefix):probe:" }

    private func name(_ user: UserID, _ kind: String) -> String {
        "\(self.prefix):{\(Self.encode(user.value))}:\(kind)"
    }

    /// All but the unreserved characters of RFC 3986.
    static func encode(_ text: String) -> String {
        if text.utf8.allSatisfy(self.isUnreserved) { return text }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(3 * text.utf8.count)
        let digits = Array("0123456789ABCDEF".utf8)
        for byte in text.utf8 {
            if self.isUnreserved(byte) {
                bytes.append(byte)
            } else {
                bytes.append(UInt8(ascii: "%"))
                bytes.append(digits[Int(byte >> 4)])
                bytes.append(digits[Int(byte & 15)])
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    /// The text that ``encode(_:)`` made this of.
    static func decode(_ text: some StringProtocol) -> String {
        var bytes: [UInt8] = []
        var rest = Substring(text).utf8
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), let value = UInt8(String(Substring(rest.prefix(2))), radix: 16) {
                rest = rest.dropFirst(2)
                bytes.append(value)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
