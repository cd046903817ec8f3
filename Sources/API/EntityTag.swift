import Crypto
package import Gateway
import NIOCore
package import NIOHTTP1
import NotificationCore

/// Answers to conditional reads (RFC 9110, 8.8.3 and 13.1.2). The tag is a hash of the answer: it changes exactly when the answer does.
package enum EntityTag {
    package static func make(_ bytes: [UInt8]) -> String {
        var tag = [UInt8(ascii: "\"")]
        for byte in SHA256.hash(data: bytes).prefix(16) {
            tag.append(hexDigit(byte >> 4))
            tag.append(hexDigit(byte & 15))
        }
        tag.append(UInt8(ascii: "\""))
        return String(decoding: tag, as: UTF8.self)
    }

    /// 304 where the client has this answer already.
    package static func response(to request: GatewayRequest, _ bytes: [UInt8], headers: HTTPHeaders = HTTPHeaders()) -> GatewayResponse {
        let tag = self.make(bytes)
        var headers = headers
        headers.add(name: "etag", value: tag)
        headers.add(name: "cache-control", value: "private, no-cache")
        if self.matches(request.head.headers[canonicalForm: "if-none-match"], tag) { return GatewayResponse(status: .notModified, headers: headers) }
        headers.add(name: "content-type", value: "application/json")
        return GatewayResponse(status: .ok, headers: headers, body: ByteBuffer(bytes: bytes))
    }

    /// The weak comparison.
    package static func matches(_ values: [Substring], _ tag: String) -> Bool {
        values.contains { $0 == "*" || $0 == tag || $0 == "W/" + tag }
    }
}
