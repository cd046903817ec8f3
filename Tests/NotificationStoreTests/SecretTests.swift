import NotificationCore
import Testing

@testable import NotificationStore

@Suite("what is sealed and signed")
struct SecretTests {
    private let box = SecretBox(key: String(repeating: "k", count: 32))!

    @Test("a secret is opened with its key, in its place, and by nothing else")
    func sealing() throws {
        let sealed = try self.box.seal("whsec_ü", place: "one")
        #expect(self.box.open(sealed, place: "one") == "whsec_ü")
        #expect(self.box.open(sealed, place: "two") == nil)
        #expect(SecretBox(key: String(repeating: "j", count: 32))?.open(sealed, place: "one") == nil)
        for index in sealed.indices {
            var changed = sealed
            changed[index] ^= 1
            #expect(self.box.open(changed, place: "one") == nil)
        }
        #expect(try self.box.seal("whsec_ü", place: "one") != sealed)
        #expect(!sealed.map { String($0) }.joined().isEmpty && !String(decoding: sealed, as: UTF8.self).contains("whsec"))
        #expect(SecretBox(key: String(repeating: "k", count: 31)) == nil)
    }

    @Test("a token says what it was made for, whatever names are in it", arguments: ["alice", "a.b/c%d\"{}", "😀", "e\u{301}", String(repeating: "😀", count: 128)])
    func unsubscribing(_ name: String) throws {
        let signer = UnsubscribeSigner(secret: Array(repeating: 7, count: 32))
        let scope = UnsubscribeScope(user: try #require(UserID(name)), channel: .email, type: "chat", customer: name)
        let token = signer.token(for: scope)
        #expect(signer.scope(of: token) == scope && token.utf8.count <= 1500)
        #expect(token.utf8.allSatisfy { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0 | 0x20) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || "-_.".utf8.contains($0) })
        #expect(UnsubscribeSigner(secret: Array(repeating: 8, count: 32)).scope(of: token) == nil)
        for index in token.indices.dropLast() where token[index] != "." {
            var changed = token
            changed.replaceSubrange(index...index, with: token[index] == "A" ? "B" : "A")
            #expect(signer.scope(of: changed) == nil)
        }
    }
}
