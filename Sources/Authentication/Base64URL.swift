/// base64url without padding (RFC 4648, 5), as JWS uses it.
///
/// Strict: no padding, no line breaks, no stray bits in the last character, so that each value has one spelling and no token a twin.
enum Base64URL {
    /// The bytes, or nil when `text` is not base64url.
    static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count * 3 / 4)
        var pending: UInt32 = 0
        var bits = 0
        for character in text {
            let value = values[Int(character)]
            guard value != invalid else { return nil }
            pending = pending << 6 | UInt32(value)
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: pending >> UInt32(bits)))
                pending &= (1 << UInt32(bits)) - 1
            }
        }
        // Six bits left over are a lone character, which encodes nothing.
        guard bits != 6, pending == 0 else { return nil }
        return bytes
    }

    /// Appends `bytes` in base64url to `text`.
    static func encode(_ bytes: some Sequence<UInt8>, into text: inout [UInt8]) {
        var pending: UInt32 = 0
        var bits = 0
        for byte in bytes {
            pending = pending << 8 | UInt32(byte)
            bits += 8
            while bits >= 6 {
                bits -= 6
                text.append(alphabet[Int(pending >> UInt32(bits) & 0x3F)])
                pending &= (1 << UInt32(bits)) - 1
            }
        }
        if bits > 0 {
            text.append(alphabet[Int(pending << UInt32(6 - bits) & 0x3F)])
        }
    }

    private static let invalid: UInt8 = 0xFF

    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    private static let values: [UInt8] = {
        var values = [UInt8](repeating: invalid, count: 256)
        for (value, character) in alphabet.enumerated() {
            values[Int(character)] = UInt8(value)
        }
        return values
    }()
}
