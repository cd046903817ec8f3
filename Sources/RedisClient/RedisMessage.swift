public import NIOCore

/// One published message.
///
/// Channel and payload are slices of one small allocation made for this message: to look a channel up costs no `String`, and to keep or
/// write the payload costs no copy.
public struct RedisMessage: Sendable, Hashable {
    /// The channel's name as bytes. `ByteBuffer` hashes and compares by its bytes, so it is a dictionary's key as it is.
    public let channel: ByteBuffer
    public let payload: ByteBuffer

    public init(channel: ByteBuffer, payload: ByteBuffer) {
        self.channel = channel
        self.payload = payload
    }
}

extension RedisMessage {
    init(channel: ReplyView, payload: ReplyView) {
        self = channel.withBytes { channel in
            payload.withBytes { payload in
                var both = ByteBufferAllocator().buffer(capacity: channel.count + payload.count)
                both.writeBytes(channel)
                both.writeBytes(payload)
                guard let first = both.readSlice(length: channel.count) else { preconditionFailure("a buffer without what was written to it") }
                return RedisMessage(channel: first, payload: both)
            }
        }
    }
}
