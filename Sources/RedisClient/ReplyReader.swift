internal import CHiredis
internal import NIOCore

/// The reply parser of hiredis: bytes in, replies out. Owns the C parser and frees it.
struct ReplyReader: ~Copyable {
    /// What is fed at once. After each reply the parser moves what it has not parsed yet to the front of its buffer, so a short buffer is
    /// the difference between linear and quadratic work on a read of many small replies.
    static let slice = 8 * 1024

    private let reader: UnsafeMutablePointer<redisReader>
    private let maximumReplyBytes: Int
    private var unparsed = 0

    /// - Parameter maximumReplyBytes: one reply may take about this much on the wire; beyond, it is a protocol violation.
    init(maximumReplyBytes: Int) {
        guard let reader = redisReaderCreate() else { fatalError("no memory for a reply parser") }
        self.reader = reader
        self.maximumReplyBytes = maximumReplyBytes
    }

    deinit {
        redisReaderFree(reader)
    }

    /// Parses `bytes` after all that came before, and hands over each reply that is complete. The view is valid within `body` only.
    /// After an error the parser is unusable: close the connection.
    mutating func feed(_ bytes: ByteBuffer, _ body: (ReplyView) throws(RedisError) -> Void) throws(RedisError) {
        var rest = bytes
        while let slice = rest.readSlice(length: min(rest.readableBytes, Self.slice)), slice.readableBytes > 0 {
            let status = slice.withUnsafeReadableBytes { redisReaderFeed(reader, $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count) }
            guard status == REDIS_OK else { throw violation() }
            unparsed += slice.readableBytes
            while try next(body) {}
            guard unparsed <= maximumReplyBytes else { throw .violation("a reply beyond the bound on its size") }
        }
    }

    private mutating func next(_ body: (ReplyView) throws(RedisError) -> Void) throws(RedisError) -> Bool {
        var object: UnsafeMutableRawPointer?
        guard redisReaderGetReply(reader, &object) == REDIS_OK else { throw violation() }
        guard let object else { return false }
        defer { freeReplyObject(object) }
        unparsed = 0
        try body(ReplyView(UnsafePointer(object.assumingMemoryBound(to: redisReply.self))))
        return true
    }

    private func violation() -> RedisError {
        let text = withUnsafeBytes(of: &reader.pointee.errstr) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return .violation("not the Redis protocol (\(text))")
    }
}
