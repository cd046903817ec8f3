import NotificationCore

/// A Twilio account, and who its texts come from.
public struct TwilioAccount: Sendable {
    public var sid: String
    /// Also what Twilio signs its callbacks with.
    public var authToken: String
    /// A number (E.164) or an alphanumeric sender, or the SID of a messaging service (`MG…`).
    public var from: String

    public init(sid: String, authToken: String, from: String) throws(SenderSettingError) {
        guard sid.hasPrefix("AC"), sid.utf8.count <= 64, sid.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0 | 0x20) })
        else { throw SenderSettingError("must be an account SID: AC and letters and digits") }
        self.sid = sid
        self.authToken = authToken
        self.from = from
    }
}

/// The channel `sms` by way of Twilio's Programmable Messaging API.
public struct TwilioSender: ChannelSender {
    private let engine: TransferEngine
    private let account: TwilioAccount
    private let url: ProviderURL
    private let callback: String?

    /// - Parameter callback: where Twilio tells what became of a text; the delivery's id goes with it as `delivery`. Nil: nowhere.
    public init(engine: TransferEngine, account: TwilioAccount, url: ProviderURL? = nil, callback: String? = nil) throws(SenderSettingError) {
        self.engine = engine
        self.account = account
        if let url { self.url = url } else { self.url = try ProviderURL("https://api.twilio.com") }
        self.callback = callback
    }

    public func send(_ message: OutgoingMessage) async -> SendResult {
        var parameters = [
            (name: "To", value: message.address), (name: self.account.from.hasPrefix("MG") ? "MessagingServiceSid" : "From", value: self.account.from),
            (name: "Body", value: message.text ?? message.subject ?? ""),
        ]
        if let callback { parameters.append((name: "StatusCallback", value: callback + "?delivery=" + FormText.percent(message.deliveryID))) }
        var request = TransferRequest(
            url: self.url.text + "/2010-04-01/Accounts/\(self.account.sid)/Messages.json",
            kind: .post(headers: ["Content-Type: application/x-www-form-urlencoded", "Accept: application/json"], body: Array(FormText.encode(parameters).utf8)),
            timeLimit: .seconds(20), keptBytes: 8192)
        request.credentials = (self.account.sid, self.account.authToken)
        do throws(TransferError) {
            return Self.judge(try await self.engine.perform(request))
        } catch {
            return .unanswered(error)
        }
    }

    /// Twilio's codes for what is wrong with the message or its address. All else is of the account, our own number (21606, 21659 …), the network or the moment.
    private static let final: Set<String> = [
        "21211",  // no phone number
        "21214", "21217",  // cannot be reached
        "21602", "21605", "21617",  // no text, or too long a one
        "21610",  // has unsubscribed
        "21614", "21635",  // no mobile number, or a landline
    ]

    static func judge(_ answer: TransferAnswer) -> SendResult {
        // Nil: an answer of something in between.
        let json = try? JSONParser.parse(answer.body)
        if (200...299).contains(answer.status) { return .sent(reference: json?["sid"]?.string) }
        var reason = "Twilio answered \(answer.status)"
        if case .number(let code)? = json?["code"] { reason += " (\(code))" }
        if let message = json?["message"]?.string { reason += ": " + message.prefix(300) }
        if answer.status == 400, case .number(let code)? = json?["code"], Self.final.contains(code) { return .refused(reason) }
        return .later(reason, after: answer.retryAfter)
    }
}
