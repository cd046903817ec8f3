import NIOCore

/// A request that is due.
struct DueRequest {
    enum Kind {
        /// For this many users from this one on, in the order that the loop sends to them.
        case notify(start: Int, call: CallNumber)
        case read(UserState, NotificationID)
        case delete(UserState, NotificationID)
        case readAll(UserState)
        case count(UserState)
        /// A page of the inbox: the first one, or the one after this cursor.
        case inbox(UserState, after: String?)
    }

    var isNotify: Bool {
        if case .notify = kind { true } else { false }
    }

    /// Asked at the end, when nothing is measured any more.
    var isQuestion: Bool {
        switch kind {
        case .count, .inbox: true
        case .notify, .read, .delete, .readAll: false
        }
    }

    let kind: Kind
    let due: UInt64
    /// Where the oracle's evidence about it stands: for an operation, among those of its user.
    var operation = 0
}

/// One keep-alive connection of the pool, with one request in flight at most.
final class RequestConnection: Connection {
    /// Bytes of an answer's body.
    private static let bodyLimit = 16 << 20

    let target: Target
    private let load: LoadLoop
    private(set) var request: DueRequest?
    /// When the request in flight was sent, and before the first one, when connecting began.
    private(set) var since = monotonicNow()
    private var http = HTTPResponseParser()
    private var head: HTTPHead?
    private var body: [UInt8] = []
    private var wasOpen = false

    init(target: Target, load: LoadLoop) {
        self.target = target
        self.load = load
        super.init(loop: load.eventLoop)
    }

    override func opened() {
        wasOpen = true
        load.connectionOpened(self)
    }

    func send(_ request: DueRequest, _ bytes: ByteBuffer, at now: UInt64) {
        precondition(self.request == nil, "a connection carries one request at a time")
        self.request = request
        since = now
        bytes.withUnsafeReadableBytes(send)
    }

    override func received(_ bytes: UnsafeRawBufferPointer, at now: UInt64) {
        do throws(LoadtestError) {
            try http.feed(bytes) { part throws(LoadtestError) in try take(part, at: now) }
        } catch {
            fail("malformed")
        }
    }

    override func ended() {
        guard wasOpen else { return load.connectionRefused(self) }
        // An answer delimited by close is complete now.
        if request != nil, failure == nil, let head, http.isCompleteAtClose() { answer(head, at: monotonicNow()) }
        let unanswered = request
        request = nil
        load.connectionClosed(self, unanswered: unanswered, reason: failure ?? "connection lost")
    }

    private func take(_ part: HTTPResponseParser.Part, at now: UInt64) throws(LoadtestError) {
        switch part {
        case .head(let head):
            guard request != nil, failure == nil else { throw .malformed("An answer came without a request") }
            self.head = head
            body.removeAll(keepingCapacity: true)
        case .body(let bytes):
            guard body.count + bytes.count <= Self.bodyLimit else { throw .malformed("An answer is longer than 16 MiB") }
            body.append(contentsOf: bytes)
        case .end:
            if let head { answer(head, at: now) }
        }
    }

    private func answer(_ head: HTTPHead, at now: UInt64) {
        guard let request else { return }
        self.request = nil
        self.head = nil
        body.withUnsafeBytes { load.answered(request, status: head.status, body: $0, at: now) }
        if head.keepAlive, isOpen { load.connectionFree(self) } else { close() }
    }
}
