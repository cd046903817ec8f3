import CEpoll
import Foundation
import NIOCore

/// A TCP connection on a ``SocketLoop``, from connecting to its end. What becomes of its bytes is a subclass's matter.
///
/// It holds a descriptor and what the socket would not take yet, and no buffer to read into: that is the loop's.
class Connection {
    private enum State { case idle, connecting, open, closed }

    let loop: SocketLoop
    private var state = State.idle
    private var descriptor: Int32 = -1
    /// What the socket had no room for. The owner bounds it: a connection carries one request at a time.
    private var unsent: [UInt8] = []
    /// Why it ended, or is about to, if that is known.
    private(set) var failure: String?
    /// A connection that reads by itself, with ``readOnce(_:)``, is not read when something comes.
    var readsByItself = false

    init(loop: SocketLoop) {
        self.loop = loop
    }

    var isConnecting: Bool { state == .connecting }
    var isOpen: Bool { state == .open }

    // MARK: For subclasses to say

    /// It is connected.
    func opened() {}
    /// What one read brought, and when that returned. The bytes are gone after the call.
    func received(_ bytes: UnsafeRawBufferPointer, at now: UInt64) {}
    /// It is over, from whichever side; told once, and never from within another call of this class.
    func ended() {}

    // MARK: What can be done with it

    /// Connects from `source`, or from an address of the kernel's choice, with a receive buffer of so many bytes or the kernel's.
    ///
    /// Whatever fails here is told by ``ended()`` with the failure "connect failed".
    func connect(to address: SocketAddress, from source: SocketAddress? = nil, receiveBuffer: Int32? = nil) {
        precondition(state == .idle, "a connection connects once")
        state = .connecting
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        descriptor = socket(Int32(address.protocol.rawValue), kind, 0)
        guard descriptor >= 0 else { return fail("connect failed") }
        set(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        if let receiveBuffer { set(SOL_SOCKET, SO_RCVBUF, receiveBuffer) }
        if let source {
            // The port is chosen at connect, when the other end is known too: else one address would have 28,000 ports for all targets.
            set(Int32(IPPROTO_IP), IP_BIND_ADDRESS_NO_PORT, 1)
            guard source.withSockAddr({ bind(descriptor, $0, socklen_t($1)) }) == 0 else { return fail("connect failed") }
        }
        let result = address.withSockAddr { Foundation.connect(descriptor, $0, socklen_t($1)) }
        guard result == 0 || errno == EINPROGRESS, loop.watch(self, descriptor) else { return fail("connect failed") }
    }

    /// Sends, at once as far as the socket takes it. Nothing happens on a connection that is not open.
    func send(_ bytes: UnsafeRawBufferPointer) {
        guard state == .open else { return }
        unsent.append(contentsOf: unsent.isEmpty ? UnsafeRawBufferPointer(rebasing: bytes[write(bytes)...]) : bytes)
    }

    /// Reads up to so many bytes, if any are there.
    func readOnce(_ most: Int) {
        loop.withBuffer { _ = read(UnsafeMutableRawBufferPointer(rebasing: $0[..<most])) }
    }

    /// Reads all there is, and from now on what comes.
    func readAll() {
        readsByItself = false
        loop.withBuffer { drain($0, isOver: true) }
    }

    func fail(_ reason: String) {
        if failure == nil { failure = reason }
        close()
    }

    func close() {
        guard state != .closed else { return }
        state = .closed
        if descriptor >= 0 { loop.close(descriptor) }
        unsent = []
        loop.assumeIsolated().execute { self.ended() }
    }

    // MARK: What the loop tells

    func isReady(_ events: UInt32, _ buffer: UnsafeMutableRawBufferPointer) {
        if state == .connecting {
            var error: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length) == 0, error == 0 else { return fail("connect failed") }
            guard events & EPOLLOUT.rawValue != 0 else { return }
            state = .open
            opened()
        }
        if events & EPOLLOUT.rawValue != 0, !unsent.isEmpty {
            let sent = unsent.withUnsafeBytes(write)
            unsent.removeFirst(min(sent, unsent.count))
        }
        let isOver = events & (EPOLLRDHUP.rawValue | EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0
        if !readsByItself, isOver || events & EPOLLIN.rawValue != 0 { drain(buffer, isOver: isOver) }
    }

    /// Reads until nothing is left. A read that does not fill the buffer has emptied the socket (epoll(7)), and saves the one that would say so;
    /// only the other side's end still lies behind it.
    private func drain(_ buffer: UnsafeMutableRawBufferPointer, isOver: Bool) {
        while state == .open, let count = read(buffer), isOver || count == buffer.count {}
    }

    /// How many bytes were read and handed on; nil when nothing was there, or the connection is over.
    @inline(__always)
    private func read(_ buffer: UnsafeMutableRawBufferPointer) -> Int? {
        guard state == .open else { return nil }
        let count = Foundation.read(descriptor, buffer.baseAddress, buffer.count)
        let now = monotonicNow()
        if count > 0 {
            received(UnsafeRawBufferPointer(rebasing: buffer[..<count]), at: now)
            return count
        }
        if count == 0 { close() } else if errno != EAGAIN { fail("connection lost") }
        return nil
    }

    /// How many bytes the socket took.
    private func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        let count = Foundation.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
        if count < 0, errno != EAGAIN { fail("connection lost") }
        return max(0, count)
    }

    private func set(_ level: Int32, _ name: Int32, _ value: Int32) {
        var value = value
        setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
    }
}
