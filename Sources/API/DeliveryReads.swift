import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `GET /v1/notifications/{id}/deliveries`: a notification's state in each channel.
struct DeliveryReads: Sendable {
    let recipients: Recipients
    let credentials: Credentials

    func list(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let visitor = try await Visitor(context.request, self.credentials)
        let id = try context.notificationID()
        let deliveries = try await stored(InboxReads.failure, context) { () async throws(StoreError) in
            try await self.recipients.deliveries.deliveries(of: id, user: visitor.user, scope: visitor.customers)
        }
        guard let deliveries else { throw .notFound }
        let data = deliveries.map { delivery in
            JSONValue.object([
                ("channel", .string(delivery.channel)), ("state", .string(delivery.state)), ("reason", delivery.reason.map { .string($0) } ?? .null),
                ("at", .string(delivery.at.description)), ("not_before", delivery.notBefore.map { .string($0.description) } ?? .null),
            ])
        }
        return EntityTag.response(to: context.request, JSONValue.object([("data", .array(data))]).encoded)
    }
}
