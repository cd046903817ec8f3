import NIOCore
import NotificationBus
import NotificationCore

/// The stream of a session of Socket.IO: each event is one that the server emits.
///
/// Unchecked: it is touched on its event loop only; closures that carry it run there.
final class SocketIOConnection: StreamConnection, @unchecked Sendable {
    private let session: SocketIOSession

    init(_ request: StreamRequest, lease: Lease, session: SocketIOSession) {
        self.session = session
        super.init(request, lease: lease, loop: session.loop, channel: nil, head: ByteBuffer())
    }

    override var transport: Transport { .socketIO }

    override func send(_ blocks: ByteBuffer) {
        self.session.say(self.loop.translations.translate(blocks, into: self.session.form).bytes)
        self.touched()
    }

    override func takesMore() -> Bool {
        if self.isWritable { return true }
        self.session.flush()
        return self.isWritable
    }

    override var isWritable: Bool { self.session.unsentBytes < self.loop.edge.configuration.unsentBytes }
    override func flush() { self.session.flush() }

    // The session has pings of its own.
    override func ping() { self.lastWrite = self.loop.now }

    override func writeHead() {
        guard self.head != nil else { return }
        self.head = nil
        self.session.say(packet: SocketPacket.connected(id: self.id.description))
    }

    override func end(_ reason: StreamFrame.CloseReason, retry: Int, _ channel: (any Channel)?) { self.session.streamEnded(reason, retry: retry) }
}
