import AsyncHTTPClient
import NIOHTTP1

extension CarillonClient {
    /// Where a user is reached: `GET /v1/contacts/{user_id}`.
    ///
    /// - Throws: ``CarillonError``; ``CarillonError/Code/notFound`` when nothing is known.
    public func contact(of user: String) async throws(CarillonError) -> Contact {
        try await self.transport.send(Call(method: .GET, url: self.service.route("contacts", user), safety: .always), as: Contact.self).answer
    }

    /// Replaces all that is known of where a user is reached: `PUT /v1/contacts/{user_id}`.
    public func setContact(_ contact: Contact, of user: String) async throws(CarillonError) {
        let call = Call(
            method: .PUT, url: self.service.route("contacts", user), safety: .always, body: .bytes(try WireFormat.encode(contact)))
        _ = try await self.transport.send(call)
    }

    /// Forgets it: `DELETE /v1/contacts/{user_id}`.
    ///
    /// - Throws: ``CarillonError``; ``CarillonError/Code/notFound`` when nothing was known.
    public func deleteContact(of user: String) async throws(CarillonError) {
        let call = Call(method: .DELETE, url: self.service.route("contacts", user), safety: .always, isDeletion: true)
        _ = try await self.transport.send(call)
    }
}
