/// Why a channel does not get a notification.
public enum Suppression: String, Sendable, CaseIterable {
    case preference
    case noContact = "no_contact"
    case notConfigured = "not_configured"
    case rateLimited = "rate_limited"
}

/// What is known of one recipient of a notification.
public struct Recipient: Sendable, Equatable {
    /// What the user prefers in general; nil: nothing was ever said.
    public var own: Preferences?
    /// What the user prefers as a member of the notification's customer.
    public var customer: Preferences?
    public var contact: Contact?

    public init(own: Preferences? = nil, customer: Preferences? = nil, contact: Contact? = nil) {
        self.own = own
        self.customer = customer
        self.contact = contact
    }

    /// Of whom nothing is known: what the catalogue says holds.
    public static let unknown = Recipient()

    /// When quiet hours that are on now are over. Those for the customer hide the general ones.
    public func quietEnd(at now: Timestamp) -> Timestamp? {
        (self.customer?.quietHours ?? self.own?.quietHours)?.end(at: now, defaultZone: self.contact?.timezone)
    }

    /// Nil: nothing was said.
    public var emailDigest: Preferences.Digest? { self.customer?.emailDigest ?? self.own?.emailDigest }

    /// Where the clocks are that daily ones go by.
    var zone: TimeZoneName { self.contact?.timezone ?? self.customer?.quietHours?.zone ?? self.own?.quietHours?.zone ?? .utc }
}

/// By which channels one recipient gets one notification.
public struct RecipientRouting: Sendable, Equatable {
    /// One that is to be sent.
    public struct Sending: Sendable, Equatable {
        public var channel: DeliveryChannel
        public var endpoint: String
        /// When it is due: later than now for the event's delay, the end of quiet hours, or since the notification is scheduled; nil: at once.
        public var notBefore: Timestamp?
        /// It goes with others of its time in one e-mail.
        public var isGathered = false
    }

    /// One that was meant for the recipient and does not go.
    public struct Suppressed: Sendable, Equatable {
        public var channel: DeliveryChannel
        public var reason: Suppression
    }

    public var inApp = false
    public var sendings: [Sending] = []
    public var suppressed: [Suppressed] = []
    /// Why there is nothing for the recipient at all; nil when there is something.
    public var skipped: Suppression?

    /// - Parameter configured: the channels that have a sender here.
    public init(_ recipient: Recipient, of request: NotifyRequest, now: Timestamp, configured: Set<DeliveryChannel>) {
        for channel in DeliveryChannel.ofUsers {
            let isMeant = request.channels.contains(channel) || (!request.namesChannels && request.required.contains(channel))
            // What a request does not name is not asked for.
            if request.namesChannels, !isMeant { continue }
            let decision = ChannelDecision(
                channel, type: request.type, event: request.event, own: recipient.own, customer: recipient.customer, required: request.required,
                byDefault: isMeant)
            guard decision.enabled else {
                if isMeant { self.suppressed.append(Suppressed(channel: channel, reason: .preference)) }
                continue
            }
            if channel == .inApp {
                self.inApp = true
                continue
            }
            guard let endpoint = recipient.contact?.endpoint(channel) else {
                self.suppressed.append(Suppressed(channel: channel, reason: .noContact))
                continue
            }
            guard configured.contains(channel) else {
                self.suppressed.append(Suppressed(channel: channel, reason: .notConfigured))
                continue
            }
            var sending = Sending(channel: channel, endpoint: endpoint, notBefore: request.deliverAt)
            let delay = Int64(channel == .email ? request.emailPolicy.delaySeconds : 0)
            let due = Timestamp(microseconds: max(now, request.deliverAt ?? now).microseconds + delay * 1_000_000)
            if delay > 0 { sending.notBefore = due }
            let mayWait = request.priority != .urgent && decision.reason != .required
            if channel == .email, mayWait, let time = DigestTime.next(Self.digest(recipient, request), after: due, zone: recipient.zone) {
                sending.isGathered = true
                sending.notBefore = recipient.quietEnd(at: time) ?? time
            } else if (channel == .email || channel == .sms) && mayWait, let end = recipient.quietEnd(at: due) {
                sending.notBefore = end
            }
            self.sendings.append(sending)
        }
        // Webhooks get it whatever its recipients prefer.
        if !self.inApp, self.sendings.isEmpty, !request.channels.contains(.webhook) {
            let order: [Suppression] = [.preference, .noContact, .notConfigured]
            self.skipped = order.first { reason in self.suppressed.contains { $0.reason == reason } } ?? .notConfigured
        }
    }

    private static func digest(_ recipient: Recipient, _ request: NotifyRequest) -> Catalogue.Digest {
        switch recipient.emailDigest {
        case .immediate: .immediate
        case .hourly: .hourly
        case .daily: .daily
        case nil: request.emailDigest
        }
    }
}
