import Crypto
import FoundationEssentials
import NotificationCore

/// The headers that prove where a call comes from, in two forms at once.
///
/// `X-Webhook-Signature` is the hexadecimal HMAC-SHA256 of the raw body, keyed with the bytes of the secret as given. The others are those of the
/// Standard Webhooks specification (version 1): the base64 HMAC-SHA256 of `id.timestamp.body`, once for each secret that is good.
enum WebhookSignature {
    /// - Parameters:
    ///   - secrets: The first is the one that signs; the others are those it replaced, for as long as their receivers may still use them.
    static func headers(secrets: [String], id: String, timestamp: Timestamp, body: [UInt8]) -> [String] {
        guard let secret = secrets.first else { return [] }
        let code = HMAC<SHA256>.authenticationCode(for: body, using: SymmetricKey(data: Array(secret.utf8)))
        let seconds = String(timestamp.seconds)
        let signed = Array("\(id).\(seconds).".utf8) + body
        let signatures = secrets.map { secret in
            "v1," + Data(HMAC<SHA256>.authenticationCode(for: signed, using: SymmetricKey(data: self.key(secret)))).base64EncodedString()
        }
        return [
            "X-Webhook-Signature: sha256=" + code.hex, "webhook-id: \(id)", "webhook-timestamp: \(seconds)",
            "webhook-signature: " + signatures.joined(separator: " "),
        ]
    }

    /// What stands behind `whsec_` is base64; another secret is its bytes.
    static func key(_ secret: String) -> [UInt8] {
        let text = secret.hasPrefix("whsec_") ? String(secret.dropFirst("whsec_".count)) : secret
        guard secret.hasPrefix("whsec_"), let key = Data(base64Encoded: text), !key.isEmpty else { return Array(text.utf8) }
        return Array(key)
    }
}

extension Sequence<UInt8> {
    /// In lower case.
    var hex: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: self.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
