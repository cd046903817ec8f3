import Foundation
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix

@testable import carillon_loadtest

/// A server with the routes that the load generator uses, and with faults on demand.
///
/// Everything happens on one event loop. Creations are counted from 1 over all users.
final class FakeServer: Sendable {
    enum Fault: Sendable {
        /// The creation is never shown.
        case lose(Int)
        /// The creation is shown twice.
        case double(Int)
        /// The creation is shown after its user's next one.
        case swap(Int)
        /// The creation's `unread` is too high by this.
        case lie(Int, by: Int)
        /// The acknowledgement names another id than the stream.
        case wrongID(Int)
        /// The request of this creation gets 500 and creates nothing.
        case fail(Int)
        /// All streams break before this creation is shown; they may resume.
        case disconnect(Int)
        /// The user's streams get `resync` instead of the creation.
        case resync(Int)
        /// The creation's event, and what follows it on its stream, comes so much later; everything else goes on.
        case delay(Int, milliseconds: Int64)
        /// The list of the inbox lacks the creation.
        case hide(Int)
        /// The list of the inbox has the creation read when it is not, and unread when it is.
        case wrongState(Int)
        /// The answer and the events of this creation, and everything after, wait this long.
        case stall(Int, milliseconds: Int64)
        /// `GET …/count` answers one more than it is.
        case lyingCount
        /// The first so many streams get this status.
        case refuse(Int, status: Int)
    }

    enum Framing: Sendable, CaseIterable { case close, chunked }

    let port: Int
    private let group: MultiThreadedEventLoopGroup
    private let channel: any Channel
    private let inbox: NIOLoopBound<Inbox>
    /// When the stalled answer was held back and when it was let go, by the monotonic clock.
    let stalled = NIOLockedValueBox<(from: UInt64, to: UInt64)?>(nil)

