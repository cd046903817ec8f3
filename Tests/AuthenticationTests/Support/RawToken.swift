import Crypto
import Foundation

/// Builds tokens byte by byte, the impossible ones included, with an encoder that is not the one under test.
enum RawToken {
    static func base64URL(_ bytes: some DataProtocol) -> String {
        Data(bytes).base64EncodedString()
            .replacingOccurrences(of: "+", with: "-")
            .replacingOccurrences(of: "/", with: "_")
            .replacingOccurrences(of: "=", with: "")
    }

    static func base64URL(_ text: String) -> String { base64URL(Data(text.utf8)) }

    static func make(header: String, payload: String, sign: (Data) throws -> Data) rethrows -> String {
        let input = base64URL(header) + "." + base64URL(payload)
        return input + "." + base64URL(try sign(Data(input.utf8)))
    }

    static func hs256(_ payload: String, header: String = #"{"alg":"HS256","typ":"JWT"}"#, secret: String = Fixture.secret) -> String {
        make(header: header, payload: payload) { input in
            Data(HMAC<SHA256>.authenticationCode(for: input, using: SymmetricKey(data: Data(secret.utf8))))
        }
    }
}

enum Fixture {
    static let secret = "a-secret-of-more-than-32-bytes-for-these-tests"
    /// Seconds since 1970.
    static let now: Int64 = 1_800_000_000
    static let payload = #"{"sub":"ada","exp":1800000600}"#
}
