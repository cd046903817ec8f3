import Crypto
import FoundationEssentials
public import NotificationCore

/// Makes and checks the tokens of one-click unsubscription (RFC 8058): what they are for, signed with the cluster's secret. Nothing is stored of them, and
/// they do not end: a link in an old mail still works.
public struct UnsubscribeSigner: Sendable {
    private static let prefix = Array("unsubscribe.".utf8)

    private let key: SymmetricKey

    public init(secret: [UInt8]) {
        self.key = SymmetricKey(data: secret)
    }

    /// Characters of a token; of one for several messages, since the link has to fit into a line of an e-mail's header.
    private static let longest = 2048
    private static let longestOfMany = 800

    /// Two base64url texts with a dot between them: 1,500 characters at most. Where 800 are too few for all types of many messages, it is for all types there are,
    /// and for as many of the customers as there is room for.
    public func token(for scope: UnsubscribeScope) -> String {
        var scope = scope
        while true {
            let token = self.sign(scope)
            if token.utf8.count <= Self.longestOfMany { return token }
            if scope.types.count > 1 { scope.types = [] } else if scope.customers.count > 1 { scope.customers.removeLast() } else { return token }
        }
    }

    private func sign(_ scope: UnsubscribeScope) -> String {
        let statement = JSONValue.array([
            .string(scope.user.value), .string(scope.channel.rawValue), Self.value(scope.types), Self.value(scope.customers),
        ]).encoded
        let signature = HMAC<SHA256>.authenticationCode(for: Self.prefix + statement, using: self.key)
        return Self.encode(statement) + "." + Self.encode(Array(signature))
    }

    /// Nil for what this service did not make.
    public func scope(of token: String) -> UnsubscribeScope? {
        guard token.utf8.count <= Self.longest else { return nil }
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let statement = Self.decode(parts[0]), let signature = Self.decode(parts[1]),
            HMAC<SHA256>.isValidAuthenticationCode(signature, authenticating: Self.prefix + statement, using: self.key),
            case .array(let values)? = try? JSONParser.parse(statement), values.count == 4, let user = values[0].string.flatMap({ UserID($0) }),
            let channel = values[1].string.flatMap({ DeliveryChannel(rawValue: $0) })
        else { return nil }
        return UnsubscribeScope(user: user, channel: channel, types: Self.names(values[2]), customers: Self.names(values[3]))
    }

    /// None, one, or several.
    private static func value(_ names: [String]) -> JSONValue {
        names.isEmpty ? .null : names.count == 1 ? .string(names[0]) : .array(names.map { .string($0) })
    }

    private static func names(_ value: JSONValue) -> [String] {
        if case .array(let values) = value { return values.compactMap(\.string) }
        return value.string.map { [$0] } ?? []
    }

    private static func encode(_ bytes: [UInt8]) -> String {
        Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    private static func decode(_ text: Substring) -> [UInt8]? {
        let plain = text.replacing("-", with: "+").replacing("_", with: "/")
        return Data(base64Encoded: plain + String(repeating: "=", count: (4 - plain.utf8.count % 4) % 4)).map { Array($0) }
    }
}
