import Foundation
import NotificationCore

@testable import RedisClient
@testable import carillon

/// What operators and customers' administrators write: the catalogue, addresses of servers and of webhooks.
extension Parser {
    static let operators: [Parser] = [
        Parser("catalogue", words: [
            "types:\n", "  a:\n", "    events:\n", "    title: x\n", "    aliases: [b]\n", "    channels: [email]\n", "    templates:\n", "      content: \"{{x}}\"\n", "    locales:\n", "&a ", "*a", "<<: ",
            "- ", ": ", "? ", "|\n", "!!binary ", "---\n", "%YAML 1.2\n", "\t",
        ], cost: 8) { input in
            do throws(CatalogueError) {
                let catalogue = try CatalogueFile.parse(text(input), file: "f")
                return "taken " + String(catalogue.summary.prefix(12))
            } catch {
                return error.faults.isEmpty || error.lines.contains { $0.isEmpty } ? "" : refused(error.faults[0].detail)
            }
        },
        Parser("webhookurl", words: ["https://", "http://", "@", ":", "/", "?", "#", "[", "]", "[::1]", "127.0.0.1", "\\", "%", ":80", ":0", "xn--", "..", "example.org"]) { input in
            let word = text(input)
            let url: WebhookURL
            do throws(WebhookURL.Refusal) { url = try WebhookURL(word) } catch { return refused(error.description) }
            try promise(!url.host.isEmpty && url.text.utf8.elementsEqual(word.utf8) && word.utf8.allSatisfy { (0x21...0x7E).contains($0) }, url.host)
            // Others find the same host in it.
            if let parts = URLComponents(string: word), let host = parts.host {
                let plain = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
                try promise(plain.lowercased() == url.host.lowercased(), "the host is \(url.host), and for others \(plain)")
                try promise(parts.user == nil && parts.password == nil && (parts.scheme?.lowercased() == "https") == url.isSecure, "credentials, or another scheme")
            }
            return "taken \(url.isSecure) \(IPAddress(url.host) != nil)"
        },
        Parser("redisurl", words: ["redis://", "rediss://", "redis+sentinel://", "redis+cluster://", "@", ":", ",", "/0", "?", "[::1]", "localhost:6379", "%40"]) { input in
            do throws(RedisError) {
                return "taken " + String("\(try RedisDeployment(url: text(input)))".prefix(12))
            } catch { return refused(error.message.prefix(24)) }
        },
    ]
}
