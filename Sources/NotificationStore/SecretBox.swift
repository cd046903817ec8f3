import Crypto
import FoundationEssentials

/// Seals secrets that the database keeps and must not know: AES-GCM under a key that HKDF (RFC 5869) makes of a setting.
public struct SecretBox: Sendable {
    /// The shortest text that a key is made of, in bytes.
    public static let minimumLength = 32

    private let key: SymmetricKey
    /// What secrets were sealed with before.
    private let older: SymmetricKey?

    /// Nil when a text is too short to be hard to guess.
    ///
    /// - Parameter older: the text before the last change of it: opens what was sealed then, and seals nothing.
    public init?(key text: String, older: String? = nil) {
        guard text.utf8.count >= Self.minimumLength, older.map({ $0.utf8.count >= Self.minimumLength }) ?? true else { return nil }
        self.key = Self.key(of: text)
        self.older = older.map { Self.key(of: $0) }
    }

    private static func key(of text: String) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(inputKeyMaterial: SymmetricKey(data: Array(text.utf8)), info: Array("carillon webhook secrets".utf8), outputByteCount: 32)
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
        Self.open(sealed, place, self.key) ?? self.older.flatMap { Self.open(sealed, place, $0) }
    }

    /// The same secret under the current key. Nil when it is under it already, or cannot be opened.
    func resealed(_ sealed: [UInt8], place: String) throws(StoreError) -> [UInt8]? {
        guard Self.open(sealed, place, self.key) == nil, let secret = self.open(sealed, place: place) else { return nil }
        return try self.seal(secret, place: place)
    }

    private static func open(_ sealed: [UInt8], _ place: String, _ key: SymmetricKey) -> String? {
        guard let box = try? AES.GCM.SealedBox(combined: sealed), let bytes = try? AES.GCM.open(box, using: key, authenticating: Array(place.utf8)) else {
            return nil
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
