import NotificationCore

/// The base of a provider's API: http or https, without a slash at its end.
public struct ProviderURL: Sendable, Equatable {
    public let text: String
    /// As the header `Host` has it.
    let host: String

    /// - Throws: ``SenderSettingError``: what is wrong with it.
    public init(_ text: String) throws(SenderSettingError) {
        var text = text
        while text.utf8.last == UInt8(ascii: "/") { text.removeLast() }
        let url: WebhookURL
        do { url = try WebhookURL(text) } catch { throw SenderSettingError("\(error)") }
        if text.contains("?") { throw SenderSettingError("must not have a query") }
        self.text = text
        let authority = text.split(separator: "/", maxSplits: 2)[1].prefix { $0 != "/" }.lowercased()
        let ownPort = url.isSecure ? ":443" : ":80"
        self.host = authority.hasSuffix(ownPort) ? String(authority.dropLast(ownPort.utf8.count)) : authority
    }
}
