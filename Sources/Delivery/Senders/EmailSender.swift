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
    private let engine: TransferEngine
    private let server: MailServer
    private let from: MailSender

    public init(engine: TransferEngine, server: MailServer, from: MailSender) {
        self.engine = engine
        self.server = server
        self.from = from
    }

    public func send(_ message: OutgoingMessage) async -> SendResult {
        guard let mail = MailMessage(message, from: self.from) else { return .refused("the address is none") }
        var request = TransferRequest(url: self.server.url, kind: .mail(from: self.from.address, to: mail.to, message: mail.encoded), timeLimit: .seconds(60))
        if let user = self.server.user { request.credentials = (user, self.server.password ?? "") }
        request.startTLS = self.server.startTLS
        do throws(TransferError) {
            _ = try await self.engine.perform(request)
            return .sent(reference: mail.messageID)
        } catch {
            if case .refusedMail(permanent: true) = error.code { return .refused(error.message) }
            return .later(error.message, after: nil)
        }
    }
}

extension MailMessage {
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
            url.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "<") && $0 != UInt8(ascii: ">") } ? url : nil
        }
    }
}
