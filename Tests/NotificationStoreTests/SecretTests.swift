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

    @Test("with the key before beside it, what was sealed then is read, and nothing more is sealed with it")
    func change() throws {
        let (first, second) = (String(repeating: "1", count: 32), String(repeating: "2", count: 32))
        let (old, both, new) = (try #require(SecretBox(key: first)), try #require(SecretBox(key: second, older: first)), try #require(SecretBox(key: second)))
        let before = try old.seal("whsec_a", place: "one")
        #expect(both.open(before, place: "one") == "whsec_a" && both.open(before, place: "two") == nil && new.open(before, place: "one") == nil)
        let after = try both.seal("whsec_b", place: "one")
        #expect(both.open(after, place: "one") == "whsec_b" && new.open(after, place: "one") == "whsec_b" && old.open(after, place: "one") == nil)
        let resealed = try #require(try both.resealed(before, place: "one"))
        #expect(new.open(resealed, place: "one") == "whsec_a")
        #expect(try both.resealed(resealed, place: "one") == nil && both.resealed(before, place: "two") == nil)
        #expect(SecretBox(key: second, older: String(repeating: "1", count: 31)) == nil)
    }

    @Test("a token says what it was made for, whatever names are in it", arguments: ["alice", "a.b/c%d\"{}", "😀", "e\u{301}", String(repeating: "😀", count: 128)])
    func unsubscribing(_ name: String) throws {
        let signer = UnsubscribeSigner(secret: Array(repeating: 7, count: 32))
        let scope = UnsubscribeScope(user: try #require(UserID(name)), channel: .email, types: ["chat"], customers: [name])
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

    @Test("a token of many messages names all their types and customers, or all types where that is too long for a header")
    func unsubscribingFromMany() throws {
        let signer = UnsubscribeSigner(secret: Array(repeating: 7, count: 32))
        let user = try #require(UserID("alice"))
        func scope(_ types: [String], _ customers: [String]) -> UnsubscribeScope { UnsubscribeScope(user: user, channel: .email, types: types, customers: customers) }
        let few = try #require(UnsubscribeScope(of: [scope(["task"], ["b"]), scope(["chat"], []), scope(["task"], ["a"])]))
        #expect(few == scope(["chat", "task"], ["a", "b"]) && signer.scope(of: signer.token(for: few)) == few)
        let many = scope((0..<100).map { "type-\($0)" }, (0..<100).map { "customer-\($0)" })
        let token = signer.token(for: many)
        let read = try #require(signer.scope(of: token))
        #expect(token.utf8.count <= 800 && read.types.isEmpty && read.customers.count > 20 && many.customers.starts(with: read.customers))
        #expect(UnsubscribeScope(of: []) == nil)
        #expect(UnsubscribeScope(of: [scope([], []), scope(["chat"], [])]) == scope([], []))
    }
}
