import NotificationCore

/// The channel `sms` by way of Amazon SNS: the action `Publish` to a phone number.
public struct SNSSender: ChannelSender {
    private let engine: TransferEngine
    private let signature: AWSSignature
    private let url: ProviderURL
    private let senderID: String?

    /// - Parameter url: nil: that of the region.
    public init(engine: TransferEngine, credentials: AWSCredentials, region: String, url: ProviderURL? = nil, senderID: String? = nil) throws(SenderSettingError) {
        guard !region.isEmpty, region.utf8.allSatisfy({ (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || $0 == UInt8(ascii: "-") })
        else { throw SenderSettingError("must be a region, such as eu-central-1") }
        self.engine = engine
        self.signature = AWSSignature(credentials: credentials, region: region, service: "sns")
        if let url { self.url = url } else { self.url = try ProviderURL("https://sns.\(region).amazonaws.com") }
        self.senderID = senderID
    }

    public func send(_ message: OutgoingMessage) async -> SendResult {
        let body = Array(FormText.encode(self.parameters(message)).utf8)
        let type = "application/x-www-form-urlencoded; charset=utf-8"
        let headers = self.signature.headers(host: self.url.host, contentType: type, body: body, now: .now())
        let request = TransferRequest(url: self.url.text + "/", kind: .post(headers: headers, body: body), timeLimit: .seconds(20), keptBytes: 8192)
        do throws(TransferError) {
            return Self.judge(try await self.engine.perform(request))
        } catch {
            return .unanswered(error)
        }
    }

    func parameters(_ message: OutgoingMessage) -> [(name: String, value: String)] {
        var parameters = [
            ("Action", "Publish"), ("Version", "2010-03-31"), ("PhoneNumber", message.address), ("Message", message.text ?? message.subject ?? ""),
        ]
        var attributes = [("AWS.SNS.SMS.SMSType", "Transactional")]
        if let senderID { attributes.append(("AWS.SNS.SMS.SenderID", senderID)) }
        for (index, (name, value)) in attributes.enumerated() {
            let entry = "MessageAttributes.entry.\(index + 1)."
            parameters += [(entry + "Name", name), (entry + "Value.DataType", "String"), (entry + "Value.StringValue", value)]
        }
        return parameters.map { (name: $0.0, value: $0.1) }
    }

    static func judge(_ answer: TransferAnswer) -> SendResult {
        let text = String(decoding: answer.body, as: UTF8.self)
        if (200...299).contains(answer.status) { return .sent(reference: text.between("<MessageId>", "</MessageId>")) }
        let code = text.between("<Code>", "</Code>") ?? ""
        let reason = "SNS answered \(answer.status) \(code)" + (text.between("<Message>", "</Message>").map { ": " + $0.prefix(300) } ?? "")
        // What is wrong with this message; all else is of the account, the network or the moment.
        let final: Set<String> = ["InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid", "OptedOut", "ValidationError"]
        return final.contains(code) ? .refused(reason) : .later(reason, after: answer.retryAfter)
    }
}

extension String {
    /// What stands between the first such two.
    func between(_ start: String, _ end: String) -> String? {
        guard let from = self.firstRange(of: start), let to = self[from.upperBound...].firstRange(of: end) else { return nil }
        return String(self[from.upperBound..<to.lowerBound])
    }
}
