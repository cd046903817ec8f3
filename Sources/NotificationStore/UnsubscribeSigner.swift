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

    /// Two base64url texts with a dot between them: 900 characters at most.
    public func token(for scope: UnsubscribeScope) -> String {
        let statement = JSONValue.array([
            .string(scope.user.value), .string(scope.channel.rawValue), scope.type.map { .string($0) } ?? .null, scope.customer.map { .string($0) } ?? .null,
        ]).encoded
        let signature = HMAC<SHA256>.authenticationCode(for: Self.prefix + statement, using: self.key)
        return Self.encode(statement) + "." + Self.encode(Array(signature))
    }

    /// Nil for what this service did not make.
    public func scope(of token: String) -> UnsubscribeScope? {
        guard token.utf8.count <= 2048 else { return nil }
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let statement = Self.decode(parts[0]), let signature = Self.decode(parts[1]),
            HMAC<SHA256>.isValidAuthenticationCode(signature, authenticating: Self.prefix + statement, using: self.key),
            case .array(let values)? = try? JSONParser.parse(statement), values.count == 4, let user = values[0].string.flatMap({ UserID($0) }),
            let channel = values[1].string.flatMap({ DeliveryChannel(rawValue: $0) })
        else { return nil }
        return UnsubscribeScope(user: user, channel: channel, type: values[2].string, customer: values[3].string)
    }

    private static func encode(_ bytes: [UInt8]) -> String {
        Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    private static func decode(_ text: Substring) -> [UInt8]? {
        let plain = text.replacing("-", with: "+").replacing("_", with: "/")
        return Data(base64Encoded: plain + String(repeating: "=", count: (4 - plain.utf8.count % 4) % 4)).map { Array($0) }
    }
}
