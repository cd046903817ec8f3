public import Authentication
import Crypto
public import NotificationCore

/// Makes and checks stream tickets, and the sessions that they are turned into: statements about a user, signed with the cluster's secret,
/// so that any node can check what another gave out. That a ticket is used once is kept in Redis.
public struct TicketSigner: Sendable {
    /// How long a ticket may wait to be used.
    public static let ticketSeconds: Int64 = 30

    public struct Ticket: Sendable {
        public var token: UserToken
        /// Of this ticket, for "used once".
        public var nonce: String
        public var isExpired: Bool
    }

    private let key: SymmetricKey

    public init(secret: [UInt8]) {
        self.key = SymmetricKey(data: secret)
    }

    public static func isSession(_ text: String) -> Bool { text.hasPrefix("cs_") }

    public func makeTicket(for token: UserToken, now: Timestamp = .now()) -> String {
        self.sign("ct_", token, until: min(token.expiresAt, now.seconds + Self.ticketSeconds), nonce: NotificationID.make(now: now).description)
    }

    /// Good until the token that stood behind the ticket ends.
    public func makeSession(for token: UserToken) -> String {
        self.sign("cs_", token, until: token.expiresAt, nonce: NotificationID.make().description)
    }

    /// Nil when this service did not make it. An expired one still says whose it was: a session of the same user counts in its place.
    public func ticket(_ text: String, now: Timestamp = .now()) -> Ticket? {
        guard let (token, until, nonce) = self.check("ct_", text) else { return nil }
        return Ticket(token: token, nonce: nonce, isExpired: until <= now.seconds)
    }

    public func session(_ text: String, now: Timestamp = .now()) -> UserToken? {
        guard let (token, until, _) = self.check("cs_", text), until > now.seconds else { return nil }
        return token
    }

    private func sign(_ prefix: String, _ token: UserToken, until: Int64, nonce: String) -> String {
        let strings = { (values: [String]) in JSONValue.array(values.map { .string($0) }) }
        let statement = JSONValue.object([
            ("u", .string(token.user)), ("r", strings(token.roles.sorted())), ("c", token.customers.map(strings) ?? .null),
            ("e", .number(String(token.expiresAt))), ("t", .number(String(until))), ("n", .string(nonce)),
        ]).encoded
        let signature = Array(HMAC<SHA256>.authenticationCode(for: Array(prefix.utf8) + statement, using: self.key))
        return prefix + Self.hex(statement) + "." + Self.hex(signature)
    }

    private func check(_ prefix: String, _ text: String) -> (token: UserToken, until: Int64, nonce: String)? {
        guard text.utf8.count <= 8192, text.hasPrefix(prefix) else { return nil }
        let parts = text.dropFirst(prefix.utf8.count).split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let statement = Self.bytes(parts[0]), let signature = Self.bytes(parts[1]),
            HMAC<SHA256>.isValidAuthenticationCode(signature, authenticating: Array(prefix.utf8) + statement, using: self.key),
            let json = try? JSONParser.parse(statement), let user = json["u"]?.string, let nonce = json["n"]?.string,
            case .number(let expires)? = json["e"], let expiresAt = Int64(expires), case .number(let end)? = json["t"], let until = Int64(end)
        else { return nil }
        func strings(_ value: JSONValue?) -> [String]? {
            guard case .array(let values)? = value else { return nil }
            return values.compactMap(\.string)
        }
        guard
            let token = UserToken(
                user: user, roles: Set(strings(json["r"]) ?? []), customers: strings(json["c"]), expiresAt: expiresAt, id: nil)
        else { return nil }
        return (token, until, nonce)
    }

    private static func hex(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func bytes(_ hex: Substring) -> [UInt8]? {
        let digits = Array(hex.utf8)
        guard digits.count % 2 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = Self.value(digits[index]), let low = Self.value(digits[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}
