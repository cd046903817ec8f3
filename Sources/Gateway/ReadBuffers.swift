import NIOCore

/// How much a connection reads at a time.
///
/// A channel keeps its first buffer for as long as it lives, though a stream never reads again after its request: so that one is very small, and
/// the later ones are given back after each read. It needs a channel that reads once a turn (`maxMessagesPerRead` 1): those that read more often keep several.
struct ReadBuffers: RecvByteBufferAllocator {
    /// Bytes of the buffer that stays: what it holds is the start of the first request.
    static let first = 64
    static let least = 2048
    static let most = 65_536

    private var size = Self.first

    /// Nil: no buffer is used twice.
    func nextBufferSize() -> Int? { nil }

    func buffer(allocator: ByteBufferAllocator) -> ByteBuffer { allocator.buffer(capacity: self.size) }

    /// A full buffer says that there is more.
    mutating func record(actualReadBytes: Int) -> Bool {
        if actualReadBytes >= self.size {
            self.size = min(max(self.size * 2, Self.least), Self.most)
        } else if self.size > Self.least, actualReadBytes < self.size / 4 {
            self.size /= 2
        } else if self.size < Self.least {
            self.size = Self.least
        }
        // "May grow" is what makes the channel ask for a new one.
        return true
    }
}
