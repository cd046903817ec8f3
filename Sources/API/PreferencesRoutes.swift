import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// What the signed-in user prefers, in general or (`customer_id`) as a member of one customer.
struct PreferencesRoutes: Sendable {
    static let fetchFailure = "failed_to_fetch_preferences"
    static let updateFailure = "failed_to_update_preferences"

    let recipients: Recipients
    let credentials: Credentials
    let catalogue: @Sendable () -> Catalogue

    /// `GET /v1/notifications/preferences`
    func get(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let (visitor, customer) = try await self.place(context)
        let preferences = try await stored(Self.fetchFailure, context) { () async throws(StoreError) in
            try await self.recipients.preferences.preferences(of: visitor.user, customer: customer)
        }
        return EntityTag.response(to: context.request, preferences.json.encoded)
    }

    /// `PUT /v1/notifications/preferences`
    func put(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await self.change(context) { patch, _ throws(ValidationError) in try patch.applied(to: Preferences()) }
    }

    /// `PATCH /v1/notifications/preferences`
    func patch(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await self.change(context) { patch, stored throws(ValidationError) in try patch.applied(to: stored) }
    }

    private func change(
        _ context: CarillonRequestContext, _ apply: @escaping @Sendable (PreferencesPatch, Preferences) throws(ValidationError) -> Preferences
    ) async throws(Problem) -> GatewayResponse {
        let (visitor, customer) = try await self.place(context)
        let patch = try self.patch(try JSONBody.parse(context.request.body))
        do throws(PreferencesError) {
            let preferences = try await self.recipients.preferences.change(of: visitor.user, customer: customer) { stored throws(ValidationError) in
                try apply(patch, stored)
            }
            return .json(.ok, preferences.json.encoded)
        } catch {
            throw try await self.problem(error, context)
        }
    }

    private func patch(_ json: JSONValue) throws(Problem) -> PreferencesPatch {
        do throws(ValidationError) { return try PreferencesPatch(json, catalogue: self.catalogue()) } catch { throw Problem(error) }
    }

    private func problem(_ error: PreferencesError, _ context: CarillonRequestContext) async throws(Problem) -> Problem {
        switch error {
        case .invalid(let invalid): return Problem(invalid)
        case .tooManyCustomers:
            return .invalidField("customer_id", "preferences are kept for at most \(PreferencesStore.maximumCustomers) customers")
        case .store(let failure):
            return try await stored(Self.updateFailure, context) { () async throws(StoreError) -> Problem in throw failure }
        }
    }

    /// Whose preferences the request is about.
    private func place(_ context: CarillonRequestContext) async throws(Problem) -> (visitor: Visitor, customer: CustomerID?) {
        let visitor = try await Visitor(context.request, self.credentials)
        var parameters = ParameterReader(context.request.query)
        let customer = parameters.word("customer_id")
        try parameters.check()
        try visitor.check(customer: customer)
        return (visitor, customer.flatMap { CustomerID($0) })
    }

    /// `GET /v1/notifications/preferences/effective`: what would become of a notification, by channel, and whose word that is.
    func effective(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let (visitor, customer) = try await self.place(context)
        let (type, event) = try self.asked(context.request.query)
        let now = Timestamp.now()
        let found = try await stored(Self.fetchFailure, context) { () async throws(StoreError) in
            try await self.recipients.reader.read([visitor.user], customer: customer)
        }
        let recipient = found[visitor.user] ?? .unknown
        let catalogue = self.catalogue()
        let (required, channels) = (catalogue.required(type: type.name, event: event), catalogue.channels(type: type.name, event: event))
        let decisions = DeliveryChannel.ofUsers.map { channel -> (name: String, value: JSONValue) in
            let decision = ChannelDecision(
                channel, type: type.name, event: event, own: recipient.own, customer: recipient.customer, required: required,
                byDefault: channels.contains(channel))
            return (channel.rawValue, .object([("enabled", .bool(decision.enabled)), ("reason", .string(decision.reason.rawValue))]))
        }
        let priority = event.flatMap { type.events[$0]?.priority } ?? type.defaults.priority
        let quiet = priority == .urgent ? nil : recipient.quietEnd(at: now)
        let answer = JSONValue.object([
            ("type", .string(type.name)), ("event", event.map { .string($0) } ?? .null), ("customer_id", customer.map { .string($0.value) } ?? .null),
            ("channels", .object(decisions)), ("quiet_until", quiet.map { .string($0.description) } ?? .null),
        ])
        return EntityTag.response(to: context.request, answer.encoded)
    }

    private func asked(_ query: Query) throws(Problem) -> (type: Catalogue.Kind, event: String?) {
        var parameters = ParameterReader(query)
        let name = parameters.word("type") ?? Catalogue.fallbackType
        let event = parameters.word("event")
        try parameters.check()
        guard let type = self.catalogue()[name] else { throw Problem(ValidationError("type", "not in the catalogue", code: .invalidGroup)) }
        if let event, type.events[event] == nil { throw Problem(ValidationError("event", "not an event of this type", code: .invalidEvent)) }
        return (type, event)
    }
}
