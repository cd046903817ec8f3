import Crypto
import NotificationCore

/// The keys of an AWS principal.
public struct AWSCredentials: Sendable {
    public var accessKeyID: String
    public var secretAccessKey: String
    public var sessionToken: String?

    public init(accessKeyID: String, secretAccessKey: String, sessionToken: String? = nil) {
        self.accessKeyID = accessKeyID
        self.secretAccessKey = secretAccessKey
        self.sessionToken = sessionToken
    }
}

/// AWS Signature Version 4 of a POST to `/` without a query.
struct AWSSignature {
    var credentials: AWSCredentials
    var region: String
    var service: String

    /// The headers to send, the signature among them, besides `Host`, which is signed too.
    ///
    /// - Parameters:
    ///   - host: As the request will have it: with its port, unless that is the scheme's own.
    ///   - target: Of the JSON protocols: the operation, as `x-amz-target`.
    func headers(host: String, contentType: String, target: String? = nil, body: [UInt8], now: Timestamp) -> [String] {
        let stamp = String(now.description.prefix(19).filter { $0 != "-" && $0 != ":" }) + "Z"
        let day = String(stamp.prefix(8))
        var headers = [("content-type", contentType), ("host", host), ("x-amz-date", stamp)]
        if let token = self.credentials.sessionToken { headers.append(("x-amz-security-token", token)) }
        if let target { headers.append(("x-amz-target", target)) }
        let names = headers.map(\.0).joined(separator: ";")
        let canonical =
            (["POST", "/", ""] + headers.map { "\($0.0):\($0.1)" } + ["", names, SHA256.hash(data: body).hex]).joined(separator: "\n")
        let scope = "\(day)/\(self.region)/\(self.service)/aws4_request"
        let text = "AWS4-HMAC-SHA256\n\(stamp)\n\(scope)\n" + SHA256.hash(data: Array(canonical.utf8)).hex
        var key = SymmetricKey(data: Array("AWS4\(self.credentials.secretAccessKey)".utf8))
        for part in [day, self.region, self.service, "aws4_request"] {
            key = SymmetricKey(data: HMAC<SHA256>.authenticationCode(for: Array(part.utf8), using: key))
        }
        let signature = HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: key).hex
        return headers.filter { $0.0 != "host" }.map { "\($0.0): \($0.1)" } + [
            "Authorization: AWS4-HMAC-SHA256 Credential=\(self.credentials.accessKeyID)/\(scope), SignedHeaders=\(names), Signature=\(signature)"
        ]
    }
}
