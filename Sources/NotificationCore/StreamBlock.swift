/// One block of an event stream, taken apart, for transports that say the same in another form. It reads what ``StreamFrame`` writes and
/// nothing else: a field stands once, `data` is one line.
///
/// The fields point into the bytes that were given and must not leave the closure that they are given to.
public struct StreamBlock {
    /// Empty: a new notification, or, without data, a position alone.
    public var event = UnsafeRawBufferPointer(start: nil, count: 0)
    public var id: UnsafeRawBufferPointer?
    public var data: UnsafeRawBufferPointer?
    /// Milliseconds, in decimal digits.
    public var retry: UnsafeRawBufferPointer?

    /// Calls `body` with each block in order. Comments are no blocks.
    public static func forEach(in bytes: UnsafeRawBufferPointer, _ body: (StreamBlock) -> Void) {
        var block = StreamBlock()
        var isEmpty = true
        var start = 0
        for end in bytes.indices where bytes[end] == UInt8(ascii: "\n") {
            let line = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
            start = end + 1
            if line.isEmpty {
                if !isEmpty { body(block) }
                block = StreamBlock()
                isEmpty = true
                continue
            }
            guard let (field, value) = Self.split(line) else { continue }
            switch field {
            case UInt8(ascii: "e"): block.event = value
            case UInt8(ascii: "i"): block.id = value
            case UInt8(ascii: "d"): block.data = value
            case UInt8(ascii: "r"): block.retry = value
            default: continue
            }
            isEmpty = false
        }
    }

    /// The first letter of the field's name, which tells them apart, and its value. Nil for a comment.
    private static func split(_ line: UnsafeRawBufferPointer) -> (UInt8, UnsafeRawBufferPointer)? {
        guard let first = line.first, first != UInt8(ascii: ":"), let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return nil }
        var start = colon + 1
        if start < line.count, line[start] == UInt8(ascii: " ") { start += 1 }
        return (first, UnsafeRawBufferPointer(rebasing: line[start...]))
    }
}
