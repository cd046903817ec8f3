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
    private let jobs: JobStore
    /// Bounded by the requests that this node has under way.
    private let running = Mutex<Set<Running>>([])

    init(store: IdempotencyStore, jobs: JobStore) {
        self.store = store
        self.jobs = jobs
    }

    /// The claim of a request that carries a key; nil when it carries none.
    static func claim(_ request: GatewayRequest, owner: APIKeyStore.Key, route: String) throws(Problem) -> IdempotencyClaim? {
        try Self.claim(request, owner: owner.id, route: route)
    }

    /// The same for the id of an API key.
    static func claim(_ request: GatewayRequest, owner: NotificationID, route: String) throws(Problem) -> IdempotencyClaim? {
        guard let key = request.header("idempotency-key") else { return nil }
        guard (1...255).contains(key.utf8.count), key.utf8.allSatisfy({ (0x21...0x7E).contains($0) || $0 == 0x20 }) else {
            throw Problem(.unprocessableEntity, "invalid_body", "An Idempotency-Key has 1 to 255 printable ASCII characters.")
        }
        let digest = SHA256.hash(data: request.body.readableBytesView)
        return IdempotencyClaim(owner: owner, route: route, key: key, digest: Array(digest), answer: "")
    }

    /// - Throws: 409 while this node has a request with the same key under way. Call ``ends(_:)`` in any other case.
    func begins(_ claim: IdempotencyClaim) throws(Problem) {
        let isFirst = self.running.withLock { $0.insert(Running(owner: claim.owner, route: claim.route, key: claim.key)).inserted }
        if !isFirst { throw .conflict("A request with this Idempotency-Key is under way; ask again for its answer.") }
    }

    func ends(_ claim: IdempotencyClaim) {
        self.running.withLock { _ = $0.remove(Running(owner: claim.owner, route: claim.route, key: claim.key)) }
    }

    /// What is remembered of a request that is carried out as a job.
    static func answer(_ job: NotificationID) -> String { "{\"job_id\":\"\(job)\"}" }

    /// What the request that made this claim first was answered.
    func replay(_ claim: IdempotencyClaim) async throws(Problem) -> NotifyAnswer {
        guard let answer = try await self.find(claim) else { throw Self.forgotten }
        return answer
    }

    /// The job of the request that made this claim first.
    func replayJob(_ claim: IdempotencyClaim) async throws(Problem) -> NotificationID {
        guard let job = try await self.findJob(claim) else { throw Self.forgotten }
        return job
    }

    /// Answers a request that may be carried out twice without harm, as long as it is answered alike. Without a key, and for users, it is only carried out.
    ///
    /// Its answer is kept after the fact: where a node dies in between, whoever asks again has it carried out again. A body that keeps it with what it writes
    /// gets the claim, and answers nil when that was made before.
    func once(
        _ request: GatewayRequest, _ identity: Administrator.Identity, route: String,
        _ body: (IdempotencyClaim?) async throws(Problem) -> (answer: GatewayResponse?, isKept: Bool)
    ) async throws(Problem) -> GatewayResponse {
        guard case .application(let owner) = identity, var claim = try Self.claim(request, owner: owner, route: route) else {
            guard let answer = try await body(nil).answer else { throw Self.forgotten }
            return answer
        }
        try self.begins(claim)
        defer { self.ends(claim) }
        if let answer = try await self.replayed(claim) { return answer }
        let (answer, isKept) = try await body(claim)
        if let answer {
            if isKept { return answer }
            claim.answer = Self.text(of: answer)
            do throws(StoreError) {
                if try await self.store.remember(claim) { return answer }
            } catch {
                throw .unavailable("The database is out of reach; try again with the same Idempotency-Key.")
            }
        }
        // Another node was quicker.
        guard let first = try await self.replayed(claim) else { throw Self.forgotten }
        return first
    }

    /// The same for a body that keeps nothing.
    func once(
        _ request: GatewayRequest, _ identity: Administrator.Identity, route: String, _ body: () async throws(Problem) -> GatewayResponse
    ) async throws(Problem) -> GatewayResponse {
        try await self.once(request, identity, route: route) { (_) async throws(Problem) in (try await body(), false) }
    }

    private func replayed(_ claim: IdempotencyClaim) async throws(Problem) -> GatewayResponse? {
        guard let known = try await self.lookUp(claim) else { return nil }
        guard var answer = Self.response(known.answer) else { throw Self.notUnderstood }
        answer.headers.add(name: "idempotent-replayed", value: "true")
        return answer
    }

    private static func text(of answer: GatewayResponse) -> String {
        let body = String(buffer: answer.body)
        return String(decoding: JSONValue.object([("status", .number(String(answer.status.code))), ("body", .string(body))]).encoded, as: UTF8.self)
    }

    private static func response(_ text: String) -> GatewayResponse? {
        guard let json = try? JSONParser.parse(Array(text.utf8)), case .number(let digits)? = json["status"], let status = Int(digits),
            let body = json["body"]?.string
        else { return nil }
        return .json(HTTPResponseStatus(statusCode: status), Array(body.utf8))
    }

    /// What is stored for the claim, whatever it is.
    func text(_ claim: IdempotencyClaim) async throws(Problem) -> String {
        guard let found = try await self.lookUp(claim) else { throw Self.forgotten }
        return found.answer
    }

    private static let forgotten = Problem.unavailable("The answer to this Idempotency-Key has just been forgotten; try again.")

    /// The same; nil when no request has made this claim.
    func find(_ claim: IdempotencyClaim) async throws(Problem) -> NotifyAnswer? {
        guard let found = try await self.lookUp(claim) else { return nil }
        if let job = Self.job(found) { return try await self.answer(of: job) }
        guard let answer = NotifyAnswer(found.answer, seqs: found.seqs) else { throw Self.notUnderstood }
        return answer
    }

    /// The job that carries out the request which made this claim; nil when there is none.
    func job(of claim: IdempotencyClaim) async throws(Problem) -> NotificationID? { try await self.lookUp(claim).flatMap(Self.job) }

    func findJob(_ claim: IdempotencyClaim) async throws(Problem) -> NotificationID? {
        guard let found = try await self.lookUp(claim) else { return nil }
        guard let job = Self.job(found) else { throw Self.notUnderstood }
        return job
    }

    /// Whether the key was used before, be it with another body.
    func isKnown(_ claim: IdempotencyClaim) async throws(Problem) -> Bool { try await self.stored(claim) != nil }

    private func stored(_ claim: IdempotencyClaim) async throws(Problem) -> IdempotencyStore.Answer? {
        do throws(StoreError) {
            return try await self.store.find(claim)
        } catch {
            throw .unavailable("The database is out of reach; try again with the same Idempotency-Key.")
        }
    }

    /// - Throws: 422 when it is another request's: the bodies differ.
    private func lookUp(_ claim: IdempotencyClaim) async throws(Problem) -> IdempotencyStore.Answer? {
        guard let found = try await self.stored(claim) else { return nil }
        guard found.digest == claim.digest else {
            throw Problem(.unprocessableEntity, "invalid_body", "This Idempotency-Key was used with another body.")
        }
        return found
    }

    private static func job(_ found: IdempotencyStore.Answer) -> NotificationID? {
        guard found.answer.hasPrefix("{\"job_id\":") else { return nil }
        // Nil: it is none of this service's answers.
        return (try? JSONParser.parse(Array(found.answer.utf8)))?["job_id"]?.string.flatMap { NotificationID($0) }
    }

    static let notUnderstood = Problem(.internalServerError, "failed", "The stored answer is not understood.")

    /// What a job has written for each of its users.
    private func answer(of job: NotificationID) async throws(Problem) -> NotifyAnswer {
        do throws(StoreError) {
            guard let status = try await self.jobs.status(job) else { throw StoreError(code: .failed, message: "a job is gone before its claim") }
            if status.state == .done, status.failed == 0 { return try await self.jobs.answer(job) }
            if status.state == .done || status.state == .failed { throw StoreError(code: .failed, message: "a job could not be carried out whole") }
        } catch {
            throw Problem(error, failure: "failed_to_notify")
        }
        throw .conflict("A request with this Idempotency-Key is under way; ask again for its answer.")
    }
}
