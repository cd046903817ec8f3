import NIOCore
import NIOPosix
import NotificationCore
import Synchronization
import Testing

@testable import Delivery

/// A mail server that answers at once, but for its word on a mail that it has.
private final class MailServerThatWaits: Sendable {
    private let mails = Mutex(0)
    let port: Int

    /// Mails that it has had to their end.
    var count: Int { self.mails.withLock { $0 } }

    /// - Parameter wait: nil: it says nothing ever.
    static func run(_ wait: TimeAmount?, _ body: (MailServerThatWaits) async throws -> Void) async throws {
        let box = Mutex<MailServerThatWaits?>(nil)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let server = box.withLock({ $0 }) else { throw ChannelError.operationUnsupported }
                    try channel.pipeline.syncOperations.addHandler(Dialogue(server, wait))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let server = MailServerThatWaits(port: listener.localAddress?.port ?? 0)
        box.withLock { $0 = server }
        let result: Result<Void, any Error>
        do { result = .success(try await body(server)) } catch { result = .failure(error) }
        try await listener.close()
        try result.get()
    }

    private init(port: Int) { self.port = port }

    private final class Dialogue: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let server: MailServerThatWaits
        private let wait: TimeAmount?
        private var text = ""
        private var isData = false

        init(_ server: MailServerThatWaits, _ wait: TimeAmount?) {
            self.server = server
            self.wait = wait
        }

        func channelActive(context: ChannelHandlerContext) { self.say("220 here", context) }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            self.text += String(buffer: Self.unwrapInboundIn(data))
            while let end = self.text.firstRange(of: "\r\n") {
                let line = String(self.text[..<end.lowerBound])
                self.text.removeSubrange(..<end.upperBound)
                self.take(line, context)
            }
        }

        private func take(_ line: String, _ context: ChannelHandlerContext) {
            if self.isData {
                guard line == "." else { return }
                self.isData = false
                self.server.mails.withLock { $0 += 1 }
                guard let wait else { return }
                let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
                context.eventLoop.scheduleTask(in: wait) { bound.value.0.say("250 taken", bound.value.1) }
                return
            }
            if line == "DATA" {
                self.isData = true
                self.say("354 go on", context)
            } else {
                self.say(line == "QUIT" ? "221 goodbye" : "250 fine", context)
            }
        }

        private func say(_ line: String, _ context: ChannelHandlerContext) {
            context.writeAndFlush(NIOAny(ByteBuffer(string: line + "\r\n")), promise: nil)
        }
    }
}

@Suite("a mail server's last word", .timeLimit(.minutes(1)))
struct LastWordTests {
    private func sender(_ server: MailServerThatWaits, _ engines: MailEngines, _ limit: Duration, last: Duration) throws -> EmailSender {
        EmailSender(
            engines: engines, server: try MailServer(url: "smtp://127.0.0.1:\(server.port)?starttls=none"), from: try #require(MailSender("a@example.org")),
            timeLimit: limit, lastWordLimit: last)
    }

    private func message() -> OutgoingMessage {
        OutgoingMessage(
            deliveryID: NotificationID.make().description, channel: .email, userID: UserID("u")!, notificationID: .make(), customerID: nil, address: "b@example.org",
            subject: "Hello", text: "Hello", html: nil, urgent: false)
    }

    @Test("it may take longer than all that was before, and the mail goes once")
    func late() async throws {
        try await MailServerThatWaits.run(.seconds(5)) { server in
            let engines = MailEngines(TransferEngine.Settings())
            guard case .sent = await (try self.sender(server, engines, .seconds(3), last: .seconds(30))).send(self.message()) else {
                return #expect(Bool(false), "not sent")
            }
            #expect(server.count == 1)
            await engines.close()
        }
    }

    @Test("without it the mail is tried again, once its time is over")
    func never() async throws {
        try await MailServerThatWaits.run(nil) { server in
            let engines = MailEngines(TransferEngine.Settings())
            guard case .later(let error, _) = await (try self.sender(server, engines, .seconds(30), last: .seconds(1))).send(self.message()) else {
                return #expect(Bool(false), "not later")
            }
            #expect(error.hasPrefix("no answer within"))
            #expect(server.count == 1)
            await engines.close()
        }
    }

    @Test("who waits for it is given up by a shutdown, and it is no attempt")
    func shutdown() async throws {
        try await MailServerThatWaits.run(nil) { server in
            let engines = MailEngines(TransferEngine.Settings(), bound: 1)
            let sender = try self.sender(server, engines, .seconds(30), last: .seconds(600))
            let sending = Task { await sender.send(self.message()) }
            while server.count == 0 { await Task.yield() }
            // Behind it, for its engine.
            let waiting = Task { await sender.send(self.message()) }
            let cancelled = Task { await sender.send(self.message()) }
            cancelled.cancel()
            guard case .notSent = await cancelled.value else { return #expect(Bool(false), "cancelled and sent") }
            await engines.close()
            guard case .notSent = await sending.value, case .notSent = await waiting.value else { return #expect(Bool(false), "given up and counted") }
            #expect(server.count == 1)
        }
    }

    @Test("mails behind those that wait for it have their own time when it is their turn")
    func turns() async throws {
        try await MailServerThatWaits.run(.milliseconds(1000)) { server in
            let engines = MailEngines(TransferEngine.Settings(), bound: 1)
            let sender = try self.sender(server, engines, .seconds(3), last: .seconds(10))
            let results = await withTaskGroup(of: SendResult.self) { group in
                for _ in 0..<4 { group.addTask { await sender.send(self.message()) } }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(results.count { if case .sent = $0 { true } else { false } } == 4)
            #expect(server.count == 4 && engines.transfers == 0)
            await engines.close()
        }
    }
}
