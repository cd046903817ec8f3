import FoundationEssentials
import NotificationCore

/// Where e-mail is handed over.
public struct MailServer: Sendable, Equatable {
    var url: String
    var user: String?
    var password: String?
    var startTLS: TransferRequest.StartTLS

    /// `smtp://` or `smtps://`, `user:password@` percent-encoded, host and port (25, and 465 for TLS from the start), a name to greet with as path, and
    /// `?starttls=required` (for `smtp`, whenever there is a password, unless it says another), `opportunistic` or `none`.
    ///
    /// - Throws: ``SenderSettingError``: what is wrong with it.
    public init(url text: String) throws(SenderSettingError) {
        guard let url = URLComponents(string: text), let scheme = url.scheme?.lowercased(), ["smtp", "smtps"].contains(scheme) else {
            throw SenderSettingError("must be smtp://host[:port] or smtps://host[:port]")
        }
        guard let host = url.percentEncodedHost, !host.isEmpty, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw SenderSettingError("must have a host, and what is not plain ASCII percent-encoded")
        }
        guard url.fragment == nil, url.path.split(separator: "/").count <= 1 else { throw SenderSettingError("has a path of one name at most: the greeting's") }
        self.user = url.user
        self.password = url.password
        var startTLS: TransferRequest.StartTLS?
        for pair in (url.percentEncodedQuery ?? "").split(separator: "&") {
            guard pair.hasPrefix("starttls="), scheme == "smtp", let word = TransferRequest.StartTLS(rawValue: String(pair.dropFirst("starttls=".count))) else {
                throw SenderSettingError("knows one parameter, for smtp: starttls=required, opportunistic or none")
            }
            startTLS = word
        }
        self.startTLS = scheme == "smtps" ? .none : startTLS ?? (url.user == nil ? .opportunistic : .required)
        self.url = "\(scheme)://\(host)" + (url.port.map { ":\($0)" } ?? "") + (url.percentEncodedPath == "/" ? "" : url.percentEncodedPath)
    }
}

/// A setting of a sender that cannot be used, as a sentence's end: "must be …".
public struct SenderSettingError: Error, Sendable, Equatable, CustomStringConvertible {
    public let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// The channel `email`: SMTP (RFC 5321), over connections that are used again.
public struct EmailSender: ChannelSender {
    /// Of one attempt, less the server's last word on it. A shutdown waits longer than that.
    public static let timeLimit: Duration = .seconds(40)
    /// Of the server's word on a mail that it has: ten minutes (RFC 5321, 4.5.3.2.6), since a mail whose sender hung up may be delivered all the same.
    public static let lastWordLimit: Duration = .seconds(600)

    private let engines: MailEngines
    private let server: MailServer
    private let from: MailSender
    private let limits: (whole: Duration, lastWord: Duration)

    public init(
        engines: MailEngines, server: MailServer, from: MailSender, timeLimit: Duration = Self.timeLimit, lastWordLimit: Duration = Self.lastWordLimit
    ) {
        self.limits = (timeLimit, lastWordLimit)
        self.engines = engines
        self.server = server
        self.from = from
    }

    public func send(_ message: OutgoingMessage) async -> SendResult {
        guard let mail = MailMessage(message, from: self.from) else { return .refused("the address is none") }
        var request = TransferRequest(url: self.server.url, kind: .mail(from: self.from.address, to: mail.to, message: mail.encoded), timeLimit: self.limits.whole)
        request.lastWordLimit = self.limits.lastWord
        if let user = self.server.user { request.credentials = (user, self.server.password ?? "") }
        request.startTLS = self.server.startTLS
        do throws(TransferError) {
            _ = try await self.engines.perform(request)
            return .sent(reference: mail.messageID)
        } catch {
            return .unanswered(error)
        }
    }
}

extension MailMessage {
    /// A line of a header has 998 bytes at most (RFC 5322, 2.1.1), and a URL cannot be broken.
    private static let longestURL = 950

    /// Nil when the address could break out of its place.
    init?(_ message: OutgoingMessage, from: MailSender, now: Timestamp = .now()) {
        guard MailAddress.isGood(message.address) else { return nil }
        let subject = message.subject ?? message.text.map { String($0.prefix { $0 != "\n" }) } ?? ""
        // One line, whatever came.
        self.subject = TextRules.clean(subject, multiline: false)
        self.from = from
        self.to = message.address
        self.html = message.html
        self.text = message.text ?? (message.html == nil ? subject : nil)
        self.id = message.deliveryID
        self.date = now
        self.unsubscribeURL = message.unsubscribeURL.flatMap { url in
            url.utf8.count <= Self.longestURL && url.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "<") && $0 != UInt8(ascii: ">") } ? url : nil
        }
    }
}
