import AsyncHTTPClient
public import Foundation
import NIOCore
import NIOHTTP1

extension CarillonClient {
    /// Stores a notification for each of the users and delivers it now: `POST /v1/internal/notify`. All or nothing.
    ///
    /// - Parameters:
    ///   - users: 1 to 10,000; doubles count once.
    ///   - idempotencyKey: 1 to 255 printable ASCII characters; within a day the same key and message are carried out once. Absent: one of this
    ///     call's own, so that it may repeat itself. Give your own where your process may die and ask again.
    public func createNotification(
        _ message: NotificationMessage, for users: [String], idempotencyKey: String? = nil
    ) async throws(CarillonError) -> NotificationReceipt {
        let call = Call(
            method: .POST, url: self.service.route("internal", "notify"), safety: .always, idempotencyKey: idempotencyKey ?? Self.newKey(),
            body: .bytes(try WireFormat.encode(AddressedMessage(message: message, users: users))))
        var (receipt, reply) = try await self.transport.send(call, as: NotificationReceipt.self)
        receipt.isReplayed = reply.isReplayed
        return receipt
    }

    /// The same by way of the queue: `POST /v1/notifications/trigger`. It returns once the job is durable.
    public func trigger(
        _ message: NotificationMessage, for users: [String], idempotencyKey: String? = nil
    ) async throws(CarillonError) -> TriggeredJob {
        let call = Call(
            method: .POST, url: self.service.route("notifications", "trigger"), safety: .always, idempotencyKey: idempotencyKey ?? Self.newKey(),
            body: .bytes(try WireFormat.encode(AddressedMessage(message: message, users: users))))
        var (job, reply) = try await self.transport.send(call, as: TriggeredJob.self)
        job.isReplayed = reply.isReplayed
        return job
    }

    /// The same for up to 1,000,000 users, who are sent as the sequence brings them, no faster than they are taken.
    ///
    /// It is sent once: a sequence can be read only once. Where the outcome is not known (``CarillonError/mayHaveHappened``) call it again with
    /// the same `idempotencyKey` and the same users in the same order. The whole request has to fit into ``Configuration/timeout``.
    public func trigger<Users: AsyncSequence & Sendable>(
        _ message: NotificationMessage, forEach users: Users, idempotencyKey: String? = nil
    ) async throws(CarillonError) -> TriggeredJob where Users.Element == String {
        let lines = UserLines(first: try WireFormat.encode(AddressedMessage(message: message)), users: users)
        let call = Call(
            method: .POST, url: self.service.route("notifications", "trigger"), safety: .never, contentType: "application/x-ndjson",
            idempotencyKey: idempotencyKey ?? Self.newKey(), body: .stream(lines, length: .unknown))
        var (job, reply) = try await self.transport.send(call, as: TriggeredJob.self)
        job.isReplayed = reply.isReplayed
        return job
    }

    /// How far a job is: `GET /v1/jobs/{id}`.
    public func job(_ id: UUID) async throws(CarillonError) -> JobStatus {
        let call = Call(method: .GET, url: self.service.route("jobs", id.uuidString.lowercased()), safety: .always)
        return try await self.transport.send(call, as: JobStatus.self).answer
    }

    /// Changes notifications that were sent: `PATCH /v1/internal/notifications`.
    ///
    /// - Returns: How many were changed; those that were so already are not among them.
    /// - Throws: ``CarillonError``; ``CarillonError/Code/notFound`` when the selector finds none.
    @discardableResult
    public func correct(_ selector: NotificationSelector, _ correction: NotificationCorrection) async throws(CarillonError) -> Int {
        struct Answer: Decodable { var updated: Int }
        let body = try WireFormat.encode(CorrectionRequest(selector: selector, correction: correction))
        let call = Call(method: .PATCH, url: self.service.route("internal", "notifications"), safety: .always, body: .bytes(body))
        return try await self.transport.send(call, as: Answer.self).answer.updated
    }

    /// Takes notifications back: `DELETE /v1/internal/notifications`.
    ///
    /// - Returns: How many are gone; 0 when an earlier attempt of this call, whose outcome was not known, has taken them back.
    /// - Throws: ``CarillonError``; ``CarillonError/Code/notFound`` when the selector finds none.
    @discardableResult
    public func takeBack(_ selector: NotificationSelector) async throws(CarillonError) -> Int {
        struct Answer: Decodable { var deleted: Int }
        let call = Call(
            method: .DELETE, url: self.service.route("internal", "notifications"), safety: selector.isOne ? .always : .whenRefused, body: .bytes(try WireFormat.encode(selector)),
            isDeletion: true)
        let reply = try await self.transport.send(call)
        return reply.isGone ? 0 : try Transport.decode(Answer.self, reply).deleted
    }

    /// A user's badge: `GET /v1/internal/users/{id}/count`.
    public func count(of user: String, customerID: String? = nil) async throws(CarillonError) -> NotificationCount {
        let url = self.service.route("internal", "users", user, "count", query: [("customer_id", customerID)])
        return try await self.transport.send(Call(method: .GET, url: url, safety: .always), as: NotificationCount.self).answer
    }

    static func newKey() -> String { UUID().uuidString.lowercased() }
}
