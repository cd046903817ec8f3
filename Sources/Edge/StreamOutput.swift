#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif
import NIOCore

/// Answers how many of the bytes the socket took; -1: none, for whatever reason.
private func transmit(_ bytes: UnsafeRawBufferPointer, to socket: CInt) -> Int {
    #if canImport(Darwin)
    // The channel has set SO_NOSIGPIPE.
    send(socket, bytes.baseAddress, bytes.count, CInt(MSG_DONTWAIT))
    #else
    send(socket, bytes.baseAddress, bytes.count, CInt(MSG_DONTWAIT) | CInt(MSG_NOSIGNAL))
    #endif
}

/// The way of what a stream writes into its socket.
///
/// One event for one stream is the usual case, thousands of times in a turn of the loop, and there the way through a channel's pipeline and its queue of
/// writes costs two thirds of what the `send` itself does. So what is written alone in a turn goes into the socket at once (send(2)); what the socket does
/// not take, and whatever else a turn writes, goes to the channel, whose queue it joins, and which everything goes to until that queue is empty.
///
/// Each method touches the state for a moment only: a channel that is written to or flushed may call back before it returns.
extension StreamConnection {
    struct Output {
        /// The channel's socket; -1: there is none, and everything goes to the channel. It may be somebody else's once the channel is closed, of which the
        /// channel tells its handlers before anything else happens on its loop.
        var socket: CInt = -1
        /// The first write of a turn. While there is one, nothing waits in the channel.
        var held: ByteBuffer?
        /// Whether anything may wait in the channel.
        var isQueued = true
    }

    /// From now on nobody else writes to the channel before ``handOver()``.
    final func takeSocket() {
        let socket = try? self.channel?.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { $0 }
        self.output.socket = socket ?? -1
    }

    /// Without flushing.
    final func put(_ bytes: ByteBuffer) {
        if self.output.held == nil, self.isDirect {
            self.output.held = bytes
        } else {
            self.handOver()
            self.channel?.write(bytes, promise: nil)
        }
    }

    /// At the end of the turn.
    final func push() {
        guard let bytes = self.output.held else {
            self.channel?.flush()
            return
        }
        self.output.held = nil
        self.transmitOrQueue(bytes)
    }

    /// Into the socket before anything else of this turn. False when something else is to come before it: then nothing was written.
    final func transmitNow(_ bytes: ByteBuffer) -> Bool {
        guard self.output.held == nil, self.isDirect else { return false }
        self.transmitOrQueue(bytes)
        return true
    }

    private func transmitOrQueue(_ bytes: ByteBuffer) {
        let socket = self.output.socket
        let sent = bytes.withUnsafeReadableBytes { transmit($0, to: socket) }
        if sent == bytes.readableBytes { return }
        // What the socket refuses for good it also refuses the channel, which closes then.
        var rest = bytes
        rest.moveReaderIndex(forwardBy: max(0, sent))
        self.output.isQueued = true
        self.channel?.writeAndFlush(rest, promise: nil)
    }

    /// Whether there is a socket, and nothing in the channel that goes before.
    private var isDirect: Bool {
        if self.output.socket < 0 { return false }
        if self.output.isQueued { self.output.isQueued = (try? self.channel?.syncOptions?.getOption(.bufferedWritableBytes)) != 0 }
        return !self.output.isQueued
    }

    /// The socket is about to be somebody else's, or is so already.
    final func leaveSocket() {
        self.output.socket = -1
        self.handOver()
    }

    /// Everything is the channel's, in order: others may write to it.
    final func handOver() {
        self.output.isQueued = true
        guard let bytes = self.output.held else { return }
        self.output.held = nil
        self.channel?.write(bytes, promise: nil)
    }
}
