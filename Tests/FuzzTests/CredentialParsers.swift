import Foundation
import Logging
import NIOHTTP1
import NotificationCore

@testable import API
@testable import Authentication
@testable import Gateway
@testable import NotificationStore

/// Tokens, tickets, cookies and signatures: nothing that was not made here is taken.
extension Parser {
    private static let secret = "a secret that nobody guesses, 32 bytes"

    private static let tokens: (verifier: TokenVerifier, token: String) = {
        do {
            var configuration = TokenConfiguration()
            configuration.secret = Self.secret
            let verifier = try TokenVerifier(configuration: configuration, logger: Logger(label: "fuzz", factory: { _ in SwiftLogNoOpLogHandler() }), now: { 1_800_000_000 })
            let token = try TokenMinter(secret: Self.secret, issuer: nil, audience: nil).mint(user: "alice", role: "admin", customers: ["acme"], ttlSeconds: 3600, now: 1_800_000_000)
            return (verifier, token)
        } catch {
            preconditionFailure("\(error)")
        }
    }()
    private static let tickets = TicketSigner(secret: Array(repeating: 7, count: 32))
    private static let holder = UserToken(user: "alice", roles: ["admin"], customers: ["acme"], expiresAt: 1_900_000_000)!
    private static let ticket = Self.tickets.makeTicket(for: Self.holder, now: Timestamp(seconds: 1_800_000_000))
    private static let session = Self.tickets.makeSession(for: Self.holder)
    private static let unsubscribing = UnsubscribeSigner(secret: Array(repeating: 7, count: 32))
    private static let scope = UnsubscribeScope(user: UserID("alice")!, channel: .email, types: ["chat"], customers: ["acme"])

    static let credentials: [Parser] = [
        Parser("jwt", words: ["eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJub25lIn0", "e30", ".", "..", "=", "-", "_"], made: { [Array(Self.tokens.token.utf8)] }) { input in
            let word = text(input)
            do throws(TokenRejection) {
                guard let user = try Self.tokens.verifier.verifySynchronously(word) else { return "for a public key" }
                return word.utf8.elementsEqual(Self.tokens.token.utf8) && user.user == "alice" ? "taken" : "forged"
            } catch { return refused("\(error)") }
        },
        Parser("ticket", words: ["ct_", "cs_", ".", "7b", "7d"], made: { [Array(Self.ticket.utf8), Array(Self.session.utf8)] }) { input in
            let word = text(input)
            let now = Timestamp(seconds: 1_800_000_001)
            if let ticket = Self.tickets.ticket(word, now: now) {
                try promise(word.utf8.elementsEqual(Self.ticket.utf8) && ticket.token == Self.holder, "a forged ticket")
                return "ticket"
            }
            if let token = Self.tickets.session(word, now: now) {
                try promise(word.utf8.elementsEqual(Self.session.utf8) && token == Self.holder, "a forged session")
                return "session"
            }
            return "refused \(TicketSigner.isSession(word))"
        },
        Parser("unsubscribe", words: [".", "-", "_", "=", "WyI"], made: { [Array(Self.unsubscribing.token(for: Self.scope).utf8)] }) { input in
            guard let scope = Self.unsubscribing.scope(of: text(input)) else { return "refused" }
            try promise(scope == Self.scope, "a forged token for \(scope.user)")
            return "taken"
        },
        Parser("twilio", words: ["MessageSid=", "&", "MessageStatus=delivered", "ErrorCode=", "%", "+", "SM0123"], made: { [Array("MessageSid=SM1&MessageStatus=sent".utf8)] }) { input in
            let query = Query(text(input.prefix(TwilioCallback.formBound).map { $0 }))
            let signature = query["MessageSid"] ?? text(input)
            try promise(
                !TwilioSignature.isValid(signature, url: "https://example.org/v1/callbacks/twilio", parameters: query.parameters, authToken: Self.secret), "a forged signature")
            return "\(query["MessageSid"] != nil) \(query["MessageStatus"] != nil) \(min(query.parameters.count, 3))"
        },
        Parser("cookie", words: ["carillon_token=", ";", "; ", "=", "\"", "a=b"]) { input in
            let found = HTTPHeaders([("cookie", text(input))]).cookie("carillon_token")
            if let found { try promise(!found.contains(";") && found.utf8.count <= input.count * 3, found) }
            let bearer = Credentials.bearer(text(input))
            return "\(found.map { min($0.count, 2) } ?? -1) \(bearer != nil)"
        },
        Parser("jwks", words: ["\"keys\":[", "\"kty\":\"RSA\"", "\"OKP\"", "\"EC\"", "\"crv\":\"P-256\"", "\"Ed25519\"", "\"x\":", "\"y\":", "\"n\":", "\"e\":\"AQAB\"", "{", "}", "]", "\"kid\":\"a\""], cost: 4) { input in
            do throws(JWKSLoadError) {
                let keys = try JSONWebKeySet(document: input).keys
                return keys.isEmpty || keys.count > JSONWebKeySet.keyLimit ? "forged" : "taken \(min(keys.count, 4))"
            } catch { return refused("\(error)") }
        },
    ].map(Self.unforged)

    /// No token that was taken was made by somebody else.
    private static func unforged(_ parser: Parser) -> Parser {
        Parser(parser.name, words: parser.words, cost: parser.cost, made: parser.made) { input in
            let outcome = try parser.run(input)
            try promise(outcome != "forged", "it was taken, and is none of ours")
            return outcome
        }
    }
}
