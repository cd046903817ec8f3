import Crypto
import FoundationEssentials
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `POST /v1/callbacks/twilio`: what became of a text. Signed by Twilio with the account's token.
struct TwilioCallback: Sendable {
    /// Twilio may be faster than the note of its answer.
    private static let looks = 20
    private static let pause: Duration = .milliseconds(150)
    /// In bytes; Twilio's forms have a few hundred. Whoever signed it is known only once all of it was sorted.
    static let formBound = 16 * 1024

    let deliveries: DeliveryCallbacks
    let publicURL: String?
    let token: String?

    func note(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let request = context.request
        if request.body.readableBytes > Self.formBound { throw .tooLarge(limit: Self.formBound) }
        let parameters = Query(String(decoding: request.body.readableBytesView, as: UTF8.self))
        guard let token, let publicURL, let signature = request.header("x-twilio-signature"),
            TwilioSignature.isValid(signature, url: publicURL + Self.target(request), parameters: parameters.parameters, authToken: token)
        else { throw .forbidden("This is not signed by the account that texts go by.") }
        guard let sid = parameters["MessageSid"], let status = parameters["MessageStatus"] else {
            throw Problem(.unprocessableEntity, "invalid_body", "MessageSid and MessageStatus are needed.")
        }
        var (state, reason) = (DeliveryState.sent, String?.none)
        switch status {
        case "delivered", "read": state = .delivered
        case "undelivered", "failed", "canceled": (state, reason) = (.failed, parameters["ErrorCode"].map { "Twilio: \(status), error \($0)" } ?? "Twilio: \(status)")
        // Others are on the way to one of these.
        default: return GatewayResponse(status: .noContent)
        }
        let (ended, why) = (state, reason)
        for _ in 0..<Self.looks {
            if try await stored(administrationFailure, context, { () async throws(StoreError) in try await self.deliveries.note(sid, state: ended, reason: why) }) {
                return GatewayResponse(status: .noContent)
            }
            do { try await Task.sleep(for: Self.pause) } catch { break }
        }
        throw .notFound
    }

    /// Path and query as they came, but for a prefix that another proxy may have taken off.
    private static func target(_ request: GatewayRequest) -> String {
        let query = request.head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).dropFirst().first
        return "/v1/callbacks/twilio" + (query.map { "?" + $0 } ?? "")
    }
}

/// Whether a callback comes from Twilio: the header `X-Twilio-Signature`, an HMAC-SHA1 of the URL and the form's parameters in the order of their names.
enum TwilioSignature {
    static func isValid(_ signature: String, url: String, parameters: [(name: String, value: String)], authToken: String) -> Bool {
        guard let code = Data(base64Encoded: signature) else { return false }
        let sorted = parameters.sorted { ($0.name, $0.value) < ($1.name, $1.value) }
        let text = url + sorted.map { $0.name + $0.value }.joined()
        return HMAC<Insecure.SHA1>.isValidAuthenticationCode(code, authenticating: Array(text.utf8), using: SymmetricKey(data: Array(authToken.utf8)))
    }
}