    init(_ faults: [Fault] = [], framing: Framing = .close) async throws {
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        let inbox = try await loop.submit { [stalled] in NIOLoopBound(Inbox((faults, framing, stalled), loop), eventLoop: loop) }.get()
        self.inbox = inbox
        channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 512)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers([ByteToMessageHandler(HTTPRequestDecoder()), Connection(inbox.value)])
                }
            }
            .bind(host: "127.0.0.1", port: 0)
            .get()
        port = channel.localAddress!.port!
    }

    func stop() async throws {
        try await channel.close()
        try await group.shutdownGracefully()
    }

    /// The user's changes as a database would have them.
    func log(of user: String) async throws -> [LogRow] {
        try await group.any().submit { [inbox] in inbox.value.log[user] ?? [] }.get()
    }

    /// The users' inboxes.
    final class Inbox {
        struct User {
            var seq: UInt64 = 0
            var unread = 0
            var read: [String: Bool] = [:]
            var frames: [String] = []
            var held: [String] = []
            var streams: [Connection] = []
            /// What waits for the end of a delay.
            var delayed: [String]?
            /// Of the last change that named each.
            var seqs: [String: UInt64] = [:]
            var data: [String: String] = [:]
        }

        let faults: [Fault]
        let framing: Framing
        let stalled: NIOLockedValueBox<(from: UInt64, to: UInt64)?>
        let loop: any EventLoop
        var users: [String: User] = [:]
        var log: [String: [LogRow]] = [:]
        var models: [String: InboxModel] = [:]
        var created = 0
        var streamsAsked = 0
        var paused: [() -> Void]?

        init(_ settings: ([Fault], Framing, NIOLockedValueBox<(from: UInt64, to: UInt64)?>), _ loop: any EventLoop) {
            (faults, framing, stalled) = settings
            self.loop = loop
        }

        func has(_ match: (Fault) -> Bool) -> Bool { faults.contains(where: match) }

        func append(_ user: String, _ event: String?, _ data: String, id: String? = nil, show: Bool = true, unreadOff: Int = 0) {
            users[user]!.seq += 1
            let state = users[user]!
            let kind: LogRow.Kind = event == nil ? .created : event == "update" ? .updated : event == "delete" ? .deleted : .allRead
            var row = LogRow(seq: state.seq, kind: kind, id: id.flatMap { NotificationID($0) }, read: true, seen: true, unread: 0, unseen: 0)
            models[user, default: InboxModel()].apply(row)
            (row.unread, row.unseen) = (models[user]!.unread, models[user]!.unseen)
            log[user, default: []].append(row)
            func frame(_ unread: Int) -> String {
                (event.map { "event: \($0)\n" } ?? "") + "id: 1-\(state.seq)\ndata: {\(data),\"seq\":\(state.seq),\"unread\":\(unread)}\n\n"
            }
            if let id { users[user]!.seqs[id] = state.seq }
            users[user]!.frames.append(frame(state.unread))
            if show { write(user, frame(state.unread + unreadOff)) }
        }

        func write(_ user: String, _ frame: String) {
            // One who never connected has no streams.
            guard users[user] != nil else { return }
            guard users[user]!.delayed == nil else { return users[user]!.delayed!.append(frame) }
            for stream in users[user]!.streams { stream.writeBody(frame) }
        }

        func create(_ user: String, data: String) -> String {
            created += 1
            let number = created
            let id = "00000000-0000-7000-8000-" + String(repeating: "0", count: 12 - String(number).count) + String(number)
            users[user, default: User()].read[id] = false
            users[user]!.unread += 1
            let body = "\"id\":\"\(id)\",\"type\":\"SYSTEM\",\"title\":\"\\\"unread\\\":7\",\"data\":\(data),\"read\":false"
            var show = true
            var off = 0
            var after: [() -> Void] = []
            var ackID = id
            for fault in faults {
                switch fault {
                case .lose(number): show = false
                case .lie(number, let by): off = by
                case .double(number): after.append { self.write(user, self.users[user]!.frames.last!) }
                case .swap(number):
                    show = false
                    after.append { self.users[user]!.held.append(self.users[user]!.frames.last!) }
                case .wrongID(number): ackID = "11111111" + id.dropFirst(8)
                case .delay(number, let milliseconds):
                    users[user]!.delayed = []
                    loop.assumeIsolated().scheduleTask(in: .milliseconds(milliseconds)) {
                        let frames = self.users[user]!.delayed!
                        self.users[user]!.delayed = nil
                        for frame in frames { self.write(user, frame) }
                    }
                case .disconnect(number):
                    for name in users.keys { for stream in users[name]!.streams { stream.close() } }
                case .resync(number):
                    show = false
                    after.append {
                        let state = self.users[user]!
                        self.write(user, "event: resync\nid: 1-\(state.seq)\ndata: {\"last_event_id\":\"1-\(state.seq)\",\"unread\":\(state.unread)}\n\n")
                    }
                default: break
                }
            }
            users[user]!.data[id] = data
            let held = users[user]!.held
            users[user]!.held = []
            append(user, nil, body, id: id, show: show, unreadOff: off)
            for frame in held { write(user, frame) }
            for action in after { action() }
            return "{\"id\":\"\(ackID)\",\"user_id\":\"\(user)\",\"seq\":\(users[user]!.seq)}"
        }

        func change(_ user: String, _ id: String, delete: Bool) -> Bool {
            guard let read = users[user]?.read[id] else { return false }
            if !read { users[user]!.unread -= 1 }
            users[user]!.read[id] = delete ? nil : true
            if delete || !read { append(user, delete ? "delete" : "update", "\"id\":\"\(id)\",\"read\":true", id: id) }
            return true
        }

        func readAll(_ user: String) {
            guard users[user, default: User()].unread > 0 else { return }
            users[user]!.unread = 0
            for id in users[user]!.read.keys { users[user]!.read[id] = true }
            append(user, "read_all", "\"updated\":1")
        }

        /// Runs now, or once a stall is over.
        func run(_ action: @escaping () -> Void) {
            if paused == nil { action() } else { paused!.append(action) }
        }

        func stall(_ milliseconds: Int64) {
            paused = []
            let from = NIODeadline.now().uptimeNanoseconds
            loop.assumeIsolated().scheduleTask(in: .milliseconds(milliseconds)) {
                let waiting = self.paused!
                self.paused = nil
                self.stalled.withLockedValue { $0 = (from, NIODeadline.now().uptimeNanoseconds) }
                for action in waiting { action() }
            }
        }
    }

    final class Connection: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = ByteBuffer

        private let inbox: Inbox
        private var head: HTTPRequestHead?
        private var body = ""
        private var context: ChannelHandlerContext?
        private var user: String?

        init(_ inbox: Inbox) { self.inbox = inbox }

        func channelActive(context: ChannelHandlerContext) { self.context = context }
        func channelInactive(context: ChannelHandlerContext) {
            self.context = nil
            if let user { inbox.users[user]?.streams.removeAll { $0 === self } }
        }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch unwrapInboundIn(data) {
            case .head(let head):
                self.head = head
                body = ""
            case .body(let buffer): body += String(buffer: buffer)
            case .end:
                let (head, body) = (self.head!, self.body)
                inbox.run { self.handle(head, body) }
            }
        }

        func close() { context?.close(promise: nil) }

        private func write(_ text: String) {
            guard let context else { return }
            // In two pieces, so that parsers meet a cut.
            let half = text.utf8.count / 2
            let bytes = Array(text.utf8)
            context.write(wrapOutboundOut(ByteBuffer(bytes: bytes[..<half])), promise: nil)
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes[half...])), promise: nil)
        }

        func writeBody(_ text: String) {
            switch inbox.framing {
            case .close: write(text)
            case .chunked:
                let cut = text.utf8.count / 3
                let parts = [Array(text.utf8)[..<cut], Array(text.utf8)[cut...]]
                write(parts.map { String($0.count, radix: 16) + ";x=y\r\n" + String(decoding: $0, as: UTF8.self) + "\r\n" }.joined())
            }
        }

        private func answer(_ status: Int, _ body: String = "") {
            let length = status == 204 ? "" : "Content-Length: \(body.utf8.count)\r\n"
            write("HTTP/1.1 \(status) X\r\n\(length)\r\n\(body)")
        }

        private func handle(_ head: HTTPRequestHead, _ body: String) {
            let user = head.headers.first(name: "authorization").map { String($0.dropFirst(7)) } ?? ""
            let parts = head.uri.split(separator: "/").map(String.init)
            // As a rival has it: nchan's paths, and Pushpin's to publish.
            switch (head.method, parts.first ?? "") {
            case (.GET, "sub"): return channel(parts[1])
            case (.POST, "pub"): return published(to: parts[1], body)
            case (.POST, "publish"): return pushed(body)
            default: break
            }
            if head.uri.hasPrefix("/v1/notifications?") { return list(user, head.uri) }
            switch (head.method, parts.last ?? "") {
            case (.GET, "sse"): stream(user, head)
            case (.GET, "ready"): answer(200, "{\"version\":\"fake\"}")
            case (.GET, "count"):
                let state = inbox.users[user, default: .init()]
                let off = inbox.has { if case .lyingCount = $0 { true } else { false } } ? 1 : 0
                answer(200, "{\"unread\":\(state.unread + off),\"unseen\":0,\"by_type\":{\"x\":{\"unread\":9}},\"last_event_id\":\"1-\(state.seq)\"}")
            case (.POST, "notify"): notify(body)
            case (.POST, "trigger"): trigger(body)
            case (.POST, "sse"): direct(body)
            case (.PATCH, "read"): answer(inbox.change(user, parts[parts.count - 2], delete: false) ? 200 : 404, "{}")
            case (.DELETE, let id): answer(inbox.change(user, id, delete: true) ? 204 : 404)
            case (.POST, "read-all"):
                inbox.readAll(user)
                answer(200, "{}")
            default: answer(404, "{}")
            }
        }

        private func stream(_ user: String, _ head: HTTPRequestHead) {
            inbox.streamsAsked += 1
            for case .refuse(let first, let status) in inbox.faults where inbox.streamsAsked <= first { return answer(status, "no") }
            self.user = user
            var text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            if inbox.framing == .chunked { text += "Transfer-Encoding: chunked\r\n" }
            write(text + "\r\n")
            let state = inbox.users[user, default: .init()]
            let resume = head.headers.first(name: "last-event-id").map { Int($0.split(separator: "-")[1])! } ?? Int(state.seq)
            writeBody(
                ": hello\nretry: 20\nevent: ready\nid: 1-\(resume)\ndata: {\"connection_id\":\"c\",\"unread\":\(state.unread),\"last_event_id\":\"1-\(resume)\"}\n\n"
            )
            for frame in state.frames.dropFirst(resume) { writeBody(frame) }
            inbox.users[user, default: .init()].streams.append(self)
        }

        private func trigger(_ body: String) {
            let (names, data) = Self.parts(body)
            for name in names { _ = inbox.create(name, data: data + Self.call(body)) }
            answer(202, "{\"message\":\"sent\",\"job_id\":\"j\"}")
        }

        /// Direct events are counted like creations, so that they can be lost and doubled.
        private func direct(_ body: String) {
            let names = body.contains("\"broadcast\":true") ? Array(inbox.users.keys) : Self.parts(body).names
            let data = "data: {\"title\":\"x\",\"data\":\(Self.parts(body).data)\(Self.call(body)),\"ephemeral\":true}\n\n"
            inbox.created += 1
            let number = inbox.created
            let lost = inbox.has { if case .lose(number) = $0 { true } else { false } }
            let twice = inbox.has { if case .double(number) = $0 { true } else { false } }
            for name in names where !lost {
                inbox.write(name, data)
                if twice { inbox.write(name, data) }
            }
            answer(200, "{\"message\":\"sent\",\"edges\":1}")
        }

        /// Seven a page; the cursor holds what a query cannot.
        private func list(_ user: String, _ uri: String) {
            let state = inbox.users[user, default: .init()]
            func number(_ id: String) -> Int { Int(id.suffix(12))! }
            let ids = state.read.keys.sorted(by: >).filter { id in !inbox.has { if case .hide(number(id)) = $0 { true } else { false } } }
            let first = uri.range(of: "&after=%26").map { Int(uri[$0.upperBound...])! } ?? 0
            let page = ids.dropFirst(first).prefix(7).map { id in
                let lie = inbox.has { if case .wrongState(number(id)) = $0 { true } else { false } }
                return "{\"id\":\"\(id)\",\"seq\":\(state.seqs[id]!),\"read\":\(state.read[id]! != lie),\"data\":\(state.data[id]!)}"
            }
            let next = first + 7 < ids.count ? "\"&\(first + 7)\"" : "null"
            answer(200, "{\"data\":[\(page.joined(separator: ","))],\"page\":{\"next\":\(next),\"limit\":7},\"last_event_id\":\"1-\(state.seq)\"}")
        }

        private func channel(_ name: String) {
            user = name
            write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n\n")
            inbox.users[name, default: .init()].streams.append(self)
        }

        private func published(to channel: String, _ payload: String) {
            inbox.created += 1
            let number = inbox.created
            let event = "id: 1700000000:\(number)\ndata: \(payload)\n\n"
            for name in inbox.users.keys where name == channel && !inbox.has({ if case .lose(number) = $0 { true } else { false } }) {
                inbox.write(name, event)
                if inbox.has({ if case .double(number) = $0 { true } else { false } }) { inbox.write(name, event) }
            }
            answer(202, "queued")
        }

        private func pushed(_ body: String) {
            struct Push: Decodable {
                struct Item: Decodable {
                    var channel: String
                    var formats: [String: [String: String]]
                }
                var items: [Item]
            }
            guard let push = try? JSONDecoder().decode(Push.self, from: Data(body.utf8)), let content = push.items.first?.formats["http-stream"]?["content"] else {
                return answer(400)
            }
            published(to: push.items[0].channel, String(content.dropFirst(6).dropLast(2)))
        }

        private static func parts(_ body: String) -> (names: [String], data: String) {
            let list = body.split(separator: "\"user_ids\":[")
            let names = list.count < 2 ? [] : list[1].split(separator: "]")[0].split(separator: ",").map { String($0.dropFirst().dropLast()) }
            return (names, String(body.split(separator: "\"data\":")[1].split(separator: "}")[0]) + "}")
        }

        private static func call(_ body: String) -> String {
            ",\"rec_id\":\"" + body.split(separator: "\"rec_id\":\"")[1].split(separator: "\"")[0] + "\""
        }

        private func notify(_ body: String) {
            let names = body.split(separator: "\"user_ids\":[")[1].split(separator: "]")[0].split(separator: ",").map { String($0.dropFirst().dropLast()) }
            let data = String(body.split(separator: "\"data\":")[1].dropLast())
            for fault in inbox.faults {
                switch fault {
                case .fail(inbox.created + 1):
                    inbox.created += 1
                    return answer(500, "{}")
                case .stall(inbox.created + 1, let milliseconds) where inbox.stalled.withLockedValue({ $0 == nil }):
                    inbox.stall(milliseconds)
                    return inbox.run { self.notify(body) }
                default: break
                }
            }
            let acknowledgements = names.map { inbox.create($0, data: data) }
            answer(201, "{\"notifications\":[\(acknowledgements.joined(separator: ","))],\"skipped\":[]}")
        }
    }
}
