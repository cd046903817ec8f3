@testable import Authentication
import Foundation
import Testing

@Suite("base64url")
struct Base64URLTests {
    @Test("bytes of every length agree with another encoder and come back")
    func roundTrip() {
        for length in 0..<70 {
            let bytes = (0..<length).map { _ in UInt8.random(in: .min ... .max) }
            var text: [UInt8] = []
            Base64URL.encode(bytes, into: &text)
            #expect(String(decoding: text, as: UTF8.self) == RawToken.base64URL(bytes))
            #expect(Base64URL.decode(text) == bytes)
        }
    }

    @Test("other spellings are refused", arguments: ["A", "AAAAA", "AA=", "AA==", "AB", "AAB", "A+AA", "A/AA", "A AA", "AA\n", "é", "AA.A"])
    func refused(_ text: String) {
        #expect(Base64URL.decode(Array(text.utf8)) == nil)
    }
}
