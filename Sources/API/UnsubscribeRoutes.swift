import Gateway
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `/v1/unsubscribe/{token}` (RFC 8058): mail programs POST to it, readers open it and press the button.
struct UnsubscribeRoutes: Sendable {
    let signer: UnsubscribeSigner
    let preferences: PreferencesStore

    /// Changes nothing: programs that look at links before their readers do must not unsubscribe them.
    func page(_ context: CarillonRequestContext) throws(Problem) -> GatewayResponse {
        let scope = try self.scope(context)
        return Self.html(
            "Unsubscribe", "<p>No more \(Self.channel(scope))\(Self.about(scope))?</p><form method=\"post\"><button>Unsubscribe</button></form>")
    }

    func apply(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let scope = try self.scope(context)
        // In general, and for the customers of the messages where the user said something about them: that would come before it.
        do throws(PreferencesError) {
            _ = try await self.preferences.change(of: scope.user, customer: nil) { scope.applied(to: $0) }
            for customer in scope.customers.compactMap({ CustomerID($0) }) {
                _ = try await self.preferences.change(of: scope.user, customer: customer) { $0.isEmpty ? $0 : scope.applied(to: $0) }
            }
        } catch {
            // Without the path, which holds the token.
            context.logger.error("unsubscription failed", metadata: ["error": "\(error)"])
            switch error {
            case .store(let failure): throw Problem(failure, failure: PreferencesRoutes.updateFailure)
            case .invalid(let invalid): throw Problem(invalid)
            case .tooManyCustomers: throw .conflict("There are preferences for too many customers.")
            }
        }
        return Self.html("Unsubscribed", "<p>You will get no more \(Self.channel(scope))\(Self.about(scope)).</p>")
    }

    private func scope(_ context: CarillonRequestContext) throws(Problem) -> UnsubscribeScope {
        guard let scope = context.pathParameter("token").flatMap({ self.signer.scope(of: $0) }) else { throw .notFound }
        return scope
    }

    private static func channel(_ scope: UnsubscribeScope) -> String {
        switch scope.channel {
        case .email: "e-mails"
        case .sms: "text messages"
        case .telegram: "messages on Telegram"
        case .inApp, .webhook: "notifications"
        }
    }

    private static func about(_ scope: UnsubscribeScope) -> String {
        scope.types.isEmpty ? "" : " about " + scope.types.map { "<b>\(HTMLText.escaped($0))</b>" }.joined(separator: ", ")
    }

    private static func html(_ title: String, _ body: String) -> GatewayResponse {
        let text = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>\(title)</title><h1>\(title)</h1>\(body)</html>\n"
        return GatewayResponse(
            status: .ok,
            headers: [
                "content-type": "text/html; charset=utf-8", "cache-control": "no-store", "referrer-policy": "no-referrer", "x-robots-tag": "noindex",
                "content-security-policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'", "x-content-type-options": "nosniff",
            ], body: ByteBuffer(string: text))
    }
}
