import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `/v1/contacts/{user_id}`: where the application says that a user is reached.
struct ContactRoutes: Sendable {
    private static let failure = "internal_error"

    let recipients: Recipients
    let credentials: Credentials

    func get(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let user = try await self.user(context)
        let found = try await stored(Self.failure, context) { () async throws(StoreError) in try await self.recipients.contacts.contact(of: user) }
        guard let found else { throw .notFound }
        return EntityTag.response(to: context.request, Self.json(user, found.contact, found.updatedAt))
    }

    /// Replaces all of it: what the body leaves out is no longer known.
    func put(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let user = try await self.user(context)
        let contact = try self.contact(try JSONBody.parse(context.request.body))
        let at = try await stored(Self.failure, context) { () async throws(StoreError) in try await self.recipients.contacts.put(contact, of: user) }
        return .json(.ok, Self.json(user, contact, at))
    }

    func delete(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let user = try await self.user(context)
        let isGone = try await stored(Self.failure, context) { () async throws(StoreError) in try await self.recipients.contacts.delete(of: user) }
        guard isGone else { throw .notFound }
        return GatewayResponse(status: .noContent)
    }

    private func user(_ context: CarillonRequestContext) async throws(Problem) -> UserID {
        let request = context.request
        _ = try await self.credentials.application(request, scope: .contacts)
        guard let user = context.pathParameter("user_id").flatMap({ UserID($0) }) else {
            throw .invalidField("user_id", "must have 1 to \(UserID.maximumLength) characters, none of them a control character")
        }
        return user
    }

    private func contact(_ json: JSONValue) throws(Problem) -> Contact {
        do throws(ValidationError) { return try Contact(json: json) } catch { throw Problem(error) }
    }

    private static func json(_ user: UserID, _ contact: Contact, _ updatedAt: Timestamp) -> [UInt8] {
        func text(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }
        return JSONValue.object([
            ("user_id", .string(user.value)), ("email", text(contact.email)), ("phone", text(contact.phone)), ("locale", text(contact.locale)),
            ("timezone", text(contact.timezone?.identifier)), ("telegram_chat_id", text(contact.telegramChatID)), ("updated_at", .string(updatedAt.description)),
        ]).encoded
    }
}
