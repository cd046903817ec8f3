public import Gateway
public import Hummingbird
import NIOHTTP1
import NotificationCore
public import NotificationStore

/// Routes for those who have neither a token nor a key: readers of e-mails, and providers that sign their calls.
public struct PublicRoutes: Sendable {
    private let unsubscribe: UnsubscribeRoutes
    private let twilio: TwilioCallback

    /// - Parameters:
    ///   - publicURL: what Twilio reaches this service by, without a slash at its end.
    ///   - twilioToken: what it signs its calls with; nil: they are refused.
    public init(signer: UnsubscribeSigner, preferences: PreferencesStore, deliveries: DeliveryCallbacks, publicURL: String?, twilioToken: String?) {
        self.unsubscribe = UnsubscribeRoutes(signer: signer, preferences: preferences)
        self.twilio = TwilioCallback(deliveries: deliveries, publicURL: publicURL, token: twilioToken)
    }

    /// The router must hold ``ProblemMiddleware`` already.
    public func addRoutes(to router: Router<CarillonRequestContext>) {
        let (unsubscribe, twilio) = (self.unsubscribe, self.twilio)
        router.get("/v1/unsubscribe/:token") { _, context in try unsubscribe.page(context).hummingbird }
        router.post("/v1/unsubscribe/:token") { _, context in try await unsubscribe.apply(context).hummingbird }
        router.post("/v1/callbacks/twilio") { _, context in try await twilio.note(context).hummingbird }
    }
}
