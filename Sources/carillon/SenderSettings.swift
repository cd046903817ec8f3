import Delivery
import Foundation
import NotificationCore
import NotificationStore

/// The senders of a node by the settings it has: a channel without settings has none.
struct Senders: Sendable {
    let channels: [DeliveryChannel: any ChannelSender]
    let webhooks: WebhookCaller
    private let engines: [TransferEngine]
    private let mails: MailEngines

    init(_ settings: SenderSettings) throws {
        let certificates = settings.certificates
        // Webhooks go where strangers say; the others where the operator says.
        guard let guarded = TransferEngine(TransferEngine.Settings(addresses: settings.addresses, certificates: certificates)),
            let engine = TransferEngine(TransferEngine.Settings(certificates: certificates))
        else { throw SettingError("senders", "the system has no memory, thread or file descriptor left") }
        self.engines = [guarded, engine]
        self.mails = MailEngines(TransferEngine.Settings(certificates: certificates))
        self.webhooks = WebhookCaller(engine: guarded, timeLimit: .seconds(Int64(settings.webhookSeconds)))
        var channels: [DeliveryChannel: any ChannelSender] = [:]
        switch settings.email {
        case .files(let path): channels[.email] = FileSender(path: path)
        case .nowhere: channels[.email] = DiscardingSender()
        case .server(let server, let from): channels[.email] = EmailSender(engines: self.mails, server: server, from: from)
        case nil: break
        }
        switch settings.sms {
        case .sns(let sns):
            channels[.sms] = try named("CARILLON_AWS_REGION") {
                try SNSSender(engine: engine, credentials: sns.credentials, region: sns.region, url: sns.url, senderID: sns.senderID)
            }
        case .twilio(let account, let url, let callback):
            channels[.sms] = try named("CARILLON_TWILIO_URL") { try TwilioSender(engine: engine, account: account, url: url, callback: callback) }
        case nil: break
        }
        if let (token, url) = settings.telegram {
            channels[.telegram] = try named("CARILLON_TELEGRAM_BOT_TOKEN") { try TelegramSender(engine: engine, token: token, url: url) }
        }
        self.channels = channels
    }

    /// Calls and mails under way.
    var transfers: Int { self.engines.reduce(self.mails.transfers) { $0 + $1.transfers } }

    /// Gives up what is under way.
    func close() async {
        for engine in self.engines { await engine.close() }
        await self.mails.close()
    }
}

/// The settings of all channels, checked.
struct SenderSettings: Sendable {
    enum Email: Sendable {
        case server(MailServer, from: MailSender)
        /// For development: a file for each message.
        case files(path: String)
        /// For measuring.
        case nowhere
    }

    struct SNS: Sendable {
        var credentials: AWSCredentials
        var region: String
        var url: ProviderURL?
        var senderID: String?
    }

    enum SMS: Sendable {
        case sns(SNS)
        case twilio(TwilioAccount, url: ProviderURL?, callback: String?)
    }

    private enum Provider: String, CaseIterable { case sns, twilio }

    var email: Email?
    var sms: SMS?
    var telegram: (token: String, url: ProviderURL?)?
    var addresses: AddressGuard
    var webhookSeconds: Int
    var webhookAttempts: Int
    var webhookBackoffSeconds: Int
    var webhookConcurrency: Int
    /// Users who are told when a webhook has failed.
    var webhookAdmins: [UserID]
    /// Keeps webhooks' secrets; without it there are no webhooks.
    var secrets: SecretBox?
    var certificates: String?
    /// What clients and providers reach this service by, without a slash at its end.
    var publicURL: ProviderURL?
    /// What Twilio signs its callbacks with.
    var twilioToken: String?

    static let names: Set<String> = [
        "CARILLON_SMTP_URL", "CARILLON_EMAIL_FROM", "CARILLON_SMS_PROVIDER", "CARILLON_AWS_REGION", "CARILLON_AWS_ACCESS_KEY_ID",
        "CARILLON_AWS_SECRET_ACCESS_KEY", "CARILLON_AWS_SESSION_TOKEN", "CARILLON_SNS_URL", "CARILLON_SNS_SENDER_ID", "CARILLON_TWILIO_ACCOUNT_SID",
        "CARILLON_TWILIO_AUTH_TOKEN", "CARILLON_TWILIO_FROM", "CARILLON_TWILIO_URL", "CARILLON_TELEGRAM_BOT_TOKEN", "CARILLON_TELEGRAM_URL",
        "CARILLON_WEBHOOK_ALLOWED_CIDRS", "CARILLON_WEBHOOK_TIMEOUT_SECONDS", "CARILLON_WEBHOOK_ATTEMPTS", "CARILLON_WEBHOOK_BACKOFF_SECONDS",
        "CARILLON_WEBHOOK_CONCURRENCY", "CARILLON_WEBHOOK_ADMINS", "CARILLON_SECRETS_KEY", "CARILLON_SECRETS_KEY_OLD", "CARILLON_CA_FILE", "CARILLON_PUBLIC_URL",
    ]

