import Gateway
import NIOCore
import NIOHTTP1
import NotificationBus
import NotificationCore

/// A stream for the length of one request: it collects what there is and ends with the first turn of its loop that brought something, or
/// when its time is over. It has no channel of its own; the connection that carries the request may carry others.
///
/// Unchecked: it is touched on its event loop only; closures that carry it run there.
final class PollConnection: StreamConnection, @unchecked Sendable {
    /// Past these the rest is for the next request.
    static let eventBound = 1000
    static let byteBound = 1024 * 1024

    private var events = ByteBuffer()
    private var count = 0
    /// Nil once it is answered.
    private var answer: EventLoopPromise<GatewayResponse>?
    private let patience: Int64
    private let asked: String
    private let requestID: String
    private let cookie: String?
    private var deadline: Scheduled<Void>?

    /// - Parameters:
    ///   - patience: seconds.
    ///   - asked: the position as it was asked for, for an answer before it was looked at.
    init(
        _ request: StreamRequest, lease: Lease, loop: EdgeLoop, patience: Int64, asked: String, requestID: String, cookie: String?,
        answer: EventLoopPromise<GatewayResponse>
    ) {
        self.patience = patience
        self.asked = asked
        self.requestID = requestID
        self.cookie = cookie
        self.answer = answer
        super.init(request, lease: lease, loop: loop, channel: nil, head: ByteBuffer())
        // It ends long before most tokens; a client that would be warned in each answer would ask without a pause.
        self.expiry.isSilent = true
        if patience > 0 {
            self.deadline = loop.eventLoop.scheduleTask(in: .seconds(patience)) { self.finish() }
        }
    }

    override var transport: Transport { .poll }

    override func send(_ blocks: ByteBuffer) {
        let translated = self.loop.translations.translate(blocks, into: .list)
        if translated.events > 0 {
            if self.count > 0 { self.events.writeInteger(UInt8(ascii: ",")) }
            self.events.writeImmutableBuffer(translated.bytes)
            self.count += translated.events
        }
        self.touched()
    }

    override func takesMore() -> Bool { self.count < Self.eventBound && self.events.readableBytes < Self.byteBound }
    override var isWritable: Bool { false }
    override func writeHead() { self.head = nil }
    override func ping() { self.lastWrite = self.loop.now }

    override func flush() {
        // What is replayed comes in portions: it waits for the last one.
        if self.count > 0, self.phase == .live || self.isBlocked { self.finish() }
    }

    override func becameLive() {
        if self.patience == 0 { self.finish() } else { self.touched() }
    }

    override func end(_ reason: StreamFrame.CloseReason, retry: Int, _ channel: (any Channel)?) {
        if reason == .disconnected, self.cursor.epoch == 0 {
            self.succeed(Problem.unavailable("This node cannot read the log now; try again.").response(instance: self.requestID))
        } else {
            self.succeed(self.response)
        }
    }

    /// Answers with what there is, and ends.
    func finish() {
        self.loop.closed(self)
        self.succeed(self.response)
    }

    /// The client is gone.
    func abandon() {
        self.loop.closed(self)
        self.succeed(self.response)
    }

    private func succeed(_ response: GatewayResponse) {
        self.deadline?.cancel()
        self.deadline = nil
        let answer = self.answer
        self.answer = nil
        answer?.succeed(response)
    }

    private var response: GatewayResponse {
        var body = ByteBuffer(string: "{\"events\":[")
        body.writeImmutableBuffer(self.events)
        body.writeString("],\"last_event_id\":")
        let position = self.cursor.epoch == 0 ? self.asked : self.cursor.description
        body.writeBytes(JSONValue.string(position).encoded)
        body.writeString("}")
        return PollRoute.response(body, cookie: self.cookie)
    }
}
