import Crypto
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore
import Synchronization

/// Requests with an `Idempotency-Key`: each is carried out once, and answered the same again for a day (draft-ietf-httpapi-idempotency-key-header).
///
/// Two of the same key at the same time: on one node the second is refused at once (409), on two it waits in the database for the first
/// and is answered as that one was.
final class Idempotency: Sendable {
    private struct Running: Hashable {
        var owner: NotificationID
        var route: String
        var key: String
    }

    private let store: IdempotencyStore
    /// Bounded by the requests that this node has under way.
    private let running = Mutex<Set<Running>>([])

    init(store: IdempotencyStore) {
        self.store = store
    }

    /// The claim of a request that carries a key; nil when it carries none.
    static func claim(_ request: GatewayRequest, owner: APIKeyStore.Key, route: String) throws(Problem) -> IdempotencyClaim? {
        guard let key = request.header("idempotency-key") else { return nil }
        guard (1...255).contains(key.utf8.count), key.utf8.allSatisfy({ (0x21...0x7E).contains($0) || $0 == 0x20 }) else {
            throw Problem(.unprocessableEntity, "invalid_body", "An Idempotency-Key has 1 to 255 printable ASCII characters.")
        }
        let digest = SHA256.hash(data: request.body.readableBytesView)
        return IdempotencyClaim(owner: owner.id, route: route, key: key, digest: Array(digest), answer: "")
    }

    /// - Throws: 409 while this node has a request with the same key under way. Call ``ends(_:)`` in any other case.
    func begins(_ claim: IdempotencyClaim) throws(Problem) {
        let isFirst = self.running.withLock { $0.insert(Running(owner: claim.owner, route: claim.route, key: claim.key)).inserted }
        if !isFirst { throw .conflict("A request with this Idempotency-Key is under way; ask again for its answer.") }
    }

    func ends(_ claim: IdempotencyClaim) {
        self.running.withLock { _ = $0.remove(Running(owner: claim.owner, route: claim.route, key: claim.key)) }
    }

    /// What the request that made this claim first was answered. It is another request's when the bodies differ: 422.
    func replay(_ claim: IdempotencyClaim) async throws(Problem) -> NotifyAnswer {
        guard let answer = try await self.find(claim) else {
            throw .unavailable("The answer to this Idempotency-Key has just been forgotten; try again.")
        }
        return answer
    }

    /// The same; nil when no request has made this claim.
    func find(_ claim: IdempotencyClaim) async throws(Problem) -> NotifyAnswer? {
        let found: IdempotencyStore.Answer?
        do throws(StoreError) {
            found = try await self.store.find(claim)
        } catch {
            throw .unavailable("The database is out of reach; try again with the same Idempotency-Key.")
        }
        guard let found else { return nil }
        guard found.digest == claim.digest else {
            throw Problem(.unprocessableEntity, "invalid_body", "This Idempotency-Key was used with another body.")
        }
        guard let answer = NotifyAnswer(found.answer, seqs: found.seqs) else {
            throw Problem(.internalServerError, "failed", "The stored answer is not understood.")
        }
        return answer
    }
}