    init(_ settings: Settings) throws {
        self.certificates = try settings.text("CARILLON_CA_FILE")
        self.publicURL = try Self.url(settings, "CARILLON_PUBLIC_URL")
        self.addresses = AddressGuard(
            allowed: try settings.list("CARILLON_WEBHOOK_ALLOWED_CIDRS").map { text in
                guard let range = IPRange(text) else { throw SettingError("CARILLON_WEBHOOK_ALLOWED_CIDRS", "\(text) is no range of addresses, such as 10.1.0.0/16") }
                return range
            })
        self.webhookSeconds = try settings.number("CARILLON_WEBHOOK_TIMEOUT_SECONDS", default: 15, in: 1...60)
        self.webhookAttempts = try settings.number("CARILLON_WEBHOOK_ATTEMPTS", default: 3, in: 1...100)
        self.webhookBackoffSeconds = try settings.number("CARILLON_WEBHOOK_BACKOFF_SECONDS", default: 5, in: 0...3600)
        self.webhookConcurrency = try settings.number("CARILLON_WEBHOOK_CONCURRENCY", default: 4, in: 1...64)
        self.webhookAdmins = try settings.list("CARILLON_WEBHOOK_ADMINS").map { text in
            guard let user = UserID(text) else { throw SettingError("CARILLON_WEBHOOK_ADMINS", "\(text) is no user's id") }
            return user
        }
        self.secrets = try Self.secrets(settings)
        self.email = try Self.email(settings)
        if let token = try settings.text("CARILLON_TELEGRAM_BOT_TOKEN") { self.telegram = (token, try Self.url(settings, "CARILLON_TELEGRAM_URL")) }
        guard try settings.text("CARILLON_SMS_PROVIDER") != nil else { return }
        switch try settings.choice("CARILLON_SMS_PROVIDER", default: Provider.sns) {
        case .sns:
            let credentials = AWSCredentials(
                accessKeyID: try settings.required("CARILLON_AWS_ACCESS_KEY_ID"), secretAccessKey: try settings.required("CARILLON_AWS_SECRET_ACCESS_KEY"),
                sessionToken: try settings.text("CARILLON_AWS_SESSION_TOKEN"))
            self.sms = .sns(
                SNS(
                    credentials: credentials, region: try settings.required("CARILLON_AWS_REGION"), url: try Self.url(settings, "CARILLON_SNS_URL"),
                    senderID: try settings.text("CARILLON_SNS_SENDER_ID")))
        case .twilio:
            let token = try settings.required("CARILLON_TWILIO_AUTH_TOKEN")
            let (sid, from) = (try settings.required("CARILLON_TWILIO_ACCOUNT_SID"), try settings.required("CARILLON_TWILIO_FROM"))
            let account = try named("CARILLON_TWILIO_ACCOUNT_SID") { try TwilioAccount(sid: sid, authToken: token, from: from) }
            self.twilioToken = token
            self.sms = .twilio(account, url: try Self.url(settings, "CARILLON_TWILIO_URL"), callback: self.publicURL.map { $0.text + "/v1/callbacks/twilio" })
        }
    }

    /// Nil where there is no key, and so no webhooks.
    static func secrets(_ settings: Settings) throws -> SecretBox? {
        let (name, older) = ("CARILLON_SECRETS_KEY", "CARILLON_SECRETS_KEY_OLD")
        let old = try settings.text(older)
        guard let text = try settings.text(name) else {
            if old != nil { throw SettingError(older, "is there to be replaced by \(name), which is missing") }
            return nil
        }
        for (name, text) in [(name, text), (older, old ?? text)] where text.utf8.count < SecretBox.minimumLength {
            throw SettingError(name, "must have at least \(SecretBox.minimumLength) bytes")
        }
        if let old, old.utf8.elementsEqual(text.utf8) { throw SettingError(older, "is the same as \(name)") }
        return SecretBox(key: text, older: old)
    }

    private static func email(_ settings: Settings) throws -> Email? {
        let (name, sender) = ("CARILLON_SMTP_URL", "CARILLON_EMAIL_FROM")
        var from: MailSender?
        if let text = try settings.text(sender) {
            from = MailSender(text)
            if from == nil { throw SettingError(sender, "must be an e-mail address, or Name <address>") }
        }
        guard let text = try settings.text(name) else { return nil }
        if text.hasPrefix("file://") {
            guard let path = URL(string: text)?.path, path.hasPrefix("/"), path.count > 1 else {
                throw SettingError(name, "must name a folder: file:///var/mail/carillon")
            }
            return .files(path: path)
        }
        if text == "discard:" { return .nowhere }
        let server = try named(name) { try MailServer(url: text) }
        guard let from else { throw SettingError(sender, "is missing: e-mail needs a sender") }
        return .server(server, from: from)
    }

    private static func url(_ settings: Settings, _ name: String) throws -> ProviderURL? {
        guard let text = try settings.text(name) else { return nil }
        return try named(name) { try ProviderURL(text) }
    }
}

/// The name of the setting goes with what is wrong with it.
func named<Value>(_ name: String, _ body: () throws -> Value) throws -> Value {
    do { return try body() } catch let error as SenderSettingError { throw SettingError(name, error.description) }
}
