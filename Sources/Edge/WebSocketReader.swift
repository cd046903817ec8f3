import NIOCore

/// Reads what a client sends on a WebSocket (RFC 6455, 5), in whatever pieces it comes. No I/O. Nothing is kept beyond one message, whose
/// size is bounded; what breaks the protocol ends it with the code to close with.
struct WebSocketReader {
    enum Message: Equatable {
        /// Is UTF-8.
        case text(ByteBuffer)
        case binary(ByteBuffer)
        case ping(ByteBuffer)
        case pong
        /// The client wants to end; nil: it says no code.
        case close(WebSocketCode?)
    }

    enum Reading: Equatable {
        case message(Message)
        /// The next message is not whole yet.
        case incomplete
        /// The client broke the protocol: close with this code. Nothing more is read.
        case failed(WebSocketCode)
    }

    private enum State {
        case reading
        /// A message of several frames is under way.
        case fragmented(isText: Bool, ByteBuffer)
        /// It broke the protocol, or said that it ends.
        case over
    }

    private struct Header {
        var isFinal: Bool
        var opcode: UInt8
        var length: Int
        var mask: (UInt8, UInt8, UInt8, UInt8)
        var size: Int
    }

    private var state = State.reading
    private var pending = ByteBuffer()
    private let bound: Int

    /// - Parameter bound: of a message, in bytes.
    init(bound: Int) {
        self.bound = bound
    }

    mutating func feed(_ bytes: ByteBuffer) {
        if case .over = self.state { return }
        self.pending.writeImmutableBuffer(bytes)
    }

    /// The next message of what was fed.
    mutating func next() -> Reading {
        while true {
            switch self.frame() {
            case .some(let reading): return reading
            case nil: continue
            }
        }
    }

    /// Nil: a frame was read that ends no message.
    private mutating func frame() -> Reading? {
        if case .over = self.state { return .incomplete }
        let header: Header
        switch self.header() {
        case .success(let found?): header = found
        case .success(nil):
            self.pending.discardReadBytes()
            return .incomplete
        case .failure(let failure): return self.fail(failure.code)
        }
        guard self.pending.readableBytes >= header.size + header.length else {
            // What is still to come needs no room for what was read. Not after each frame: a read may hold thousands.
            self.pending.discardReadBytes()
            return .incomplete
        }
        self.pending.moveReaderIndex(forwardBy: header.size)
        guard var payload = self.pending.readSlice(length: header.length) else { return .incomplete }
        Self.unmask(&payload, header.mask)
        switch header.opcode {
        case 0x0: return self.fragment(payload, isFinal: header.isFinal)
        case 0x1, 0x2:
            let isText = header.opcode == 0x1
            guard header.isFinal else {
                self.state = .fragmented(isText: isText, payload)
                return nil
            }
            return self.whole(payload, isText: isText)
        case 0x8: return self.close(payload)
        case 0x9: return .message(.ping(payload))
        case 0xA: return .message(.pong)
        default: preconditionFailure("the header's opcode was checked")
        }
    }

    private struct Failure: Error {
        var code: WebSocketCode
    }

    private func header() -> Result<Header?, Failure> {
        let bytes = self.pending.readableBytesView
        guard bytes.count >= 2 else { return .success(nil) }
        let (first, second) = (bytes[bytes.startIndex], bytes[bytes.startIndex + 1])
        let broken = Result<Header?, Failure>.failure(Failure(code: .protocolError))
        // No extension was agreed on; what a client sends is masked.
        if first & 0x70 != 0 || second & 0x80 == 0 { return broken }
        var header = Header(isFinal: first & 0x80 != 0, opcode: first & 0x0F, length: Int(second & 0x7F), mask: (0, 0, 0, 0), size: 2)
        switch header.opcode {
        case 0x0:
            guard case .fragmented = self.state else { return broken }
        case 0x1, 0x2:
            guard case .reading = self.state else { return broken }
        case 0x8, 0x9, 0xA:
            if !header.isFinal || header.length > 125 { return broken }
        default: return broken
        }
        if header.length >= 126 {
            let size = header.length == 126 ? 2 : 8
            guard bytes.count >= 2 + size else { return .success(nil) }
            let length = bytes.dropFirst(2).prefix(size).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            // In as few bytes as it takes.
            if length < (size == 2 ? 126 : 65536) || length > UInt64(Int64.max) { return broken }
            header.length = Int(length)
            header.size += size
        }
        var before = 0
        if case .fragmented(_, let part) = self.state, header.opcode == 0x0 { before = part.readableBytes }
        if header.opcode < 0x8, header.length > self.bound - before { return .failure(Failure(code: .tooLarge)) }
        guard bytes.count >= header.size + 4 else { return .success(nil) }
        let mask = bytes.startIndex + header.size
        header.mask = (bytes[mask], bytes[mask + 1], bytes[mask + 2], bytes[mask + 3])
        header.size += 4
        return .success(header)
    }

    private static func unmask(_ payload: inout ByteBuffer, _ mask: (UInt8, UInt8, UInt8, UInt8)) {
        let mask = [mask.0, mask.1, mask.2, mask.3]
        payload.withUnsafeMutableReadableBytes { bytes in
            for index in bytes.indices { bytes[index] ^= mask[index & 3] }
        }
    }

    private mutating func fragment(_ payload: ByteBuffer, isFinal: Bool) -> Reading? {
        guard case .fragmented(let isText, var part) = self.state else { preconditionFailure("the header's opcode was checked") }
        self.state = .reading
        part.writeImmutableBuffer(payload)
        if isFinal { return self.whole(part, isText: isText) }
        self.state = .fragmented(isText: isText, part)
        return nil
    }

    private mutating func whole(_ payload: ByteBuffer, isText: Bool) -> Reading {
        if !isText { return .message(.binary(payload)) }
        return Self.isUTF8(payload) ? .message(.text(payload)) : self.fail(.notText)
    }

    private mutating func close(_ payload: ByteBuffer) -> Reading {
        var payload = payload
        if payload.readableBytes == 0 {
            self.end()
            return .message(.close(nil))
        }
        guard let code = payload.readInteger(as: UInt16.self), Self.mayBeSent(code) else { return self.fail(.protocolError) }
        guard Self.isUTF8(payload) else { return self.fail(.notText) }
        self.end()
        return .message(.close(WebSocketCode(rawValue: code)))
    }

    /// Those that stand for something that is not said in a frame may not be in one (RFC 6455, 7.4.1).
    private static func mayBeSent(_ code: UInt16) -> Bool {
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: true
        default: false
        }
    }

    private static func isUTF8(_ payload: ByteBuffer) -> Bool {
        payload.withUnsafeReadableBytes { String(validating: $0, as: UTF8.self) != nil }
    }

    private mutating func fail(_ code: WebSocketCode) -> Reading {
        self.end()
        return .failed(code)
    }

    private mutating func end() {
        self.state = .over
        self.pending = ByteBuffer()
    }
}
