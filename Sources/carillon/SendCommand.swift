import ArgumentParser
import Delivery
import NotificationCore

/// `carillon send`: one message by one channel, at once and without the queue, so that an operator sees what a provider says.
struct Send: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "send", abstract: "Sends one message by a channel at once, to see that its settings work.", subcommands: [ToAddress.self, ToWebhook.self])

    struct ToAddress: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "message", abstract: "By e-mail, SMS or another channel of users.")

        @OptionGroup var configuration: ConfigurationFile
        @Option(help: "email, sms or telegram.") var channel: String
        @Option(help: "An address; may be given several times.") var to: [String]
        @Option(help: "Of an e-mail.") var subject: String?
        @Option(help: "The text.") var text: String?
        @Option(help: "Of an e-mail, beside the text.") var html: String?
        @Option(help: "A link for one-click unsubscription.") var unsubscribe: String?
        @Option(help: "Of the delivery; another one each time where it is not given.") var id: String?

        func run() async throws {
            let senders = try Senders(SenderSettings(self.configuration.settings()))
            guard let channel = DeliveryChannel(rawValue: self.channel), DeliveryChannel.ofUsers.contains(channel), channel != .inApp else {
                throw ValidationError("--channel must be email, sms or telegram")
            }
            guard let sender = senders.channels[channel] else { throw SettingError(self.channel, "has no settings here") }
            guard let user = UserID("carillon-send") else { throw ExitCode.failure }
            var isSent = true
            for address in self.to {
                let message = OutgoingMessage(
                    deliveryID: self.id ?? NotificationID.make().description, channel: channel, userID: user, notificationID: .make(), address: address, subject: self.subject,
                    text: self.text, html: self.html, unsubscribeURL: self.unsubscribe)
                let result = await sender.send(message)
                let (state, said): (String, String?) =
                    switch result {
                    case .sent(let reference): ("sent", reference)
                    case .delivered(let reference): ("delivered", reference)
                    case .refused(let reason): ("refused", reason)
                    case .later(let reason, _), .notSent(let reason): ("later", reason)
                    }
                if state != "sent", state != "delivered" { isSent = false }
                var members: [(name: String, value: JSONValue)] = [("to", .string(address)), ("result", .string(state)), ("said", said.map { .string($0) } ?? .null)]
                if case .later(_, let pause?) = result { members.append(("after_seconds", .number(String(pause.components.seconds)))) }
                answer(String(decoding: JSONValue.object(members).encoded, as: UTF8.self))
            }
            await senders.close()
            if !isSent { throw ExitCode.failure }
        }
    }

    struct ToWebhook: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "webhook", abstract: "To a URL, signed.")

        @OptionGroup var configuration: ConfigurationFile
        @Option(help: "Where it goes.") var url: String
        @Option(help: "Signs it; may be given again for those it replaced.") var secret: [String]
        @Option(help: "The event's type.") var type = "test"
        @Option(help: "JSON.") var data = "{}"

        func run() async throws {
            let senders = try Senders(SenderSettings(self.configuration.settings()))
            guard (try? JSONParser.parse(Array(self.data.utf8))) != nil else { throw ValidationError("--data must be JSON") }
            let attempt = await senders.webhooks.call(
                WebhookCall(id: NotificationID.make().description, url: self.url, secrets: self.secret, type: self.type, timestamp: .now(), data: Array(self.data.utf8)))
            await senders.close()
            var (state, said, pause) = ("accepted", String?.none, Duration?.none)
            switch attempt.verdict {
            case .accepted: break
            case .gone: state = "gone"
            case .failed(let reason, let after): (state, said, pause) = ("failed", reason, after)
            case .notMade(let reason): (state, said) = ("failed", reason)
            }
            answer(
                String(
                    decoding: JSONValue.object([
                        ("url", .string(self.url)), ("result", .string(state)), ("said", said.map { .string($0) } ?? .null),
                        ("status", attempt.status.map { .number(String($0)) } ?? .null), ("after_seconds", pause.map { .number(String($0.components.seconds)) } ?? .null),
                        ("answer", .string(String(decoding: attempt.answer, as: UTF8.self))),
                    ]).encoded, as: UTF8.self))
            if state != "accepted" { throw ExitCode.failure }
        }
    }
}
