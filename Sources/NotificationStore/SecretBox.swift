import Crypto
import FoundationEssentials

/// Seals secrets that the database keeps and must not know: AES-GCM under a key that HKDF (RFC 5869) makes of a setting.
public struct SecretBox: Sendable {
    /// The shortest text that a key is made of, in bytes.
    public static let minimumLength = 32

    private let key: SymmetricKey

    /// Nil when the text is too short to be hard to guess.
    public init?(key text: String) {
        guard text.utf8.count >= Self.minimumLength else { return nil }
        self.key = HKDF<SHA256>.deriveKey(inputKeyMaterial: SymmetricKey(data: Array(text.utf8)), info: Array("carillon webhook secrets".utf8), outputByteCount: 32)
    }

    /// - Parameter place: what it belongs to: sealed bytes that were moved to another place do not open there.
    public func seal(_ secret: String, place: String) throws(StoreError) -> [UInt8] {
        // The nonce is random and of the default size, so that there is a combined form.
        guard let sealed = try? AES.GCM.seal(Array(secret.utf8), using: self.key, authenticating: Array(place.utf8)).combined else {
            throw StoreError(code: .failed, message: "a secret could not be sealed")
        }
        return Array(sealed)
    }

    /// Nil when it was sealed with another key, or for another place.
    public func open(_ sealed: [UInt8], place: String) -> String? {
        guard let box = try? AES.GCM.SealedBox(combined: sealed), let bytes = try? AES.GCM.open(box, using: self.key, authenticating: Array(place.utf8)) else {
            return nil
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
