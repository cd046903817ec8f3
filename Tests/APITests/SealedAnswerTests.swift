import Testing

@testable import API

@Suite("Answers with a secret, as they are remembered")
struct SealedAnswerTests {
    @Test("who sends the same API key and Idempotency-Key reads it, and nobody else")
    func sealed() throws {
        let answer = Array("{\"key\":\"ck_secret\"}".utf8)
        let text = try SealedAnswer(secret: "ck_a", idempotencyKey: "k").seal(answer)
        #expect(SealedAnswer(secret: "ck_a", idempotencyKey: "k").open(text) == answer)
        #expect(SealedAnswer(secret: "ck_b", idempotencyKey: "k").open(text) == nil)
        #expect(SealedAnswer(secret: "ck_a", idempotencyKey: "l").open(text) == nil)
        #expect(SealedAnswer(secret: "ck_a", idempotencyKey: "k").open("{}") == nil)
        #expect(try SealedAnswer(secret: "ck_a", idempotencyKey: "k").seal(answer) != text)
    }
}
