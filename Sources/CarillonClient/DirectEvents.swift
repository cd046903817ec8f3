import AsyncHTTPClient
import NIOHTTP1

extension CarillonClient {
    /// A direct event: `POST /v1/notifications/sse`. Nothing is stored; whoever of the users is connected now gets it at most once.
    ///
    /// It is repeated only when the service has refused it: a connection that breaks may have carried it.
    @discardableResult
    public func sendDirectEvent(_ message: NotificationMessage, to users: [String]) async throws(CarillonError) -> DirectReceipt {
        try await self.direct(AddressedMessage(message: message, users: users))
    }

    /// The same for every open stream, whoever's it is.
    @discardableResult
    public func broadcast(_ message: NotificationMessage) async throws(CarillonError) -> DirectReceipt {
        try await self.direct(AddressedMessage(message: message, isBroadcast: true))
    }

    private func direct(_ message: AddressedMessage) async throws(CarillonError) -> DirectReceipt {
        let call = Call(
            method: .POST, url: self.service.route("notifications", "sse"), safety: .whenRefused, body: .bytes(try WireFormat.encode(message)))
        return try await self.transport.send(call, as: DirectReceipt.self).answer
    }
}
