import Crypto
import Foundation

/// JSON Web Tokens for users (RFC 7519), signed with HS256, or read from a file.
enum TokenMint {
    /// A token that says who the user is and nothing else, valid for `seconds` from `now`.
    static func mint(user: String, secret: String, issuer: String?, audience: String?, now: Date = Date(), seconds: Int) -> String {
        let issued = Int(now.timeIntervalSince1970)
        var payload = "{\"sub\":\(jsonString(user)),\"iat\":\(issued),\"exp\":\(issued + seconds)"
        if let issuer { payload += ",\"iss\":\(jsonString(issuer))" }
        if let audience { payload += ",\"aud\":\(jsonString(audience))" }
        payload += "}"
        let signed = base64URL(Data("{\"alg\":\"HS256\",\"typ\":\"JWT\"}".utf8)) + "." + base64URL(Data(payload.utf8))
        let signature = HMAC<SHA256>.authenticationCode(for: Data(signed.utf8), using: SymmetricKey(data: Data(secret.utf8)))
        return signed + "." + base64URL(Data(signature))
    }

    /// Users of a text with one token a line; the name is the token's `sub`.
    static func users(fromLines text: String, count: Int) throws(LoadtestError) -> [RunPlan.User] {
        let tokens = text.split(whereSeparator: \.isWhitespace).prefix(count).map(String.init)
        guard tokens.count == count else {
            throw .usage("There are \(tokens.count) tokens for \(count) users", "Give one token a line for each user, or fewer --users")
        }
        var users: [RunPlan.User] = []
        users.reserveCapacity(count)
        for token in tokens {
            guard let name = subject(of: token) else {
                throw .usage("A line of the tokens is no JWT with a sub", "Give one JWT a line")
            }
            users.append(RunPlan.User(name: name, token: token))
        }
        return users
    }

    /// The `sub` of a token, which is not verified: that is the server's part.
    static func subject(of token: String) -> String? {
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3 else { return nil }
        var text = parts[1].replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
        text += String(repeating: "=", count: (4 - text.count % 4) % 4)
        guard let payload = Data(base64Encoded: text) else { return nil }
        return payload.withUnsafeBytes { bytes in
            var reader = JSONReader(bytes)
            var subject: String?
            do throws(LoadtestError) {
                try reader.object { (key, reader) throws(LoadtestError) in
                    if key.matches("sub") { subject = try reader.stringIfAny()?.string } else { try reader.skip() }
                }
            } catch {
                return nil
            }
            return subject
        }
    }

    private static func base64URL(_ data: Data) -> String {
        data.base64EncodedString().replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
    }
}
