import NotificationCore

/// The channel `telegram`: the method `sendMessage` of the Bot API.
public struct TelegramSender: ChannelSender {
    /// In UTF-16 units, of which no character takes more than bytes.
    private static let textBound = 4096

    private let engine: TransferEngine
    private let base: String

    public init(engine: TransferEngine, token: String, url: ProviderURL? = nil) throws(SenderSettingError) {
        let isGood = { (byte: UInt8) in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || ":_-".utf8.contains(byte)
        }
        guard !token.isEmpty, token.utf8.allSatisfy(isGood) else { throw SenderSettingError("must be a bot's token: 123456:letters and digits") }
        self.engine = engine
        if let url { self.base = url.text + "/bot" + token } else { self.base = try ProviderURL("https://api.telegram.org").text + "/bot" + token }
    }

    public func send(_ message: OutgoingMessage) async -> SendResult {
        let parts = [message.subject, message.text].compactMap { $0 }.filter { !$0.isEmpty }
        var text = ""
        var units = 0
        for scalar in parts.joined(separator: "\n\n").unicodeScalars {
            units += scalar.utf16.count
            if units > Self.textBound { break }
            text.unicodeScalars.append(scalar)
        }
        let chat: JSONValue = Int64(message.address) == nil ? .string(message.address) : .number(message.address)
        let body = JSONValue.object([("chat_id", chat), ("text", .string(text))]).encoded
        let request = TransferRequest(
            url: self.base + "/sendMessage", kind: .post(headers: ["Content-Type: application/json"], body: body), timeLimit: .seconds(20), keptBytes: 8192)
        do throws(TransferError) {
            return Self.judge(try await self.engine.perform(request))
        } catch {
            return .unanswered(error)
        }
    }

    static func judge(_ answer: TransferAnswer) -> SendResult {
        // Nil: an answer of something in between.
        let json = try? JSONParser.parse(answer.body)
        if (200...299).contains(answer.status) {
            guard case .number(let id)? = json?["result"]?["message_id"] else { return .sent(reference: nil) }
            return .sent(reference: id)
        }
        let reason = "Telegram answered \(answer.status)" + (json?["description"]?.string.map { ": " + $0.prefix(300) } ?? "")
        switch answer.status {
        // The chat is not there, or its user has blocked the bot.
        case 400, 403: return .refused(reason)
        case 429:
            guard case .number(let digits)? = json?["parameters"]?["retry_after"], let seconds = Int64(digits), (0...86_400).contains(seconds) else {
                return .later(reason, after: answer.retryAfter)
            }
            return .later(reason, after: .seconds(seconds))
        default: return .later(reason, after: answer.retryAfter)
        }
    }
}
