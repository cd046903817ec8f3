public import NotificationCore

/// Sends messages by one channel. A further channel, or another provider, is one file that conforms to this, and its settings.
public protocol ChannelSender: Sendable {
    /// One attempt. It answers, whatever happens, within a time of its own; it is called from many tasks at once, and is not cancelled by a shutdown before
    /// that has waited for it.
    func send(_ message: OutgoingMessage) async -> SendResult
}

/// What goes to one address.
public struct OutgoingMessage: Sendable {
    /// Stable over attempts: what a provider may recognise a repetition by.
    public var deliveryID: String
    public var channel: DeliveryChannel
    public var userID: UserID
    public var notificationID: NotificationID
    public var customerID: String?
    /// An e-mail address, a phone number (E.164), or a chat's id.
    public var address: String
    /// Of an e-mail.
    public var subject: String?
    public var text: String?
    /// Of an e-mail.
    public var html: String?
    /// Of an e-mail: one-click unsubscription (RFC 8058); nil where it cannot be unsubscribed, since it is required.
    public var unsubscribeURL: String?
    /// What that unsubscribes from.
    var unsubscribe: UnsubscribeScope?
    public var urgent: Bool

    public init(
        deliveryID: String, channel: DeliveryChannel, userID: UserID, notificationID: NotificationID, customerID: String? = nil, address: String,
        subject: String? = nil, text: String? = nil, html: String? = nil, unsubscribeURL: String? = nil, urgent: Bool = false
    ) {
        self.deliveryID = deliveryID
        self.channel = channel
        self.userID = userID
        self.notificationID = notificationID
        self.customerID = customerID
        self.address = address
        self.subject = subject
        self.text = text
        self.html = html
        self.unsubscribeURL = unsubscribeURL
        self.urgent = urgent
    }
}

/// What one attempt came to.
public enum SendResult: Sendable, Equatable {
    /// Handed over. The reference is the provider's id, for later status callbacks.
    case sent(reference: String?)
    /// Known to have arrived.
    case delivered(reference: String?)
    /// Final: the address or the message is bad.
    case refused(String)
    /// It is tried again, not before `after` where the provider said so.
    case later(String, after: Duration?)
    /// Not attempted, or not to its end, through no fault of the message or the provider: it does not count as an attempt.
    case notSent(String)

    /// What came of an exchange that had no answer.
    static func unanswered(_ error: TransferError) -> SendResult {
        switch error.code {
        case .overloaded, .cancelled: .notSent(error.message)
        case .refusedMail(permanent: true): .refused(error.message)
        case .refusedAddress, .timedOut, .failed, .refusedMail(permanent: false): .later(error.message, after: nil)
        }
    }
}
