import Crypto
import FoundationEssentials
import Gateway
import NIOHTTP1

/// An answer with a secret, as it is remembered for an `Idempotency-Key`: only who sends the same API key again can read it.
///
/// AES-GCM under a key that HKDF (RFC 5869) makes of the caller's API key, of which the service itself keeps nothing but a hash.
struct SealedAnswer {
    private let key: SymmetricKey

    /// - Parameter secret: the caller's API key, which has 256 random bits.
    init(secret: String, idempotencyKey: String) {
        self.key = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: Array(secret.utf8)), salt: Array(idempotencyKey.utf8), info: Array("carillon answer".utf8),
            outputByteCount: 32)
    }

    func seal(_ answer: [UInt8]) throws(Problem) -> String {
        // The nonce is random and of the default size, so that there is a combined form.
        guard let sealed = try? AES.GCM.seal(answer, using: self.key).combined else {
            throw Problem(.internalServerError, administrationFailure, "The answer could not be sealed.")
        }
        return Base64Text.encode(Array(sealed))
    }

    /// Nil when it is none of this caller's.
    func open(_ text: String) -> [UInt8]? {
        guard let bytes = Base64Text.decode(text), let box = try? AES.GCM.SealedBox(combined: bytes) else { return nil }
        return (try? AES.GCM.open(box, using: self.key)).map { Array($0) }
    }
}
